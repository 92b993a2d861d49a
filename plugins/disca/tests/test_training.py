"""Training steps: a batch that is not a number does no harm, and new heads learn what they are
shown.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cryoet_disca.config import DiscaConfig
from cryoet_disca.training import _step, new_head, train_head


@pytest.fixture
def run() -> Any:
    """What training asks of a run, in one process."""
    return SimpleNamespace(
        world_size=1,
        rank=0,
        average_gradients=lambda parameters: None,
        all_reduce=lambda tensor: tensor,
        generator=lambda *key: torch.Generator().manual_seed(len(key)),
    )


def test_a_gradient_that_is_not_finite_changes_no_weight(run: Any) -> None:
    head = new_head(3, 2, torch.device("cpu"))
    before = head.weight.detach().clone()
    optimiser = torch.optim.NAdam(head.parameters(), lr=0.1)
    bad = head(torch.tensor([[1.0, float("nan"), 0.0]])).sum()
    assert not _step(optimiser, bad, list(head.parameters()), run)
    assert torch.equal(head.weight, before)
    assert _step(optimiser, head(torch.ones(1, 3)).sum(), list(head.parameters()), run)
    assert not torch.equal(head.weight, before)


def test_a_new_head_learns_separated_clusters(run: Any) -> None:
    labels = torch.arange(90) % 3
    features = 3 * torch.eye(3, 8)[labels] + 0.1 * torch.randn(
        90, 8, generator=torch.Generator().manual_seed(0)
    )
    head = new_head(8, 3, torch.device("cpu"))
    config = DiscaConfig(head_learning_rate=0.05, batch_size=30)
    train_head(head, features, labels, 0.1, config, run, 0)
    assert torch.equal(head(features).argmax(1), labels)
