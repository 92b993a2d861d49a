"""Mixtures: scikit-learn's numbers, better with every step, sound where clusters are thin, the same
in shards.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from torch import Tensor

from cryoet_core.algorithms.mixtures import em as gmm_em
from cryoet_core.algorithms.mixtures import gmm
from cryoet_core.algorithms.mixtures.em import Em, Models
from cryoet_core.algorithms.mixtures.gmm import Mixture, bic, fit_mixtures, plus_plus
from cryoet_core.algorithms.mixtures.starts import lloyd, merged, nearest, split

Reduce = Callable[[Tensor], Tensor]
Lockstep = Callable[[int, Callable[[int, Reduce], None]], None]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(k: int, d: int, each: int, apart: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points (k * each, d) of k Gaussians with covariances of their own, and which one each is
    from.
    """
    g = generator(seed)
    centres = torch.randn(k, d, generator=g, dtype=torch.float64) * apart
    shapes = torch.eye(d, dtype=torch.float64) + 0.3 * torch.randn(
        k, d, d, generator=g, dtype=torch.float64
    )
    labels = torch.arange(k).repeat_interleave(each)
    points = (shapes[labels] @ torch.randn(k * each, d, 1, generator=g, dtype=torch.float64))[
        ..., 0
    ]
    return points + centres[labels], labels


def as_sklearn(mixture: Mixture) -> GaussianMixture:
    """scikit-learn's object with exactly these parameters."""
    model = GaussianMixture(mixture.k, covariance_type="full")
    model.weights_, model.means_ = mixture.weights.numpy(), mixture.means.numpy()
    model.covariances_ = mixture.covariances.numpy()
    model.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(model.covariances_))
    return model


@pytest.mark.parametrize("d", [1, 3, 16])
def test_likelihood_bic_and_posterior_are_scikit_learns(d: int) -> None:
    x, _ = blobs(3, d, 120, 2.0)
    for mixture in fit_mixtures(x, [1, 2, 4], generator(), restarts=2, max_iter=15):
        theirs = as_sklearn(mixture)
        assert mixture.log_likelihood == pytest.approx(theirs.score(x.numpy()) * len(x), rel=1e-9)
        assert mixture.bic == pytest.approx(theirs.bic(x.numpy()), rel=1e-9)
        np.testing.assert_allclose(
            mixture.posterior(x).numpy(), theirs.predict_proba(x.numpy()), atol=1e-8
        )
        np.testing.assert_array_equal(mixture.predict(x).numpy(), theirs.predict(x.numpy()))
        assert float(mixture.weights.sum()) == pytest.approx(1)
        torch.testing.assert_close(
            mixture.posterior(x).sum(1), torch.ones(len(x), dtype=torch.float64)
        )


@pytest.mark.parametrize(("k", "parameters"), [(5, 764), (7, 1070), (10, 1529), (20, 3059)])
def test_bic_counts_the_parameters(k: int, parameters: int) -> None:
    assert bic(-3.0, k, 16, 1000) == pytest.approx(6 + parameters * math.log(1000))


def test_ends_where_scikit_learn_ends_from_the_same_start() -> None:
    x, labels = blobs(3, 4, 150, 1.5)
    start = torch.where(torch.rand(len(x), generator=generator()) < 0.2, (labels + 1) % 3, labels)
    onehot = np.eye(3)[start.numpy()]
    means = onehot.T @ x.numpy() / onehot.sum(0)[:, None]
    spread = np.stack([np.cov(x.numpy()[start.numpy() == i].T, bias=True) for i in range(3)])
    theirs = GaussianMixture(
        3, tol=1e-7, max_iter=500, reg_covar=0,
        weights_init=onehot.mean(0), means_init=means, precisions_init=np.linalg.inv(spread),
    ).fit(x.numpy())  # fmt: skip
    (mine,) = fit_mixtures(
        x, [3], generator(), restarts=1, warm_labels=start, tol=1e-7, max_iter=500, reg=1e-12
    )
    assert mine.converged
    assert mine.log_likelihood >= theirs.score(x.numpy()) * len(x) - 1e-2


def test_likelihood_never_falls() -> None:
    x, _ = blobs(4, 6, 80, 1.0)
    totals = [
        fit_mixtures(x, [4], generator(3), restarts=1, max_iter=i, tol=-math.inf, reg=1e-12)[
            0
        ].log_likelihood
        for i in range(1, 25)
    ]
    assert all(after >= before - 1e-7 * abs(before) for before, after in itertools.pairwise(totals))
    assert totals[-1] > totals[0] + 1


def test_finds_five_gaussians_and_their_number() -> None:
    x, labels = blobs(5, 16, 120, 4.0)
    mixtures = fit_mixtures(x, range(2, 9), generator())
    best = min(mixtures, key=lambda mixture: mixture.bic)
    assert best.k == 5
    assert best.converged
    assert adjusted_rand_score(labels, best.predict(x)) == 1.0
    torch.testing.assert_close(
        best.weights, torch.full((5,), 0.2, dtype=torch.float64), rtol=1e-6, atol=1e-6
    )


def test_candidates_come_back_in_their_order() -> None:
    x, _ = blobs(6, 3, 40, 1.2)
    together = fit_mixtures(x, [2, 6, 3], generator(2), restarts=3)
    assert [mixture.k for mixture in together] == [2, 6, 3]
    assert together[1].log_likelihood > together[2].log_likelihood > together[0].log_likelihood


def test_scaling_and_shifting_the_points_changes_nothing_else() -> None:
    x, _ = blobs(3, 5, 60, 2.0)
    (plain,) = fit_mixtures(x, [3], generator())
    (other,) = fit_mixtures(1e4 * x - 3e5, [3], generator())
    torch.testing.assert_close(other.means, 1e4 * plain.means - 3e5, rtol=1e-6, atol=1e-2)
    torch.testing.assert_close(other.covariances, 1e8 * plain.covariances, rtol=1e-6, atol=1.0)
    torch.testing.assert_close(
        other.posterior(1e4 * x - 3e5), plain.posterior(x), rtol=0, atol=1e-6
    )
    assert other.log_likelihood == pytest.approx(
        plain.log_likelihood - len(x) * 5 * math.log(1e4), rel=1e-8
    )


def test_warm_labels_are_one_more_start() -> None:
    x, labels = blobs(5, 2, 60, 1.0)
    kwargs = {"restarts": 1, "max_iter": 1, "tol": 0.0}
    (cold,) = fit_mixtures(x, [5], generator(), **kwargs)  # type: ignore[arg-type]
    (warm,) = fit_mixtures(x, [5], generator(), warm_labels=labels, **kwargs)  # type: ignore[arg-type]
    onehot = torch.nn.functional.one_hot(labels).double()
    assert warm.log_likelihood > cold.log_likelihood
    torch.testing.assert_close(warm.means, onehot.T @ x / onehot.sum(0)[:, None])
    # labels of another number of clusters start nothing
    (without,) = fit_mixtures(x, [4], generator(), restarts=2)
    (given,) = fit_mixtures(x, [4], generator(), restarts=2, warm_labels=labels)
    assert given.log_likelihood == without.log_likelihood
    (bigger,) = fit_mixtures(x, [3], generator(), restarts=2, warm_labels=torch.zeros_like(labels))
    assert bigger.k == 3


def test_warm_start_from_a_label_that_nothing_has() -> None:
    x, labels = blobs(3, 4, 30, 2.0)
    (mixture,) = fit_mixtures(
        x, [4], generator(), restarts=1, warm_labels=torch.where(labels == 2, 3, labels)
    )
    assert bool(torch.isfinite(mixture.posterior(x)).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_thin_empty_and_flat_clusters_give_numbers(dtype: torch.dtype) -> None:
    few, _ = blobs(3, 8, 4, 3.0)
    flat = few.clone()
    flat[:, 3:] = 0
    same = torch.ones(12, 8, dtype=torch.float64)
    twins = torch.cat([same, same + 1])
    for x in (few, flat, same, twins):
        for mixture in fit_mixtures(x.to(dtype), [1, 2, 5, len(x)], generator(), restarts=2):
            for tensor in (
                mixture.weights,
                mixture.means,
                mixture.covariances,
                mixture.posterior(x),
            ):
                assert bool(torch.isfinite(tensor).all())
            assert math.isfinite(mixture.bic)


def test_one_point_and_one_component() -> None:
    (mixture,) = fit_mixtures(torch.tensor([[2.0, 3.0]]), [1], generator())
    torch.testing.assert_close(mixture.means, torch.tensor([[2.0, 3.0]], dtype=torch.float64))
    assert mixture.predict(torch.tensor([[9.0, 9.0]])).tolist() == [0]


def test_impossible_requests_are_refused() -> None:
    x = torch.randn(5, 2, generator=generator())
    for candidates in ([], [0], [6], [2, 9]):
        with pytest.raises(ValueError, match="expected numbers from 1 to the 5 points"):
            fit_mixtures(x, candidates, generator())
    x[2, 1] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        fit_mixtures(x, [2], generator())


def test_single_precision_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = blobs(4, 16, 100, 3.0)
    (double,) = fit_mixtures(x, [4], generator())
    monkeypatch.setattr(gmm, "_precision", lambda *_: torch.float32)
    (single,) = fit_mixtures(x, [4], generator())
    assert adjusted_rand_score(labels, single.predict(x)) == 1.0
    assert single.log_likelihood == pytest.approx(double.log_likelihood, rel=1e-4)
    torch.testing.assert_close(single.means, double.means, rtol=1e-3, atol=1e-3)


def test_blocks_of_rows_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = blobs(3, 4, 50, 2.0)
    whole = fit_mixtures(x, [2, 3], generator())
    monkeypatch.setattr(gmm_em, "_BLOCK_BYTES", {"cpu": 4000})
    for a, b in zip(whole, fit_mixtures(x, [2, 3], generator()), strict=True):
        assert a.log_likelihood == pytest.approx(b.log_likelihood, rel=1e-10)
        torch.testing.assert_close(a.means, b.means)


def test_blocks_of_points_have_the_same_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = blobs(3, 4, 50, 1.0)
    (mixture,) = fit_mixtures(x, [3], generator())
    whole = mixture.log_joint(x), mixture.posterior(x), mixture.predict(x)
    monkeypatch.setattr(gmm, "_BLOCK_BYTES", 4000)
    for a, b in zip(
        whole, (mixture.log_joint(x), mixture.posterior(x), mixture.predict(x)), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_select_keeps_the_order_given() -> None:
    x, _ = blobs(4, 3, 50, 3.0)
    (mixture,) = fit_mixtures(x, [4], generator())
    chosen = mixture.select(torch.tensor([2, 0]))
    torch.testing.assert_close(chosen.means, mixture.means[[2, 0]])
    torch.testing.assert_close(
        chosen.weights, mixture.weights[[2, 0]] / mixture.weights[[2, 0]].sum()
    )
    order = torch.tensor([3, 1, 0, 2])
    torch.testing.assert_close(mixture.select(order).posterior(x), mixture.posterior(x)[:, order])


def test_starting_means_are_points_far_apart() -> None:
    x, labels = blobs(5, 16, 60, 6.0)
    for size, centres in zip((5, 2, 5), plus_plus(x, [5, 2, 5], generator()), strict=True):
        rows = (centres[:, None] == x[None]).all(2).nonzero()[:, 1]
        assert len(set(labels[rows].tolist())) == size


def test_best_of_several_draws_leaves_points_nearer() -> None:
    x, _ = blobs(8, 4, 40, 4.0)
    left = [
        sum(
            float(torch.cdist(x, centres).amin(1).square().sum())
            for centres in plus_plus(x, [8] * 20, generator(), n)
        )
        for n in (1, 4)
    ]
    assert left[1] < 0.8 * left[0]


def test_k_means_lowers_the_distances_to_the_nearest_means() -> None:
    x, _ = blobs(4, 3, 50, 2.0)
    starts = plus_plus(x, [4, 2], generator())
    labels = nearest(x.T, starts)
    for centres, label in zip(starts, labels, strict=True):
        torch.testing.assert_close(label, torch.cdist(x, centres).argmin(1))
    for before, after in zip(starts, lloyd(x, starts), strict=True):
        assert (
            torch.cdist(x, after).amin(1).square().sum()
            < torch.cdist(x, before).amin(1).square().sum()
        )
        means = [x[torch.cdist(x, after).argmin(1) == i].mean(0) for i in range(len(after))]
        torch.testing.assert_close(torch.stack(means), after)


def moments(model: Models) -> tuple[Tensor, Tensor]:
    mean = model.weights @ model.means
    second = model.covariances + model.means[:, :, None] * model.means[:, None, :]
    return mean, (model.weights[:, None, None] * second).sum(0)


def some_model(x: Tensor, labels: Tensor) -> Models:
    return Em(x, len(x), 1e-9).from_labels([labels], [int(labels.max()) + 1])


def test_splitting_and_merging_keep_weight_mean_and_covariance() -> None:
    x, labels = blobs(5, 3, 60, 3.0)
    model = some_model(x, labels)
    changed = [*split(model, 3), *merged(model, 4)]
    assert [other.sizes for other in changed] == [(6,)] * 3 + [(4,)] * 4
    for other in changed:
        assert float(other.weights.sum()) == pytest.approx(1)
        for before, after in zip(moments(model), moments(other), strict=True):
            torch.testing.assert_close(after, before)
        assert bool((torch.linalg.eigvalsh(other.covariances) > 0).all())


def test_merging_joins_the_halves_of_one_cluster_and_splitting_parts_two() -> None:
    x, labels = blobs(5, 3, 60, 8.0)
    right = some_model(x, labels)
    halved = labels.clone()
    halved[:30] = 5
    joined = next(merged(some_model(x, halved), 1))
    assert sorted(joined.weights.tolist()) == pytest.approx([0.2] * 5)
    parted = (
        Em(x, len(x), 1e-9).run(next(split(some_model(x, labels.clamp(max=3)), 1)), 50, 1e-9).models
    )
    order = torch.cdist(right.means, parted.means).argmin(1)
    torch.testing.assert_close(parted.means[order], right.means, rtol=0, atol=1e-3)


def test_a_race_lets_the_likeliest_of_each_size_go_on() -> None:
    x, labels = blobs(4, 3, 60, 1.0)
    em = Em(x, len(x), 1e-6)
    other = torch.randint(0, 4, (len(x),), generator=generator())
    pairs = torch.randint(0, 2, (len(x),), generator=generator(1))
    models = em.from_labels([other, labels, pairs], [4, 4, 2])
    free, raced = em.run(models, 40, 1e-6), em.run(models, 40, 1e-6, {2: 1})
    assert raced.iterations[0] == 2
    assert not raced.converged[0]
    assert free.iterations[0] > 2
    assert raced.iterations[1:] == free.iterations[1:]
    assert raced.likelihoods[1:] == pytest.approx(free.likelihoods[1:])
    assert raced.best(4) == [1]


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred points count as many: the starts run on a sample."""
    monkeypatch.setattr(gmm, "_FEW_POINTS", 100)
    monkeypatch.setattr(gmm, "_SEED_POINTS", 150)


@pytest.mark.usefixtures("many")
def test_search_on_a_sample_ends_on_all_points() -> None:
    x, labels = blobs(6, 4, 150, 6.0)
    mixtures = fit_mixtures(x, range(2, 9), generator(), restarts=1)
    again = fit_mixtures(x, range(2, 9), generator(), restarts=1)
    for mixture, same in zip(mixtures, again, strict=True):
        assert mixture.converged
        assert mixture.log_likelihood == same.log_likelihood
        # iterations in single precision, the likelihood of their end in double
        assert mixture.log_likelihood == pytest.approx(
            as_sklearn(mixture).score(x.numpy()) * len(x), rel=1e-8
        )
    best = min(mixtures, key=lambda mixture: mixture.bic)
    assert best.k == 6
    assert adjusted_rand_score(labels, best.predict(x)) == 1.0


@pytest.mark.parametrize("seed", range(4))
def test_neighbours_lead_out_of_poor_optima(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    x, _ = blobs(8, 4, 100, 4.0, seed=seed)
    ks = range(4, 11)
    thorough = fit_mixtures(x, ks, generator(), restarts=20)
    monkeypatch.setattr(gmm, "_FEW_POINTS", 100)
    monkeypatch.setattr(gmm, "_SEED_POINTS", 150)
    monkeypatch.setattr(gmm, "_SAMPLE_PER_PARAMETER", 1)
    found = fit_mixtures(x, ks, generator(seed), restarts=1)
    for one, other in zip(found, thorough, strict=True):
        assert one.bic <= other.bic + 0.01 * abs(other.bic), one.k


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("candidates", [[1], [3], [2, 6], [1, 2], [5, 3]])
def test_any_candidates_on_a_sample(candidates: list[int]) -> None:
    x, labels = blobs(3, 2, 150, 5.0)
    mixtures = fit_mixtures(x, candidates, generator(), restarts=2, warm_labels=labels)
    assert [mixture.k for mixture in mixtures] == candidates
    for mixture in mixtures:
        assert bool(torch.isfinite(mixture.posterior(x)).all())
        if mixture.k == 3:
            assert adjusted_rand_score(labels, mixture.predict(x)) == 1.0


@pytest.mark.usefixtures("many")
def test_points_all_alike_on_a_sample_give_numbers() -> None:
    for x in (torch.ones(500, 3), torch.cat([torch.ones(300, 3), torch.zeros(200, 3)])):
        for mixture in fit_mixtures(x, [1, 2, 4], generator(), restarts=2):
            assert math.isfinite(mixture.bic)
            assert bool(torch.isfinite(mixture.posterior(x)).all())


@pytest.mark.usefixtures("many")
def test_shards_give_the_mixture_of_the_whole_on_a_sample(lockstep: Lockstep) -> None:
    x, labels = blobs(4, 2, 120, 3.0)
    alone = fit_mixtures(x, [3, 4, 5], generator(), restarts=2, warm_labels=labels)
    cuts, found = [slice(0, 200), slice(200, 205), slice(205, 480)], {}

    def work(rank: int, reduce: Reduce) -> None:
        found[rank] = fit_mixtures(
            x[cuts[rank]],
            [3, 4, 5],
            generator(),
            restarts=2,
            warm_labels=labels[cuts[rank]],
            reduce=reduce,
            seed_points=x,
        )

    lockstep(3, work)
    for rank in range(3):
        for a, b in zip(alone, found[rank], strict=True):
            assert a.log_likelihood == pytest.approx(b.log_likelihood, rel=1e-6)
            torch.testing.assert_close(a.means, b.means, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("warm", [False, True])
def test_shards_give_the_mixture_of_the_whole(lockstep: Lockstep, warm: bool) -> None:
    # Sorted by cluster: no shard has seen every label.
    x, labels = blobs(4, 6, 60, 1.5)
    start = labels if warm else None
    alone = fit_mixtures(x, [2, 4], generator(), restarts=2, warm_labels=start)
    cuts, found = [slice(0, 100), slice(100, 190), slice(190, 240)], {}

    def work(rank: int, reduce: Reduce) -> None:
        mine = None if start is None else start[cuts[rank]]
        found[rank] = fit_mixtures(
            x[cuts[rank]],
            [2, 4],
            generator(),
            restarts=2,
            warm_labels=mine,
            reduce=reduce,
            seed_points=x,
        )

    lockstep(3, work)
    for rank in range(3):
        for a, b in zip(alone, found[rank], strict=True):
            assert a.log_likelihood == pytest.approx(b.log_likelihood, rel=1e-9)
            assert (a.n, a.iterations) == (b.n, b.iterations)
            torch.testing.assert_close(a.means, b.means)
