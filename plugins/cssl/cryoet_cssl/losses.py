"""Compute the losses, in float32 or better whatever the precision of the network.

InfoNCE: van den Oord et al. (2018), arXiv:1807.03748; with a queue MoCo, He et al. (2020),
arXiv:1911.05722. NT-Xent: SimCLR, Chen et al. (2020), arXiv:2002.05709. Swapped prediction and
codes: SwAV, Caron et al. (2020), arXiv:2006.09882. All take unit vectors, which ``unit`` makes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, normalize


def unit(vectors: Tensor) -> Tensor:
    """Scale rows (n, f) to length 1, in float32 at least."""
    return normalize(vectors.float() if vectors.dtype != torch.float64 else vectors, dim=1)


def similarities(one: Tensor, other: Tensor) -> Tensor:
    """Multiply rows (n, f) with rows (k, f): (n, k), in their own precision under autocast too."""
    with torch.autocast(one.device.type, enabled=False):
        return one @ other.T


def info_nce_logits(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Compare each query with its own key, in column 0, and with the queue.

    Parameters
    ----------
    queries : Tensor
        Unit vectors (n, f).
    keys : Tensor
        Their keys (n, f), unit vectors.
    queue : Tensor
        Keys of earlier batches (k, f), unit vectors.
    temperature : float
        Divisor of the similarities.

    Returns
    -------
    Tensor
        Similarities over the temperature (n, 1 + k).
    """
    own = (queries * keys).sum(1, keepdim=True)
    return torch.cat([own, similarities(queries, queue)], 1) / temperature


def info_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Compute the InfoNCE loss: minus the log probability of the own key among own key and queue.

    Parameters
    ----------
    queries : Tensor
        Unit vectors (n, f).
    keys : Tensor
        Their keys (n, f), unit vectors.
    queue : Tensor
        Keys of earlier batches (k, f), unit vectors.
    temperature : float
        Divisor of the similarities.

    Returns
    -------
    Tensor
        Mean over the queries, a scalar.
    """
    logits = info_nce_logits(queries, keys, queue, temperature)
    return cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Compute the NT-Xent loss: each of 2n views has to find its partner among all others.

    Parameters
    ----------
    first : Tensor
        First views (n, f), unit vectors.
    second : Tensor
        Second views (n, f) of the same subtomograms, unit vectors.
    temperature : float
        Divisor of the similarities.

    Returns
    -------
    Tensor
        Mean over the views, a scalar.
    """
    logits, partner = nt_xent_logits(first, second, temperature)
    return cross_entropy(logits, partner)


def nt_xent_logits(first: Tensor, second: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Compare each of 2n views with all views, and name its partner.

    Parameters
    ----------
    first : Tensor
        First views (n, f), unit vectors.
    second : Tensor
        Second views (n, f) of the same subtomograms, unit vectors.
    temperature : float
        Divisor of the similarities.

    Returns
    -------
    tuple[Tensor, Tensor]
        Similarities over the temperature (2n, 2n), -inf between a view and itself; partners (2n,).
    """
    views = torch.cat([first, second])
    logits = (similarities(views, views) / temperature).fill_diagonal_(float("-inf"))
    return logits, torch.arange(len(views), device=views.device).roll(len(first))


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Balance scores (n, k) to codes (n, k): rows sum to 1, columns to about n / k.

    Sinkhorn-Knopp on exp(scores / epsilon), in logarithms, where nothing overflows. There is no
    gradient.

    Parameters
    ----------
    scores : Tensor
        Scores of n vectors for k prototypes.
    epsilon : float, optional
        Smoothness of the codes.
    iterations : int, optional
        Rounds of balancing.

    Returns
    -------
    Tensor
        Codes (n, k), float32 at least.
    """
    log = scores.detach().to(torch.promote_types(scores.dtype, torch.float32)) / epsilon
    for _ in range(iterations):
        log = log - log.logsumexp(0, keepdim=True)
        log = log - log.logsumexp(1, keepdim=True)
    return log.exp()


def swapped_prediction(
    first: Tensor, second: Tensor, codes1: Tensor, codes2: Tensor, temperature: float
) -> Tensor:
    """Compute the SwAV loss: the scores of each view predict the code of the other.

    Parameters
    ----------
    first : Tensor
        Scores (n, k) of the first views.
    second : Tensor
        Scores (n, k) of the second views.
    codes1 : Tensor
        Codes (n, k) of the first views.
    codes2 : Tensor
        Codes (n, k) of the second views.
    temperature : float
        Divisor of the scores.

    Returns
    -------
    Tensor
        Mean of both cross-entropies, a scalar.
    """
    one = -(codes2 * log_softmax(first / temperature, 1)).sum(1).mean()
    two = -(codes1 * log_softmax(second / temperature, 1)).sum(1).mean()
    return (one + two) / 2
