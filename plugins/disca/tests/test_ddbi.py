"""The score that chooses the best round, against a plain restatement and in its limits."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from cryoet_disca.ddbi import ddbi
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]


def clusters(k: int, d: int, apart: float, each: int = 40) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(5)
    labels = torch.arange(k).repeat_interleave(torch.arange(each, each + k))
    centres = apart * torch.randn(k, d, generator=g, dtype=torch.float64)
    return torch.randn(len(labels), d, generator=g, dtype=torch.float64) + centres[labels], labels


def restated(x: np.ndarray, labels: np.ndarray, reg: float = 0.0) -> float:
    """Point by point, with the sample covariance of numpy."""
    d, parts = x.shape[1], [x[labels == i] for i in np.unique(labels)]
    within_all = sum(((p - p.mean(0)) ** 2).sum() for p in parts) / len(x) / d
    means = [p.mean(0) for p in parts]
    inverse = [np.linalg.inv(np.cov(p.T) + reg * within_all * np.eye(d)) for p in parts]
    spread = [
        np.mean([(a - m) @ q @ (a - m) for a in p])
        for p, m, q in zip(parts, means, inverse, strict=True)
    ]
    k = len(parts)

    def ratio(i: int, j: int) -> float:
        step = means[j] - means[i]
        return float(
            (spread[i] + spread[j]) / (step @ inverse[i] @ step + step @ inverse[j] @ step)
        )

    if reg == 0:
        for p, t in zip(parts, spread, strict=True):
            assert t == pytest.approx(d * (len(p) - 1) / len(p))
    return float(np.mean([max(ratio(i, j) for i in range(k) if i != j) for j in range(k)]))


@pytest.mark.parametrize(("k", "d"), [(2, 3), (5, 16)])
@pytest.mark.parametrize("reg", [0.0, 1e-5, 0.1])
def test_is_the_formula(k: int, d: int, reg: float) -> None:
    x, labels = clusters(k, d, 2.0)
    assert ddbi(x, labels, k, reg) == pytest.approx(
        restated(x.numpy(), labels.numpy(), reg), rel=1e-9
    )


def test_affine_maps_of_the_points_change_nothing() -> None:
    x, labels = clusters(4, 6, 2.0)
    g = torch.Generator().manual_seed(1)
    turned = x @ torch.randn(6, 6, generator=g, dtype=torch.float64) + 7
    assert ddbi(turned, labels, 4, 0.0) == pytest.approx(ddbi(x, labels, 4, 0.0), rel=1e-8)


def test_the_scale_of_the_points_changes_nothing_with_regularisation_either() -> None:
    x, labels = clusters(3, 6, 2.0)
    assert ddbi(1e-3 * x, labels, 3, 1e-2) == pytest.approx(ddbi(x, labels, 3, 1e-2), rel=1e-8)


def test_falls_when_clusters_part() -> None:
    scores = [ddbi(*clusters(4, 8, apart), 4) for apart in (0.5, 1.0, 2.0, 4.0)]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < 0.1 * scores[0]


def test_fewer_than_two_clusters_have_no_score() -> None:
    x, labels = clusters(2, 3, 2.0)
    assert ddbi(x, torch.zeros_like(labels), 1) == math.inf
    assert ddbi(x, torch.zeros_like(labels), 4) == math.inf
    assert (
        ddbi(x, torch.where(torch.arange(len(x)) == 0, 1, 0), 2) == math.inf
    )  # one of a single point


def test_thin_empty_and_unlabelled() -> None:
    x, labels = clusters(3, 16, 2.0)
    thin = torch.where((labels == 2) & (torch.arange(len(x)) > 85), -1, labels)
    assert math.isfinite(ddbi(x, thin, 3))
    assert ddbi(x, labels, 7) == pytest.approx(ddbi(x, labels, 3))
    kept = labels != 2
    assert ddbi(x, torch.where(kept, labels, -1), 3, 0.0) == pytest.approx(
        ddbi(x[kept], labels[kept], 2, 0.0)
    )
    assert math.isfinite(ddbi(torch.ones(20, 4), torch.arange(20) % 2, 2))


def test_shards_give_the_score_of_the_whole(lockstep: Callable[..., None]) -> None:
    x, labels = clusters(3, 5, 2.0)
    found = {}

    def work(rank: int, reduce: Reduce) -> None:
        found[rank] = ddbi(x[rank::2], labels[rank::2], 3, reduce=reduce)

    lockstep(2, work)
    assert found[0] == found[1] == pytest.approx(ddbi(x, labels, 3))
