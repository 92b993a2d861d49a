"""Normalise batches and take the maximum over 2^3 voxels, in one step that needs less memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, max_pool3d

AXES = (0, 2, 3, 4)


def pooled_norm(x: Tensor, norm: nn.BatchNorm3d) -> Tensor:
    """Return ``max_pool3d(norm(x), 2)`` for x (n, c, d, h, w).

    Gradients and running statistics are the same, too.

    On a CPU in training only the maxima are normalised, an eighth of the voxels, and neither the
    normalised volume nor its gradient is held: half the memory of a block. There, without
    training, the maximum is taken first where every scale is positive. Elsewhere it is computed as
    written.
    """
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return max_pool3d(norm(x), 2)
    if not norm.training:
        known = (
            norm.running_mean is not None
        )  # else the statistics are those of the voxels of this batch
        return (
            norm(max_pool3d(x, 2))
            if known and bool((norm.weight >= 0).all())
            else max_pool3d(norm(x), 2)
        )
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    pooled: Tensor = _PooledNorm.apply(x, norm.weight, norm.bias, norm)  # type: ignore[no-untyped-call]
    return pooled


class _PooledNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm3d) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last_3d)
        # of this batch; the running ones are moved on the way
        mean, var = torch.batch_norm_update_stats(
            x, norm.running_mean, norm.running_var, norm.momentum or 0.1
        )
        scale = (var + norm.eps).rsqrt()
        sign = torch.where(weight < 0, -1.0, 1.0).to(
            x.dtype
        )  # where the weight is negative, the smallest voxel wins
        flipped = bool((weight < 0).any())
        largest, index = max_pool3d(x * _wide(sign) if flipped else x, 2, return_indices=True)
        unit = ((largest * _wide(sign) if flipped else largest) - _wide(mean)) * _wide(scale)
        ctx.save_for_backward(x, index, unit, weight, mean, scale)
        return torch.addcmul(_wide(bias), unit, _wide(weight))

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        x, index, unit, weight, mean, scale = ctx.saved_tensors
        count = x.numel() // x.shape[1]
        to_bias, to_weight = above.sum(AXES), (above * unit).sum(AXES)
        gain = weight * scale
        # gain (g - mean(g) - u mean(g u)), u the normalised volume; g is 0 but at the maxima
        slope = -gain * to_weight * scale / count
        found = _affine(x, slope, -gain * to_bias / count - slope * mean)
        rows = _rows(found)
        rows.scatter_add_(1, _rows(index), _rows(above * _wide(gain)))
        return found, to_weight, to_bias, None


def _affine(x: Tensor, slope: Tensor, shift: Tensor) -> Tensor:
    """slope x + shift of each channel, by the routine that does it at the speed of the memory."""
    return batch_norm(x, torch.zeros_like(slope), torch.ones_like(slope), slope, shift, eps=0.0)


def _wide(values: Tensor) -> Tensor:
    """Values (c,) beside volumes (n, c, d, h, w)."""
    return values[None, :, None, None, None]


def _rows(x: Tensor) -> Tensor:
    """Volumes as (n, d h w, c), a view where the channels lie last in memory."""
    last = x.contiguous(memory_format=torch.channels_last_3d).permute(0, 2, 3, 4, 1)
    return last.reshape(len(x), -1, x.shape[1])
