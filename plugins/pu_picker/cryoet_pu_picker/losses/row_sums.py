"""Row-wise log-sum-exp of all similarities between anchors and keys, without the matrix.

Blocks of the matrix are computed, reduced and thrown away; the backward pass computes them again.
Memory is that of the anchors and keys and of one block.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS, COLUMNS = 256, 1024
"""Edges of a block: 1 MB in float32, which stays in a cache."""


def row_log_sums(
    anchors: Tensor, keys: Tensor, scale: float, left_out: Tensor | None = None
) -> Tensor:
    """(a,): log sum_k exp(scale * anchors_i . keys_k), over the keys that are not left out.

    anchors (a, f), keys (k, f). left_out (a, m) int64: for each anchor the columns that do not
    count, -1 for none. A row without any key is -inf.
    """
    if left_out is None:
        left_out = torch.zeros((len(anchors), 0), dtype=torch.int64, device=anchors.device)
    return _RowLogSums.apply(anchors, keys, float(scale), left_out)  # type: ignore[no-any-return, no-untyped-call]


class _RowLogSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchors: Tensor, keys: Tensor, scale: float, left_out: Tensor) -> Tensor:
        parts = []
        for rows in range(0, len(anchors), ROWS):
            block = slice(rows, rows + ROWS)
            sums = anchors.new_full((len(anchors[block]),), -torch.inf)
            for start in range(0, len(keys), COLUMNS):
                s = _similarities(anchors[block], keys, scale, left_out[block], start)
                sums = torch.logaddexp(sums, s.logsumexp(1))
            parts.append(sums)
        result = torch.cat(parts) if parts else anchors.new_zeros(0)
        ctx.scale = scale
        ctx.save_for_backward(anchors, keys, left_out, result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        anchors, keys, left_out, result = ctx.saved_tensors
        to_anchors, to_keys = torch.zeros_like(anchors), torch.zeros_like(keys)
        empty = result == -torch.inf
        grad = torch.where(empty, 0.0, grad) * ctx.scale
        level = torch.where(empty, 0.0, result)
        for rows in range(0, len(anchors), ROWS):
            block = slice(rows, rows + ROWS)
            for start in range(0, len(keys), COLUMNS):
                s = _similarities(anchors[block], keys, ctx.scale, left_out[block], start)
                share = s.sub_(level[block, None]).exp_().mul_(grad[block, None])
                to_anchors[block] += share @ keys[start : start + COLUMNS]
                to_keys[start : start + COLUMNS] += share.T @ anchors[block]
        return to_anchors, to_keys, None, None


def _similarities(
    anchors: Tensor, keys: Tensor, scale: float, left_out: Tensor, start: int
) -> Tensor:
    """A block (a, columns) of scaled similarities, -inf where a key is left out."""
    block = anchors @ keys[start : start + COLUMNS].T
    block *= scale
    for column in (left_out - start).unbind(1):
        inside = (column >= 0) & (column < block.shape[1])
        rows = inside.nonzero()[:, 0]
        block[rows, column[rows]] = -torch.inf
    return block
