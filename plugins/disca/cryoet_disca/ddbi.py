"""Distortion-based Davies-Bouldin index: the label-free score by which the best iteration is
chosen.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def ddbi(
    points: Tensor,
    labels: Tensor,
    k: int,
    reg: float = 1e-5,
    reduce: Callable[[Tensor], Tensor] = lambda tensor: tensor,
) -> float:
    """DDBI of points (n, d) in clusters ``labels`` (n,) of 0..k-1 or -1 for none; lower is better,
    inf for one cluster.

    With S_i the sample covariance of cluster i (plus ``reg`` on the diagonal, as a share of the
    mean variance of all points) and P_i its inverse: T_i is the mean of (x - mu_i)' P_i (x - mu_i),
    D_ij = (mu_j - mu_i)' P_i (mu_j - mu_i), and DDBI the mean over j of max_i (T_i + T_j) / (D_ij +
    D_ji). T_i is a trace, so nothing larger than d x d is formed; ``reduce`` sums over processes.
    """
    x, d = points.double(), points.shape[1]
    onehot = torch.nn.functional.one_hot(labels.clamp(min=0), k).double() * (labels >= 0)[:, None]
    count = reduce(onehot.sum(0))
    used = count > 1
    mean = reduce(onehot.T @ x) / count.clamp(min=1)[:, None]
    scatter = (
        reduce(torch.stack([(x * column[:, None]).T @ x for column in onehot.T]))
        - count[:, None, None] * mean[:, :, None] * mean[:, None]
    )
    if int(used.sum()) < 2:
        return float("inf")
    count, mean, scatter = count[used], mean[used], scatter[used]
    everything = scatter.diagonal(dim1=1, dim2=2).sum() / count.sum() / d
    ridge = reg * everything.clamp(min=1e-12) * torch.eye(d, dtype=x.dtype, device=x.device)
    precision = torch.linalg.inv(scatter / (count - 1)[:, None, None] + ridge)
    within = torch.einsum("kde,ked->k", precision, scatter) / count
    apart = mean[None] - mean[:, None]
    distance = torch.einsum("ijd,ide,ije->ij", apart, precision, apart)
    ratio = (within[:, None] + within[None]) / (distance + distance.T).clamp(min=1e-12)
    ratio.fill_diagonal_(-torch.inf)
    return float(ratio.amax(0).mean())
