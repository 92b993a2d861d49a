"""The sampler, and accuracy over episodes."""

from __future__ import annotations

import math

import pytest
import torch
from cryoet_protonet.episodes import Episodes, draw_episodes, queries_of
from cryoet_protonet.evaluation import episode_accuracies, evaluate, interval

from cryoet_core.support.errors import UserError

ROWS = {
    "a": torch.arange(0, 20),
    "b": torch.arange(20, 50),
    "c": torch.arange(50, 62),
    "d": torch.arange(62, 80),
}
CLASSES = torch.tensor([0] * 20 + [1] * 30 + [2] * 12 + [3] * 18)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_classes_are_distinct_and_rows_are_drawn_once() -> None:
    episodes = draw_episodes(ROWS, 500, 3, 5, 7, seeded())
    rows = episodes.rows
    assert rows.shape == (500, 3 * 12)
    assert all(len(row.unique()) == 36 for row in rows)
    of_support, of_queries = CLASSES[episodes.support], CLASSES[episodes.queries]
    assert (of_support == of_support[..., :1]).all()
    assert (of_queries == of_support[..., :1]).all()
    assert all(len(found.unique()) == 3 for found in of_support[..., 0])


def test_every_row_and_every_class_is_drawn_as_often() -> None:
    episodes = draw_episodes(ROWS, 4000, 2, 1, 4, seeded(1))
    counts = torch.bincount(episodes.rows.flatten(), minlength=80).double()
    for rows in ROWS.values():
        expected = 4000 * 2 * 5 / 4 / len(rows)
        assert (counts[rows] / expected - 1).abs().max() < 6 / math.sqrt(expected)


def test_a_seed_gives_the_same_episodes_and_another_others() -> None:
    first, again, other = (draw_episodes(ROWS, 50, 2, 2, 3, seeded(s)) for s in (3, 3, 4))
    assert torch.equal(first.rows, again.rows)
    assert not torch.equal(first.rows, other.rows)


def test_only_the_rows_given_are_drawn() -> None:
    episodes = draw_episodes({"b": ROWS["b"][::2], "d": ROWS["d"][::2]}, 200, 2, 3, 3, seeded())
    assert set(episodes.rows.flatten().tolist()) <= {
        *ROWS["b"][::2].tolist(),
        *ROWS["d"][::2].tolist(),
    }


def test_too_few_classes_or_volumes_are_said() -> None:
    with pytest.raises(UserError, match=r"`way` 5: episodes have 4 classes"):
        draw_episodes(ROWS, 1, 5, 1, 1, seeded())
    with pytest.raises(
        UserError, match=r"10 shots and 3 queries need 13 volumes of a class, 'c' has 12"
    ):
        draw_episodes(ROWS, 1, 2, 10, 3, seeded())
    assert queries_of(ROWS, 5, 15) == 7
    assert queries_of(ROWS, 5, 3) == 3


@pytest.mark.parametrize("way", [2, 3])
def test_random_embeddings_are_right_by_chance(way: int) -> None:
    points = torch.randn(80, 16, generator=seeded())
    rows = {str(i): torch.arange(20 * i, 20 * i + 20) for i in range(4)}
    # new points for each few episodes, else the chance likeness of twenty points stays
    accuracies = []
    for seed in range(60):
        points = torch.randn(80, 16, generator=seeded(seed))
        accuracies.append(
            episode_accuracies(points, draw_episodes(rows, 20, way, 1, 5, seeded(seed)))
        )
    mean, half = interval(torch.cat(accuracies))
    assert abs(mean - 1 / way) < 2 * half
    assert half < 0.02


def test_perfect_separation_is_always_right() -> None:
    points = 10.0 * torch.nn.functional.one_hot(CLASSES, 8).float() + 0.1 * torch.randn(
        80, 8, generator=seeded()
    )
    assert (episode_accuracies(points, draw_episodes(ROWS, 100, 4, 1, 5, seeded())) == 1).all()


def test_many_episodes_equal_one_by_one() -> None:
    points = torch.randn(80, 6, generator=seeded(2)) + CLASSES[:, None]
    episodes = draw_episodes(ROWS, 40, 3, 2, 4, seeded())
    single = [episode_accuracies(points, part) for part in episodes.split(1)]
    assert torch.equal(torch.cat(single), episode_accuracies(points, episodes))


def test_accuracy_counts_by_hand() -> None:
    points = torch.tensor([[0.0], [0.2], [3.0], [1.0], [0.8], [0.1]])
    episode = Episodes(torch.tensor([[[0], [3]]]), torch.tensor([[[1, 2], [4, 5]]]))
    assert episode_accuracies(points, episode).tolist() == [0.5]


def test_interval_of_a_known_list() -> None:
    values = torch.tensor([0.5, 0.75, 1.0, 0.25])
    mean, half = interval(values)
    assert mean == 0.625
    deviation = math.sqrt((0.125**2 + 0.125**2 + 0.375**2 + 0.375**2) / 3)
    assert half == pytest.approx(1.96 * deviation / 2)
    assert interval(values[:1]) == (0.5, 0.0)


def test_embeddings_are_compared_on_the_same_episodes() -> None:
    points = torch.randn(80, 6, generator=seeded(2)) + CLASSES[:, None]
    found = evaluate(
        {"": points, "moved": points + 7.0, "half": points[:, :3]}, ROWS, 2, 5, 5, 200, seeded()
    )
    assert [row["embedding"] for row in found] == ["", "moved", "half"]
    assert found[0]["accuracy"] == found[1]["accuracy"] > found[2]["accuracy"]
    assert found[0] | {"accuracy": 0, "interval": 0} == {
        "embedding": "",
        "way": 2,
        "shot": 5,
        "query": 5,
        "episodes": 200,
        "accuracy": 0,
        "interval": 0,
    }
