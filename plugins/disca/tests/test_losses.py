"""Smoothed labels and the two losses, against plain restatements in double precision."""

from __future__ import annotations

import math

import pytest
import torch
from cryoet_disca.losses import LOSSES, cross_entropy, hinge, smooth

LABELS = torch.tensor([0, 2, 1, 1, 3])


@pytest.mark.parametrize("alpha", [0.0, 0.18, 0.9])
def test_smoothed_rows(alpha: float) -> None:
    rows = smooth(LABELS, 4, alpha)
    torch.testing.assert_close(rows.sum(1), torch.ones(5))
    torch.testing.assert_close(rows.amax(1), torch.full((5,), 1 - alpha + alpha / 4))
    torch.testing.assert_close(rows.argmax(1), LABELS)
    torch.testing.assert_close(rows.amin(1), torch.full((5,), alpha / 4))


def test_without_smoothing_rows_are_one_hot() -> None:
    assert torch.equal(smooth(LABELS, 4, 0.0), torch.eye(4)[LABELS])
    assert torch.equal(smooth(torch.zeros(3, dtype=torch.long), 1, 0.5), torch.ones(3, 1))


def restated(name: str, logits: list[list[float]], targets: list[list[float]]) -> float:
    total = 0.0
    for z, y in zip(logits, targets, strict=True):
        norm = sum(math.exp(v) for v in z)
        p = [math.exp(v) / norm for v in z]
        if name == "hinge":
            wrong = max((1 - b) * a for a, b in zip(p, y, strict=True))
            right = sum(a * b for a, b in zip(p, y, strict=True))
            total += max(0.0, wrong - right + 1)
        else:
            total -= sum(b * math.log(a) for a, b in zip(p, y, strict=True))
    return total / len(logits)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("alpha", [0.0, 0.18])
def test_losses_are_their_formulas_and_fall_along_their_gradient(name: str, alpha: float) -> None:
    logits = 3 * torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits.requires_grad_()
    targets = smooth(LABELS, 4, alpha).double()
    loss = LOSSES[name](logits, targets)
    assert loss.item() == pytest.approx(
        restated(name, logits.tolist(), targets.tolist()), rel=1e-12
    )
    assert torch.autograd.gradcheck(lambda z: LOSSES[name](z, targets), (logits,))
    loss.backward()
    assert float(LOSSES[name](logits.detach() - 0.1 * logits.grad, targets)) < loss.item()


def test_right_and_sure_costs_little() -> None:
    targets = smooth(LABELS, 4, 0.0)
    right = 40 * targets
    assert float(hinge(right, targets)) == pytest.approx(0, abs=1e-6)
    assert float(cross_entropy(right, targets)) == pytest.approx(0, abs=1e-6)
    assert float(hinge(right.roll(1, 1), targets)) == pytest.approx(2)
    for loss in LOSSES.values():
        extreme = torch.tensor([[1e4, -1e4, 0.0, 0.0]])
        assert math.isfinite(float(loss(extreme, targets[:1])))
