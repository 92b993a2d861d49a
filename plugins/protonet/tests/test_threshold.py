"""How many members are called none of these, where the threshold comes from a few examples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cryoet_protonet.labeller import ProtoLabeller, Support, compared
from cryoet_protonet.scales import Scales, member_distances

CLASSES, DIM = 5, 20


def rejected(shot: int, reject: float, draws: int = 150) -> float:
    """Share of fresh members beyond the threshold; classes far apart, Gaussian, scattering
    alike.
    """
    random = torch.Generator().manual_seed(shot)
    known = torch.arange(20).repeat_interleave(20)
    members = member_distances(torch.randn(400, DIM, generator=random).double(), known)
    scales = Scales(float(DIM), (members / members.mean()).sort().values.float())
    classes, beyond = torch.arange(CLASSES).repeat_interleave(shot), []
    names, nowhere = tuple("abcde"), np.zeros(CLASSES * shot, np.int64)
    for _ in range(draws):
        centres = 1000.0 * torch.randn(CLASSES, DIM, generator=random)
        points = centres[classes] + torch.randn(len(classes), DIM, generator=random)
        support = Support(names, points, classes, nowhere.astype(np.int8), ("",), nowhere, nowhere)
        labeller = ProtoLabeller(None, support, scales, reject, {})  # type: ignore[arg-type]
        fresh = centres.repeat(20, 1) + torch.randn(20 * CLASSES, DIM, generator=random)
        relative, _ = compared(support, fresh, torch.full((len(fresh),), -1), scales.variance)
        beyond.append((relative.amin(1) > labeller.threshold).double().mean())
    return float(torch.stack(beyond).mean())


@pytest.mark.parametrize(("shot", "reject"), [(5, 0.05), (5, 0.2), (3, 0.1), (1, 0.1)])
def test_as_many_members_are_rejected_as_asked_for(shot: int, reject: float) -> None:
    assert 0.35 * reject < rejected(shot, reject) < 1.15 * reject
