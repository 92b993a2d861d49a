"""The contrastive terms: exact, debiased, sound at low temperatures, and small in memory."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from cryoet_pu_picker.losses import row_sums
from cryoet_pu_picker.losses.debias import log_negatives
from cryoet_pu_picker.losses.row_sums import row_log_sums
from cryoet_pu_picker.losses.supervised import supervised_contrast
from cryoet_pu_picker.losses.unsupervised import unsupervised_contrast
from torch import Tensor
from torch.nn.functional import normalize

T = 0.2


def vectors(n: int, seed: int = 0, dim: int = 6, like: float = 0.0) -> Tensor:
    """(n, dim) unit vectors; ``like``: how alike they are."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(1, dim, generator=generator, dtype=torch.float64)
    return normalize(
        torch.randn(n, dim, generator=generator, dtype=torch.float64) + like * common, dim=1
    )


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that cut every matrix of these tests in several, unevenly."""
    monkeypatch.setattr(row_sums, "ROWS", 5)
    monkeypatch.setattr(row_sums, "COLUMNS", 7)


# ---- plain restatements, with the whole matrix ---------------------------------------------------


def dense_sums(anchors: Tensor, keys: Tensor, scale: float, left_out: Tensor) -> Tensor:
    matrix = (scale * anchors @ keys.T).exp()
    keep = torch.ones_like(matrix)
    for row, columns in enumerate(left_out.tolist()):
        keep[row, [c for c in columns if c >= 0]] = 0
    return (matrix * keep).sum(1).log()


def dense_negatives(mixed: Tensor, same: Tensor, own: float, t: float) -> Tensor:
    return ((mixed - own * same) / (1 - own)).clamp(min=math.exp(-1 / t))


def dense_supervised(features: Tensor, positive: Tensor, prior: float, t: float) -> Tensor:
    e = (features @ features.T / t).exp()
    total = []
    for i in positive.nonzero()[:, 0].tolist():
        same = [j for j in positive.nonzero()[:, 0].tolist() if j != i]
        p, u = e[i, same].mean(), e[i, ~positive].mean()
        total.append(-(p / (p + dense_negatives(u, p, prior, t))).log())
    return torch.stack(total).mean()


def dense_unsupervised(
    features: Tensor, anchors: Tensor, y: Tensor, prior: float, t: float
) -> Tensor:
    e = (features @ features.T / t).exp()
    n, total = len(features), []
    for k, weight in zip(anchors.tolist(), y.tolist(), strict=True):
        partner = (k + n // 2) % n
        rest = [j for j in range(n) if j not in (k, partner)]
        m, pair = e[k, rest].mean(), e[k, partner]
        as_p = -(pair / (pair + dense_negatives(m, pair, prior, t))).log()
        as_n = -(pair / (pair + dense_negatives(m, pair, 1 - prior, t))).log()
        total.append(weight * as_p + (1 - weight) * as_n)
    return torch.stack(total).mean()


def same_with_gradients(found: Tensor, expected: Tensor, leaf: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    weights = torch.linspace(0.5, 1.5, found.numel(), dtype=found.dtype).reshape(found.shape)
    grads = [
        torch.autograd.grad((value * weights).sum(), leaf, retain_graph=True)[0]
        for value in (found, expected)
    ]
    torch.testing.assert_close(*grads, rtol=1e-8, atol=1e-11)


# ---- exactness -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_blocks")
def test_row_sums_in_blocks_are_those_of_the_matrix() -> None:
    leaf = vectors(37).requires_grad_()
    anchors, keys = leaf[:13], leaf[4:]
    left_out = torch.tensor([[i, (7 * i) % 33 if i % 3 else -1] for i in range(13)])
    same_with_gradients(
        row_log_sums(anchors, keys, 1 / T, left_out),
        dense_sums(anchors, keys, 1 / T, left_out),
        leaf,
    )
    everything = torch.zeros((13, 0), dtype=torch.long)
    same_with_gradients(
        row_log_sums(anchors, keys, 1 / T), dense_sums(anchors, keys, 1 / T, everything), leaf
    )


def test_a_row_without_keys_is_nothing_and_has_no_gradient() -> None:
    leaf = vectors(3).requires_grad_()
    sums = row_log_sums(leaf, leaf[:1], 5.0, torch.tensor([[0], [-1], [0]]))
    assert sums.tolist()[0] == sums.tolist()[2] == -math.inf
    (gradient,) = torch.autograd.grad(sums[1], leaf)
    assert bool(gradient.isfinite().all())
    assert row_log_sums(leaf[:0], leaf, 5.0).shape == (0,)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("like", [0.0, 2.0])
@pytest.mark.parametrize("prior", [1e-3, 0.1, 0.6])
def test_contrast_in_blocks_is_the_dense_one(prior: float, like: float) -> None:
    leaf = vectors(26, like=like).requires_grad_()
    positive = torch.zeros(26, dtype=torch.bool)
    positive[[1, 5, 14, 18]] = True
    found = supervised_contrast(leaf, positive, ~positive, prior, T)
    same_with_gradients(found, dense_supervised(leaf, positive, prior, T), leaf)
    anchors = (~positive).nonzero()[:, 0][::2]
    y = torch.rand(len(anchors), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = unsupervised_contrast(leaf, anchors, y, prior, T)
    same_with_gradients(found, dense_unsupervised(leaf, anchors, y, prior, T), leaf)


def test_the_undebiased_terms_are_those_of_the_literature() -> None:
    features = vectors(20)
    positive = torch.zeros(20, dtype=torch.bool)
    positive[[2, 3, 12]] = True
    s, rows = features @ features.T / T, [2, 3, 12]
    total = 0.0
    for i in rows:
        others = [j for j in range(20) if j != i]
        logs = [s[i, j] - s[i, others].logsumexp(0) for j in rows if j != i]
        total -= float(sum(logs)) / len(logs)
    assert float(
        supervised_contrast(features, positive, ~positive, 0.1, T, debiased=False)
    ) == pytest.approx(total / 3)
    expected = [
        s[k, [j for j in range(20) if j != k]].logsumexp(0) - s[k, (k + 10) % 20] for k in range(20)
    ]
    found = unsupervised_contrast(
        features, torch.arange(20), torch.zeros(20), 0.1, T, debiased=False
    )
    assert float(found) == pytest.approx(float(torch.stack(expected).mean()))


def test_what_is_neither_positive_nor_other_does_not_count() -> None:
    leaf = vectors(26).requires_grad_()
    positive = torch.zeros(26, dtype=torch.bool)
    positive[[1, 5, 14, 18]] = True
    near = torch.zeros(26, dtype=torch.bool)
    near[[0, 2, 13, 15]] = True
    found = supervised_contrast(leaf, positive, ~positive & ~near, 0.1, T)
    same_with_gradients(found, dense_supervised(leaf[~near], positive[~near], 0.1, T), leaf)


# ---- what debiasing means ------------------------------------------------------------------------


def test_with_a_prior_of_zero_negatives_are_averaged() -> None:
    """g is the mean similarity; times the number of negatives it gives InfoNCE."""
    features = vectors(12)
    anchors = torch.arange(12)
    rest = row_log_sums(features, features, 1 / T, torch.stack((anchors, (anchors + 6) % 12), 1))
    pair = (features * features.roll(6, 0)).sum(1) / T
    log_g = log_negatives(rest - math.log(10), pair, 0.0, T)
    torch.testing.assert_close(log_g, rest - math.log(10))
    infonce = torch.logaddexp(pair, log_g + math.log(10)) - pair
    found = unsupervised_contrast(features, anchors, torch.ones(12), 0.1, T, debiased=False)
    torch.testing.assert_close(infonce.mean(), found)


def test_with_all_negatives_opposite_the_floor_is_reached() -> None:
    opposite = torch.tensor([[1.0, 0.0]] * 4 + [[-1.0, 0.0]] * 6, dtype=torch.float64)
    positive = torch.arange(10) < 4
    found = supervised_contrast(opposite, positive, ~positive, 0.1, T)
    assert float(found) == pytest.approx(math.log1p(math.exp(-2 / T)), rel=1e-12)
    mixed, same = torch.tensor([-1 / T, -1 / T - 1.0]), torch.tensor([1 / T, 1 / T])
    assert log_negatives(mixed, same, 0.1, T).tolist() == pytest.approx([-1 / T] * 2)


@pytest.mark.parametrize("t", [0.02, 0.07])
@pytest.mark.parametrize("prior", [1e-3, 0.6, 1 - 1e-3])
def test_low_temperatures_in_single_precision(t: float, prior: float) -> None:
    """exp(-2 / 0.02) is not a normal float32: everything stays finite and equals double
    precision.
    """
    for like in (0.0, 1.0, 50.0):
        double = vectors(24, like=like).requires_grad_()
        single = double.detach().float().requires_grad_()
        losses = []
        for leaf in (double, single):
            positive = torch.arange(24) % 6 == 0
            y = torch.linspace(0, 1, 10, dtype=leaf.dtype)
            loss = supervised_contrast(leaf, positive, ~positive, prior, t)
            loss = loss + unsupervised_contrast(leaf, torch.arange(1, 11), y, prior, t)
            loss.backward()
            losses.append(float(loss.detach()))
        assert math.isfinite(losses[1])
        assert bool(single.grad.isfinite().all())
        if like < 50:  # beyond that float32 cannot tell the vectors apart
            assert losses[1] == pytest.approx(losses[0], rel=2e-3, abs=1e-5)


def test_identical_vectors_have_finite_gradients() -> None:
    same = torch.ones(8, 4).requires_grad_()
    features = normalize(same, dim=1)
    loss = supervised_contrast(features, torch.arange(8) < 4, torch.arange(8) >= 4, 0.3, 0.02)
    loss = loss + unsupervised_contrast(features, torch.arange(8), torch.full((8,), 0.5), 0.3, 0.02)
    loss.backward()
    assert bool(same.grad.isfinite().all())


def test_terms_that_nothing_is_known_of_are_zero() -> None:
    features = vectors(8).requires_grad_()
    for positive in (
        torch.zeros(8, dtype=torch.bool),
        torch.arange(8) == 3,
        torch.ones(8, dtype=torch.bool),
    ):
        loss = supervised_contrast(features, positive, ~positive, 0.1, T)
        assert float(loss.detach()) == 0
        loss.backward()
    none = torch.zeros(0, dtype=torch.long)
    assert unsupervised_contrast(features, none, torch.zeros(0), 0.1, T).item() == 0


def test_no_gradient_flows_into_the_weights() -> None:
    y = torch.full((4,), 0.5, requires_grad=True)
    unsupervised_contrast(
        vectors(8).float().requires_grad_(), torch.arange(4), y, 0.1, T
    ).backward()
    assert y.grad is None


MEMORY = """
import resource, torch
from torch.nn.functional import normalize
from cryoet_pu_picker.losses.supervised import supervised_contrast
from cryoet_pu_picker.losses.unsupervised import unsupervised_contrast
torch.set_num_threads(1)
def step(n, anchors):
    features = normalize(torch.randn(2 * n, 32), dim=1).requires_grad_()
    positive = torch.arange(2 * n) % n < 8
    loss = supervised_contrast(features, positive, ~positive, 0.1, 0.07)
    chosen = (~positive).nonzero()[:, 0][:anchors]
    loss = loss + unsupervised_contrast(features, chosen, torch.full((len(chosen),), 0.1), 0.1, 0.07)
    loss.backward()
step(100, 100)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step(2 * 5 * 32 * 32, ANCHORS)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_a_crop_pair_of_the_paper_takes_little_memory() -> None:
    """Two crops of 64 x 64 x 5 in both views are 20480 vectors; the dense form needs five matrices
    of 1.6 GB. What is held does not depend on how many blocks there are, so a part of the anchors
    is measured."""
    code = MEMORY.replace("ANCHORS", "500")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert float(done.stdout) < 100  # MB
