"""Crops: labels stay on what they label, every label is drawn, and the unlabelled rest too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from cryoet_pu_picker.config import PUPickerConfig
from cryoet_pu_picker.crops import Sampler, turned
from cryoet_pu_picker.scenes import Scene

from cryoet_core.tomograms import ArrayVolume, Tomogram

LABELS = np.array([[3.0, 5.0, 60.0], [10.0, 33.0, 20.0], [18.0, 50.0, 44.0], [9.0, 12.0, 12.0]])


def scene(
    shape: tuple[int, int, int] = (20, 64, 70), species: tuple[int, ...] = (0, 0, 0, 1)
) -> Scene:
    """Noise with a very bright voxel at each label that is inside."""
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    inside = (np.array(shape) > LABELS).all(1)
    values[tuple(LABELS[inside].astype(int).T)] = 500.0
    return Scene(
        Tomogram("t", ArrayVolume(values), 10.0), LABELS[inside], np.array(species)[inside]
    )


def sampler(scenes: list[Scene], **options: Any) -> Sampler:
    values = {"crop": 24, "crop_depth": 5, "pairs": 2} | options
    return Sampler(scenes, PUPickerConfig(**values), (3.0, 6.0, 6.0))


def test_labels_stay_on_their_voxels_through_flips_and_turns() -> None:
    draw = sampler([scene()])
    seen, bright = set(), 0
    for step in range(60):
        crops = draw.draw(torch.Generator().manual_seed(step))
        assert crops.volumes.shape == (4, 1, 5, 24, 24)
        columns = (crops.positions.tolist(), crops.species.tolist(), crops.rows.tolist())
        for position, kind, row in zip(*columns, strict=True):
            z, y, x = (round(v) for v in position)
            if 0 <= z < 5 and 0 <= y < 24 and 0 <= x < 24:
                value = float(crops.volumes[row, 0, z, y, x])
                assert value > 100
                seen.add(kind)
                bright += 1
        marked = int((crops.volumes > 100).sum())
        inside = ((crops.positions >= 0) & (crops.positions < torch.tensor([5, 24, 24]))).all(1)
        assert marked == int(inside.sum())  # no label is lost
    assert seen == {0, 1}
    assert bright > 100


def test_turned_is_exact() -> None:
    volume = torch.zeros(2, 4, 6, 6)
    volume[:, 1, 2, 5] = 1
    where = torch.tensor([[1.0, 2.0, 5.0]])
    results = set()
    for flips in np.ndindex(2, 2, 2):
        for quarters in range(4):
            out, place = turned(volume, where, flips, quarters)
            assert out[0].nonzero().tolist() == place.long().tolist()
            assert torch.equal(out[0], out[1])
            results.add(tuple(place[0].tolist()))
    assert len(results) == 16


def test_first_crops_hold_a_label_and_species_are_drawn_alike() -> None:
    draw = sampler([scene()], pairs=1, elsewhere=1.0)
    kinds = []
    for step in range(200):
        crops = draw.draw(torch.Generator().manual_seed(step))
        inside = (
            (crops.positions > -0.5) & (crops.positions < torch.tensor([4.5, 23.5, 23.5]))
        ).all(1)
        first = crops.species[inside & (crops.rows == 0)]
        assert len(first) > 0
        kinds.append(int(first[0]))
    assert 0.3 < np.mean(kinds) < 0.7  # one label of species 1, three of species 0


def test_other_crops_come_from_everywhere() -> None:
    large, small = scene(), scene((8, 26, 26))
    assert len(small.positions) == 0
    draw = sampler([large, small], pairs=1, elsewhere=1.0, augment=False)
    corners = []
    original = Scene.crop

    def watched(self: Scene, corner: Any, *others: Any) -> torch.Tensor:
        corners.append((self is large, *corner))
        return original(self, corner, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scene, "crop", watched)
        for step in range(300):
            draw.draw(torch.Generator().manual_seed(step))
    anywhere = np.array(corners[1::2])
    in_large = anywhere[anywhere[:, 0] == 1]
    assert len(in_large) / len(anywhere) == pytest.approx(
        20 * 64 * 70 / (20 * 64 * 70 + 8 * 26 * 26), abs=0.05
    )
    assert in_large[:, 1:].min(0).tolist() == [0, 0, 0]
    assert in_large[:, 1:].max(0).tolist() == [15, 40, 46]


def test_noise_is_added_and_is_that_of_the_step() -> None:
    draw = sampler([scene()], augment=False)
    first, second, again = (
        draw.draw(torch.Generator().manual_seed(0), noise).volumes for noise in (0.0, 2.0, 2.0)
    )
    assert float((second - first)[0].std()) == pytest.approx(2.0, rel=0.1)
    assert torch.equal(second, again)


def test_the_same_step_gives_the_same_crops() -> None:
    draw = sampler([scene()])
    one, two, other = (draw.draw(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.volumes, two.volumes)
    assert torch.equal(one.positions, two.positions)
    assert not torch.equal(one.volumes, other.volumes)


def test_crops_of_a_small_tomogram_are_as_large_as_it_is() -> None:
    small = Scene(scene((4, 21, 40)).tomogram, np.array([[2.0, 9.0, 30.0]]), np.zeros(1, dtype=int))
    assert sampler([small], crop=64).draw(torch.Generator()).volumes.shape == (4, 1, 4, 20, 40)
