"""What a training step encodes, and that sharing volumes changes no episode's loss."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cryoet_protonet.attention import Attention
from cryoet_protonet.episodes import draw_episodes
from cryoet_protonet.losses import (
    adapted_logits,
    episode_loss,
    prototypes,
    squared_distances,
    targets,
)
from cryoet_protonet.network import ProtoNet3D
from cryoet_protonet.pools import Step, training_steps
from cryoet_protonet.stages import embedded
from torch import Tensor

ROWS = {
    "a": torch.arange(0, 20),
    "b": torch.arange(20, 50),
    "c": torch.arange(50, 62),
    "d": torch.arange(62, 80),
}
CLASSES = torch.tensor([0] * 20 + [1] * 30 + [2] * 12 + [3] * 18)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def config(**options: Any) -> Any:
    given = {"way": 2, "shot": 2, "query": 4, "episodes_per_epoch": 25, "episodes_per_step": 10}
    return SimpleNamespace(**given | options)


@pytest.mark.parametrize(
    ("pool", "classes", "each"), [(12, 2, 6), (20, 3, 6), (60, 4, 15), (1, 2, 6)]
)
def test_episodes_of_a_step_share_its_volumes(pool: int, classes: int, each: int) -> None:
    steps = list(training_steps(ROWS, config(), pool, seeded()))
    assert [len(step.episodes) for step in steps] == [10, 10, 5]
    for step in steps:
        assert len(step.rows) == len(step.rows.unique())
        counts = torch.bincount(CLASSES[step.rows], minlength=4)
        assert int((counts > 0).sum()) == classes
        assert set(counts[counts > 0].tolist()) <= {each, 12}  # class c has no more than 12
        support, queries = (
            CLASSES[step.rows[step.episodes.support]],
            CLASSES[step.rows[step.episodes.queries]],
        )
        assert support.shape == (len(step.episodes), 2, 2)
        assert (support == support[..., :1]).all()
        assert (queries == support[..., :1]).all()
        assert (support[:, 0, 0] != support[:, 1, 0]).all()
        assert all(
            len(episode.unique()) == 12 for episode in step.episodes.rows
        )  # no query is in the support


def test_every_volume_is_trained_on() -> None:
    steps = training_steps(ROWS, config(episodes_per_epoch=8000), 24, seeded())
    seen = torch.cat([step.rows[step.episodes.rows].flatten() for step in steps])
    counts = torch.bincount(seen, minlength=80).double()
    for rows in ROWS.values():
        assert (counts[rows] / counts[rows].mean() - 1).abs().max() < 0.35


def test_without_a_pool_each_episode_has_volumes_of_its_own() -> None:
    """The published way, and what a pool as large as the episodes themselves comes to."""
    drawn = draw_episodes(ROWS, 25, 2, 2, 4, seeded())
    for pool in (0, 120):
        steps = list(training_steps(ROWS, config(), pool, seeded()))
        assert [len(step.rows) for step in steps] == [120, 120, 60]
        for step, part in zip(steps, drawn.split(10), strict=True):
            assert torch.equal(step.rows[step.episodes.support], part.support)
            assert torch.equal(step.rows[step.episodes.queries], part.queries)


def loss_of(support: Tensor, queries: Tensor, attention: Attention | None) -> Tensor:
    centres = prototypes(support)
    logits = (
        -squared_distances(queries, centres)
        if attention is None
        else adapted_logits(queries, centres, attention)[0]
    )
    return episode_loss(
        logits, targets(len(support), support.shape[1], queries.shape[1] // support.shape[1])
    )


def plain_loss(
    network: ProtoNet3D, volumes: Tensor, step: Step, attention: Attention | None
) -> Tensor:
    """Each episode encoded by itself, each query named by itself."""
    losses = []
    for support, queries in zip(step.episodes.support, step.episodes.queries, strict=True):
        centres = torch.stack([network(volumes[step.rows[rows]]).mean(0) for rows in support])
        for number, rows in enumerate(queries):
            for query in network(volumes[step.rows[rows]]):
                distances = (query - centres).square().sum(1)
                if attention is not None:
                    tokens = attention(torch.cat([centres, query[None]]).detach())[0]
                    distances = distances + (tokens[-1] - tokens[:-1]).square().sum(1)
                losses.append(distances[number] + torch.exp(-distances).sum().log())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("pool", [0, 20])
def test_shared_volumes_give_the_loss_and_gradients_of_episodes_encoded_alone(
    pool: int, second: bool
) -> None:
    torch.manual_seed(0)
    network = ProtoNet3D(8, width=3, blocks=2).double().eval()
    attention = Attention(network.dim).double() if second else None
    volumes = torch.randn(80, 1, 8, 8, 8, generator=seeded(1), dtype=torch.float64)
    step = next(iter(training_steps(ROWS, config(episodes_per_step=4), pool, seeded())))
    trained = [*network.parameters(), *([] if attention is None else attention.parameters())]
    support, queries = embedded(lambda rows, _: network(volumes[rows]), step, seeded())
    ours, plain = (
        loss_of(support, queries, attention),
        plain_loss(network, volumes, step, attention),
    )
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-12)
    gradients = (torch.autograd.grad(loss, trained) for loss in (ours, plain))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-11)
