"""The losses, in float32 or better whatever the precision of the network.

InfoNCE: van den Oord et al. (2018), with a queue He et al. (MoCo, 2020). NT-Xent: Chen et al.
(SimCLR, 2020). Swapped prediction and codes: Caron et al. (SwAV, 2020). All take unit vectors;
``unit`` makes them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, normalize


def unit(vectors: Tensor) -> Tensor:
    """Rows (n, f) of length 1, float32 at least."""
    return normalize(vectors.float() if vectors.dtype != torch.float64 else vectors, dim=1)


def similarities(one: Tensor, other: Tensor) -> Tensor:
    """Products (n, k) of rows (n, f) and (k, f), in their own precision also where autocast would
    lower it.
    """
    with torch.autocast(one.device.type, enabled=False):
        return one @ other.T


def info_nce_logits(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """(n, 1 + k) similarities over the temperature: the own key in column 0, then the queue
    (k, f).
    """
    own = (queries * keys).sum(1, keepdim=True)
    return torch.cat([own, similarities(queries, queue)], 1) / temperature


def info_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """-log of the own key's share among own key and queue, mean over rows; all (n, f) or (k, f),
    unit vectors.
    """
    logits = info_nce_logits(queries, keys, queue, temperature)
    return cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Each of 2n views against all others, its partner the right answer; the mean. Views (n, f),
    unit vectors.
    """
    logits, partner = nt_xent_logits(first, second, temperature)
    return cross_entropy(logits, partner)


def nt_xent_logits(first: Tensor, second: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(2n, 2n) similarities over the temperature, -inf for a view and itself, and each view's
    partner (2n,).
    """
    views = torch.cat([first, second])
    logits = (similarities(views, views) / temperature).fill_diagonal_(float("-inf"))
    return logits, torch.arange(len(views), device=views.device).roll(len(first))


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Codes (n, k) from scores (n, k): rows sum to 1, columns to about n / k; no gradient.

    Sinkhorn-Knopp on exp(scores / epsilon), in logarithms, where nothing overflows.
    """
    log = scores.detach().to(torch.promote_types(scores.dtype, torch.float32)) / epsilon
    for _ in range(iterations):
        log = log - log.logsumexp(0, keepdim=True)
        log = log - log.logsumexp(1, keepdim=True)
    return log.exp()


def swapped_prediction(
    first: Tensor, second: Tensor, codes1: Tensor, codes2: Tensor, temperature: float
) -> Tensor:
    """Each view's scores (n, k) predict the other's codes (n, k): the mean of both
    cross-entropies.
    """
    one = -(codes2 * log_softmax(first / temperature, 1)).sum(1).mean()
    two = -(codes1 * log_softmax(second / temperature, 1)).sum(1).mean()
    return (one + two) / 2
