"""Losses against plain restatements in double precision, and what the penalty must not depend
on.
"""

from __future__ import annotations

import math

import pytest
import torch
from cryoet_autoencoder.losses import penalty, reconstruction
from cryoet_autoencoder.segmentation_training import class_weights, voxel_loss


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def test_reconstruction_is_its_formula() -> None:
    a, b = drawn(2, 1, 2, 3, 2), drawn(2, 1, 2, 3, 2, seed=1)
    pairs = zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)
    assert reconstruction(a, b).item() == pytest.approx(
        sum((x - y) ** 2 for x, y in pairs) / 24, rel=1e-12
    )
    assert torch.autograd.gradcheck(reconstruction, (a, b))


def test_the_penalty_is_its_formula_scales_and_knows_no_batch() -> None:
    codes = drawn(3, 4)
    restated = sum(sum(abs(x) for x in row) for row in codes.tolist()) / 3
    assert penalty(codes).item() == pytest.approx(restated, rel=1e-12)
    assert penalty(2.5 * codes).item() == pytest.approx(2.5 * restated, rel=1e-12)
    assert penalty(torch.cat([codes] * 7)).item() == pytest.approx(restated, rel=1e-12)
    assert torch.autograd.gradcheck(penalty, (codes,))


def restated_entropy(logits: torch.Tensor, labels: torch.Tensor, weights: list[float]) -> float:
    rows = logits.movedim(1, -1).reshape(-1, logits.shape[1]).tolist()
    total = 0.0
    for row, label in zip(rows, labels.flatten().tolist(), strict=True):
        total -= weights[label] * math.log(math.exp(row[label]) / sum(math.exp(x) for x in row))
    return total / len(rows)


@pytest.mark.parametrize("kind", ["equal", "root", "balanced"])
def test_voxel_loss_is_its_formula(kind: str) -> None:
    logits = drawn(2, 3, 2, 2, 2)
    labels = torch.tensor(
        [0, 0, 0, 1, 2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1], dtype=torch.uint8
    ).reshape(2, 2, 2, 2)
    counts = labels.flatten().long().bincount().double()
    weights = class_weights(counts, kind)
    power = {"equal": 0.0, "root": 0.5, "balanced": 1.0}[kind]
    raw = [(16 / count) ** power for count in counts.tolist()]
    mean = sum(w * c / 16 for w, c in zip(raw, counts.tolist(), strict=True))
    assert weights.tolist() == pytest.approx([w / mean for w in raw], rel=1e-12)
    assert voxel_loss(logits, labels, weights).item() == pytest.approx(
        restated_entropy(logits, labels, weights.tolist()), rel=1e-12
    )
    assert torch.autograd.gradcheck(lambda x: voxel_loss(x, labels, weights), (logits,))


def test_a_class_without_voxels_weighs_nothing() -> None:
    weights = class_weights(torch.tensor([6.0, 2.0, 0.0]), "balanced")
    assert weights.tolist() == pytest.approx([2 / 3, 2.0, 0.0])
