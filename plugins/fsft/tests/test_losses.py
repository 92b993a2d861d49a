"""Losses against plain float64 restatements, values and gradients, and the identities that they
must keep.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from cryoet_fsft.losses import (
    coral,
    covariance,
    domain_class_confusion,
    random_directions,
    sliced_wasserstein,
)
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def features(n: int, d: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def directions(d: int = 6, count: int = 9) -> Tensor:
    return random_directions(
        d, count, torch.Generator().manual_seed(3), torch.device("cpu"), torch.float64
    )


def plain_coral(source: np.ndarray, target: np.ndarray, squared: bool) -> float:
    """Eq. (5) as it is written, with the covariance of the CORAL paper, entry by entry."""

    def cov(x: np.ndarray) -> np.ndarray:
        n, ones = len(x), np.ones((1, len(x)))
        return (x.T @ x - (ones @ x).T @ (ones @ x) / n) / (n - 1)

    total = sum(float(v) ** 2 for v in (cov(source) - cov(target)).ravel())
    return (total if squared else total**0.5) / (4 * source.shape[1] ** 2)


def plain_sliced(source: np.ndarray, target: np.ndarray, axes: np.ndarray, power: float) -> float:
    total = 0.0
    for axis in axes.T:
        x, y = sorted(float(v @ axis) for v in source), sorted(float(v @ axis) for v in target)
        size = max(len(x), len(y))
        at = (np.arange(size) + 0.5) / size
        x, y = (np.interp(at, (np.arange(len(v)) + 0.5) / len(v), v) for v in (x, y))
        total += sum(abs(a - b) ** power for a, b in zip(x, y, strict=True)) / size
    return total / axes.shape[1]


def plain_confusion(same: np.ndarray, other: np.ndarray) -> float:
    def log_softmax(row: np.ndarray, label: int) -> float:
        return float(row[label] - np.log(sum(np.exp(v) for v in row)))

    first = sum(log_softmax(row, 0) for row in same) / len(same)
    return -first - sum(log_softmax(row, 2) for row in other) / len(other)


LOSSES: dict[str, tuple[Loss, Callable[[np.ndarray, np.ndarray], float]]] = {
    "coral squared": (coral, lambda x, y: plain_coral(x, y, True)),
    "coral norm": (lambda x, y: coral(x, y, squared=False), lambda x, y: plain_coral(x, y, False)),
    "sliced p 2": (
        lambda x, y: sliced_wasserstein(x, y, directions()),
        lambda x, y: plain_sliced(x, y, directions().numpy(), 2),
    ),
    "sliced p 1": (
        lambda x, y: sliced_wasserstein(x, y, directions(), 1.0),
        lambda x, y: plain_sliced(x, y, directions().numpy(), 1),
    ),
    "confusion": (
        lambda x, y: domain_class_confusion(x[:, :4], y[:, :4]),
        lambda x, y: plain_confusion(x[:, :4], y[:, :4]),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("sizes", [(7, 7), (5, 8)], ids=["equal", "unequal"])
def test_value_and_gradient_are_those_of_the_plain_formula(
    name: str, sizes: tuple[int, int]
) -> None:
    loss, plain = LOSSES[name]
    x, y = features(sizes[0], seed=1).requires_grad_(), features(sizes[1], seed=2).requires_grad_()
    value = loss(x, y)
    value.backward()
    one, other = x.detach().numpy(), y.detach().numpy()
    assert value.item() == pytest.approx(plain(one, other), rel=1e-10)
    for tensor, array in ((x, one), (y, other)):
        numeric, step = np.zeros_like(array), 1e-6
        for index in np.ndindex(array.shape):
            kept = array[index]
            array[index] = kept + step
            above = plain(one, other)
            array[index] = kept - step
            numeric[index] = (above - plain(one, other)) / (2 * step)
            array[index] = kept
        assert tensor.grad is not None
        np.testing.assert_allclose(tensor.grad.numpy(), numeric, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("squared", [True, False])
def test_coral_of_a_batch_with_itself_is_zero_with_zero_gradient(squared: bool) -> None:
    x = features(8).requires_grad_()
    loss = coral(x, x.detach().clone(), squared)
    loss.backward()
    assert loss.item() == 0
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize(("squared", "power"), [(True, 4), (False, 2)])
def test_coral_does_not_see_shifts_and_scales_as_it_must(squared: bool, power: int) -> None:
    x, y = features(8, seed=1), features(9, seed=2)
    value = coral(x, y, squared)
    assert coral(x + features(1, seed=5), y, squared).item() == pytest.approx(
        value.item(), rel=1e-10
    )
    assert coral(3 * x, 3 * y, squared).item() == pytest.approx(3**power * value.item(), rel=1e-10)


def test_covariance_is_the_unbiased_one_and_needs_two_rows() -> None:
    x = features(8)
    np.testing.assert_allclose(covariance(x).numpy(), np.cov(x.numpy().T), rtol=1e-12)
    with pytest.raises(ValueError, match="1 rows"):
        covariance(x[:1])


def test_sliced_distance_is_one_of_sets() -> None:
    x, y, axes = features(8, seed=1), features(8, seed=2), directions()
    turned = x[torch.randperm(8, generator=torch.Generator().manual_seed(0))]
    assert sliced_wasserstein(x, turned, axes).item() == pytest.approx(0, abs=1e-20)
    there, back = sliced_wasserstein(x, y, axes), sliced_wasserstein(y, x, axes)
    assert there.item() == pytest.approx(back.item(), rel=1e-12)
    assert sliced_wasserstein(turned, y, axes).item() == pytest.approx(there.item(), rel=1e-12)


def test_sliced_distance_in_one_dimension_is_that_of_the_sorted_numbers() -> None:
    x, y = torch.tensor([[3.0], [1.0], [2.0]]), torch.tensor([[0.0], [5.0], [4.0]])
    axes = torch.ones(1, 1)
    assert sliced_wasserstein(x, y, axes, 1.0).item() == pytest.approx((1 + 2 + 2) / 3)
    # twice the same set: the interpolated quantiles of three numbers at six places differ from them
    # a little only
    doubled = torch.cat((x, x))
    assert sliced_wasserstein(x, doubled, axes, 1.0).item() <= 0.25 + 1e-6


def test_directions_are_of_length_one_and_point_everywhere() -> None:
    drawn = random_directions(3, 4000, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert torch.allclose(drawn.norm(dim=0), torch.ones(4000), atol=1e-5)
    assert drawn.mean(1).abs().max() < 0.05
    assert torch.allclose(drawn.square().mean(1), torch.full((3,), 1 / 3), atol=0.02)


def test_confusion_of_a_discriminator_that_knows_nothing_is_twice_log_four() -> None:
    loss = domain_class_confusion(torch.zeros(5, 4), torch.full((3, 4), 2.0))
    assert loss.item() == pytest.approx(2 * np.log(4), rel=1e-6)


def test_confusion_falls_when_pairs_look_like_one_domain() -> None:
    """A minus between the terms, as printed, would make the second one rise."""
    certain = 10 * torch.eye(4)
    assert domain_class_confusion(certain[[0]], certain[[2]]).item() < 1e-3
    assert domain_class_confusion(certain[[1]], certain[[2]]).item() > 9
    assert domain_class_confusion(certain[[0]], certain[[3]]).item() > 9
