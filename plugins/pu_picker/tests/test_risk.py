"""The positive-unlabelled risk and the consistency, against plain restatements in double
precision.
"""

from __future__ import annotations

import math

import pytest
import torch
from cryoet_pu_picker.losses.consistency import consistency
from cryoet_pu_picker.losses.pu_focal import focal_loss, focal_terms, pu_risk
from torch import Tensor

PRIOR = torch.tensor([0.3, 0.02], dtype=torch.float64)
LEFT = torch.tensor([0.2, 0.001], dtype=torch.float64)


def example(seed: int = 0, shape: tuple[int, ...] = (2, 2, 3, 4, 5)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    kind = torch.randint(4, shape, generator=generator)
    soft = torch.rand(shape, generator=generator, dtype=torch.float64).clamp(0.01, 0.99)
    return logits, torch.where(kind == 0, 1.0, torch.where(kind == 1, soft, -1.0))


def restated_terms(logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Of one species, voxel by voxel."""
    sums: dict[str, list[float]] = {name: [] for name in ("tp+", "sp+", "tp-", "sp-", "u-")}
    for x, y in zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        if y == 1:
            sums["tp+"].append(-((1 - p) ** 2) * math.log(p))
            sums["tp-"].append(-(p**2) * math.log(1 - p))
        elif y > 0:
            sums["sp+"].append(-((1 - y) ** 4) * p**2 * math.log(1 - p))
            sums["sp-"].append(-(y**4) * (1 - p) ** 2 * math.log(p))
        else:
            sums["u-"].append(-(p**2) * math.log(1 - p))
    return {name: sum(values) / max(len(values), 1) for name, values in sums.items()}


def restated_risk(logits: Tensor, targets: Tensor) -> list[float]:
    total = []
    for c, (prior, left) in enumerate(zip(PRIOR.tolist(), LEFT.tolist(), strict=True)):
        r = restated_terms(logits[:, c], targets[:, c])
        total.append(
            prior * (r["tp+"] + r["sp+"]) + max(0.0, r["u-"] - left * (r["tp-"] + r["sp-"]))
        )
    return total


def test_terms_and_risk_are_their_formulas() -> None:
    logits, targets = example()
    terms = focal_terms(logits, targets)
    for c in range(2):
        expected = restated_terms(logits[:, c], targets[:, c])
        found = [float(term[c]) for term in terms]
        assert found == pytest.approx(
            [expected[name] for name in ("tp+", "sp+", "tp-", "sp-", "u-")], rel=1e-12
        )
    assert pu_risk(focal_terms(logits, targets), PRIOR, LEFT).tolist() == pytest.approx(
        restated_risk(logits, targets), rel=1e-12
    )
    assert torch.autograd.gradcheck(
        lambda x: pu_risk(focal_terms(x, targets), PRIOR, LEFT), (logits.requires_grad_(),)
    )


def test_every_term_and_the_risk_are_not_negative_for_any_heat_map() -> None:
    for seed in range(20):
        logits, targets = example(seed)
        assert all(bool((term >= 0).all()) for term in focal_terms(10 * logits, targets))
        assert bool((pu_risk(focal_terms(10 * logits, targets), PRIOR, LEFT) >= 0).all())
    extreme = torch.tensor([1e4, -1e4, 0.0, 5e3]).reshape(1, 1, 1, 2, 2)
    for y in (1.0, 0.5, -1.0):
        risk = pu_risk(
            focal_terms(extreme, torch.full_like(extreme, y)),
            torch.tensor([0.1]),
            torch.tensor([0.1]),
        )
        assert math.isfinite(float(risk))


def test_where_the_bracket_is_negative_the_positive_part_is_left() -> None:
    logits, targets = example()
    logits = torch.where(
        targets == 1, 4.0, -6.0
    ).double()  # sure of the labelled, nothing elsewhere
    terms = focal_terms(logits, targets)
    assert bool((terms.unlabelled < PRIOR * terms.true_negative).all())
    expected = PRIOR * (terms.true_positive + terms.soft_positive)
    assert pu_risk(focal_terms(logits, targets), PRIOR, PRIOR).tolist() == pytest.approx(
        expected.tolist(), rel=1e-12
    )
    assert float(expected.max()) < 1e-3  # a perfect heat map costs next to nothing


def test_usual_terms_decide_whether_unlabelled_voxels_count() -> None:
    logits, targets = example(1)
    terms = focal_terms(logits, targets)
    few = terms._replace(unlabelled=torch.zeros_like(terms.unlabelled))
    many = terms._replace(unlabelled=torch.full_like(terms.unlabelled, 9.0))
    positive = PRIOR * (terms.true_positive + terms.soft_positive)
    assert torch.equal(pu_risk(terms, PRIOR, LEFT, usual=few), positive)
    whole = positive + terms.unlabelled - LEFT * (terms.true_negative + terms.soft_negative)
    torch.testing.assert_close(pu_risk(terms, PRIOR, LEFT, usual=many), whole)
    torch.testing.assert_close(
        pu_risk(terms, PRIOR, LEFT, usual=terms), pu_risk(terms, PRIOR, LEFT)
    )


def test_without_labels_the_risk_is_that_of_unlabelled_voxels() -> None:
    logits, _ = example()
    nothing = torch.full_like(logits, -1.0)
    assert torch.equal(
        pu_risk(focal_terms(logits, nothing), PRIOR, LEFT), focal_terms(logits, nothing).unlabelled
    )


def test_unlabelled_voxels_with_the_prior_stand_for_negative_ones() -> None:
    """PU = PN: with a share of unlabelled positives as large as the prior, prior R+ + R_u- - prior
    R- is the risk of a fully labelled set, in expectation."""
    generator, n, prior = torch.Generator().manual_seed(3), 400_000, 0.2
    positive = torch.rand(n, generator=generator) < prior
    logits = torch.randn(n, generator=generator, dtype=torch.float64) + torch.where(
        positive, 1.0, -1.0
    )
    labelled = torch.randn(n, generator=generator, dtype=torch.float64) + 1.0

    def shaped(values: Tensor) -> Tensor:
        return values.reshape(1, 1, 1, 1, -1)

    everything = torch.cat((labelled, logits))
    targets = torch.cat((torch.ones(n), torch.full((n,), -1.0))).double()
    pu = focal_terms(shaped(everything), shaped(targets))
    found = prior * pu.true_positive + pu.unlabelled - prior * pu.true_negative
    known = torch.where(positive, 1.0, -1.0).double()
    pn = focal_terms(shaped(logits), shaped(known))
    expected = prior * pn.true_positive + (1 - prior) * pn.unlabelled
    assert float(found) == pytest.approx(float(expected), rel=0.01)


def test_plain_focal_loss_is_its_formula() -> None:
    logits, targets = example()
    total = []
    for c in range(2):
        own = 0.0
        for x, y in zip(
            logits[:, c].flatten().tolist(), targets[:, c].flatten().tolist(), strict=True
        ):
            p = 1 / (1 + math.exp(-x))
            own -= (
                (1 - p) ** 2 * math.log(p)
                if y == 1
                else (1 - max(y, 0)) ** 4 * p**2 * math.log(1 - p)
            )
        total.append(own / int((targets[:, c] == 1).sum()))
    assert focal_loss(logits, targets).tolist() == pytest.approx(total, rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, targets), (logits.requires_grad_(),))


def test_consistency_is_zero_for_what_does_not_depend_on_the_view() -> None:
    volume = torch.randn(
        1, 1, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    for axis in (3, 4):
        assert torch.equal(volume.flip(axis).flip(axis), volume)
        turned = (2 * volume.flip(axis)).flip(axis)  # an equivariant network
        assert float(consistency(2 * volume, turned)) == 0
    other = torch.zeros_like(volume)
    assert float(consistency(volume, other)) == pytest.approx(
        float((volume.sigmoid() - 0.5).square().mean())
    )
