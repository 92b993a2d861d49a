"""Label volumes: parts, files, agreement with what is known."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
from cryoet_autoencoder.components import take_parts
from cryoet_autoencoder.dice import agreement, dice
from cryoet_autoencoder.labelfiles import read_labels, write_labels, write_stack

from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import Tomogram
from cryoet_core.tomograms.volume import ArrayVolume


def test_parts_of_a_class_are_particles_and_specks_go() -> None:
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[1:4, 1:4, 1:4] = 1
    labels[8:11, 8:11, 8:10] = 1
    labels[8:11, 8:11, 10:11] = 2  # touches the one before, but is another class
    labels[5, 5, 5] = 1
    own = np.full(labels.shape, 0.5, np.float16)
    own[8:11, 8:11, 8:10] = 0.75
    positions, scores, classes = take_parts(labels, own, [5, 9])
    assert classes.tolist() == [0, 0, 1]
    np.testing.assert_allclose(positions, [[2, 2, 2], [9, 9, 8.5], [9, 9, 10]])
    np.testing.assert_allclose(scores, [0.5, 0.75, 0.5])
    assert labels[5, 5, 5] == 0
    assert int((labels == 1).sum()) == 27 + 18
    assert len(take_parts(np.zeros((4, 4, 4), np.uint8), np.ones((4, 4, 4)), [1.0])[0]) == 0


def test_heavier_voxels_draw_the_centre() -> None:
    labels = np.zeros((1, 1, 5), np.uint8)
    labels[..., 1:3] = 1
    own = np.array([[[0, 0.25, 0.75, 0, 0]]])
    assert take_parts(labels, own, [1])[0][0, 2] == pytest.approx(1.75)


def test_files_hold_what_was_written(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 4, (3, 4, 5)).astype(np.uint8)
    write_labels(tmp_path / "new" / "t.mrc", labels, 12.5)
    np.testing.assert_array_equal(read_labels(tmp_path / "new" / "t.mrc"), labels)
    with mrcfile.open(tmp_path / "new" / "t.mrc") as file:
        assert file.header.mode == 0
        assert float(file.voxel_size.x) == pytest.approx(12.5)
    cubes = np.random.default_rng(1).integers(0, 3, (5, 4, 4, 4)).astype(np.int8)
    write_stack(tmp_path / "s.mrcs", (part for part in (cubes[:3], cubes[3:])), 5, 4, 10.0)
    assert mrcfile.validate(tmp_path / "s.mrcs")
    with mrcfile.open(tmp_path / "s.mrcs") as file:
        assert file.is_volume_stack()
        np.testing.assert_array_equal(file.data, cubes)


def test_dice() -> None:
    a, b = np.zeros((2, 3), bool), np.zeros((2, 3), bool)
    assert dice(a, b) == 1.0
    a[0], b[0, 0] = True, True
    assert dice(a, b) == pytest.approx(2 / 4)
    assert dice(a, ~a) == 0.0
    assert dice(a, a) == 1.0


def test_agreement_with_the_simulated_occupancy() -> None:
    ids, kinds = np.zeros((4, 4, 4), np.int32), np.zeros((4, 4, 4), np.uint8)
    ids[0], kinds[0] = 7, 1
    ids[1], kinds[1] = 8, 2
    kinds[3] = 3  # a membrane: no particle
    masks = {"ids": ArrayVolume(ids), "classes": ArrayVolume(kinds)}
    known = Tomogram(
        "t",
        ArrayVolume(np.zeros((4, 4, 4))),
        10.0,
        masks=masks,
        attributes={"mask_classes": ["a", "b", "m"]},
    )
    labels = np.zeros((4, 4, 4), np.int8)
    labels[0], labels[2] = 1, 2
    facts = agreement(labels, known, {0: "background", 1: "a", 2: "else"})
    assert facts["foreground_dice"] == pytest.approx(0.5)
    assert facts["precision"] == facts["recall"] == pytest.approx(0.5)
    assert facts["classes"] == {"a": 1.0}
    with pytest.raises(UserError, match="has no mask 'classes'"):
        agreement(labels, Tomogram("t", known.volume, 10.0, masks={"ids": masks["ids"]}), {})
    with pytest.raises(UserError, match="but its labels have"):
        agreement(labels[:2], known, {})
