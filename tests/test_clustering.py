"""From blocks of features to scaled, projected points, and the choice of the number of clusters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from cryoet_core.algorithms.mixtures.selection import (
    Projection,
    Scaling,
    candidates,
    choose,
    search,
    selection,
)
from cryoet_core.support.errors import UserError

Reduce = Callable[[Tensor], Tensor]
Lockstep = Callable[[int, Callable[[int, Reduce], None]], None]


def features(n: int = 80, f: int = 12) -> Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, f, generator=g) @ torch.randn(f, f, generator=g) + 5 * torch.randn(
        f, generator=g
    )


def test_projection_is_principal_components_at_one_scale() -> None:
    x = features()
    projection = Projection.fit(x, 4)
    points = projection(x)
    theirs = torch.from_numpy(PCA(4, svd_solver="full").fit_transform(x.numpy()))
    sign = (points * theirs).sum(0).sign()
    scale = theirs.square().mean().sqrt()
    torch.testing.assert_close(points * sign, theirs / scale, rtol=1e-3, atol=1e-3)
    assert float(points.square().mean()) == pytest.approx(1, rel=1e-4)


def test_projection_is_the_same_however_the_features_are_scaled_or_ordered() -> None:
    x = features()
    points = Projection.fit(x, 4)(x)
    torch.testing.assert_close(Projection.fit(1e3 * x, 4)(1e3 * x), points, rtol=1e-3, atol=1e-3)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(Projection.fit(x[order], 4)(x), points, rtol=1e-3, atol=1e-3)


def test_projection_of_few_or_constant_features() -> None:
    x = features(f=3)
    assert Projection.fit(x, 16)(x).shape == (80, 3)
    flat = torch.ones(5, 6)
    assert torch.equal(Projection.fit(flat, 2)(flat), torch.zeros(5, 2))
    assert bool(torch.isfinite(Projection.fit(x[:1], 2)(x)).all())


def test_scaling_gives_each_block_the_same_weight() -> None:
    blocks = [100 * features(f=10), 1e-3 * features(f=2) + 7]
    scaled = Scaling.fit(blocks)(blocks)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(12), rtol=0, atol=1e-4)
    variance = scaled.var(0, correction=0)
    torch.testing.assert_close(variance[:10], torch.full((10,), 0.1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(variance[10:], torch.full((2,), 0.5), rtol=1e-2, atol=1e-3)


def test_a_feature_that_does_not_vary_is_left_out() -> None:
    x = torch.cat([features(f=2), torch.full((80, 1), 3.0)], 1)
    scaled = Scaling.fit([x])([x])
    assert not scaled[:, 2].any()
    assert bool(torch.isfinite(scaled).all())


def test_shards_give_the_scaling_and_projection_of_the_whole(lockstep: Lockstep) -> None:
    x = features()
    scaling = Scaling.fit([x[:, :5], x[:, 5:]])
    projection = Projection.fit(x, 4)
    found = {}

    def work(rank: int, reduce: Reduce) -> None:
        mine = x[rank::3]
        found[rank] = (
            Scaling.fit([mine[:, :5], mine[:, 5:]], reduce),
            Projection.fit(mine, 4, reduce),
        )

    lockstep(3, work)
    for rank in range(3):
        torch.testing.assert_close(found[rank][0].scale, scaling.scale)
        torch.testing.assert_close(found[rank][0].mean, scaling.mean)
        torch.testing.assert_close(found[rank][1](x), projection(x), rtol=1e-4, atol=1e-4)


def test_candidates_are_checked_against_the_data() -> None:
    assert candidates(2, 5, 5) == [2, 3, 4, 5]
    assert candidates(3, 3, 100) == [3]
    with pytest.raises(UserError, match="`k_min` 4: larger than `k_max` 3"):
        candidates(4, 3, 100)
    with pytest.raises(UserError, match="`k_max` 15: the data set has only 14 volumes"):
        candidates(2, 15, 14)


def test_search_chooses_the_true_number() -> None:
    g = torch.Generator().manual_seed(2)
    centres = 6 * torch.randn(4, 3, generator=g)
    points = centres.repeat_interleave(40, 0) + torch.randn(160, 3, generator=g)
    mixtures = search(points, [2, 3, 4, 5, 6], torch.Generator().manual_seed(0), restarts=3)
    assert list(mixtures) == [2, 3, 4, 5, 6]
    assert choose(mixtures) == 4
    facts = selection(mixtures, 4)
    assert facts["k"] == [2, 3, 4, 5, 6]
    assert facts["chosen"] == 4
    assert facts["bic"] == [mixture.bic for mixture in mixtures.values()]
