"""Pairs: every one is of the group that it says, all groups are of one size, and draws differ."""

from __future__ import annotations

import pytest
import torch
from cryoet_fsft.pairs import PairSampler


def sampler() -> tuple[PairSampler, torch.Tensor, torch.Tensor]:
    source = torch.randint(5, (60,), generator=torch.Generator().manual_seed(1))
    source[:10] = torch.arange(10) % 5
    shots = torch.arange(5).repeat_interleave(3)
    return PairSampler(source, shots), source, shots


def test_each_pair_is_what_its_group_says() -> None:
    draws, source, shots = sampler()
    for seed in range(20):
        pairs = draws.draw(torch.Generator().manual_seed(seed))
        assert torch.bincount(pairs.group).tolist() == [len(shots)] * 4
        first = source[pairs.first]
        across = (pairs.group == 1) | (pairs.group == 3)
        assert (pairs.second[across] < len(shots)).all()
        second = torch.where(
            across, shots[pairs.second.clamp(max=len(shots) - 1)], source[pairs.second]
        )
        same = (pairs.group == 0) | (pairs.group == 1)
        assert torch.equal(first == second, same)
        inside = pairs.group == 0
        assert (pairs.first[inside] != pairs.second[inside]).all()
        for group in (1, 3):
            assert pairs.second[pairs.group == group].tolist() == list(range(len(shots)))


def test_source_cubes_are_fresh_draws_of_the_whole_class() -> None:
    draws, source, _ = sampler()
    seen: set[int] = set()
    for seed in range(60):
        pairs = draws.draw(torch.Generator().manual_seed(seed))
        seen |= set(pairs.first.tolist())
    assert seen == set(range(len(source)))


def test_the_same_generator_gives_the_same_pairs() -> None:
    draws, _, _ = sampler()
    one, other = (draws.draw(torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one.first, other.first)
    assert torch.equal(one.second, other.second)


def test_a_class_with_one_source_cube_makes_no_pair() -> None:
    with pytest.raises(ValueError, match="two source subtomograms"):
        PairSampler(torch.tensor([0, 0, 1]), torch.tensor([0, 1]))
