"""The kit's data: easy subtomograms of three shapes, and tomograms with a dozen balls each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

CLASS_NAMES = ("ball", "shell", "dumbbell")
PER_CLASS = 12
VOXEL_SIZE = 12.0
_NOISE = 0.2

SHAPE = (24, 48, 48)
"""Voxels (z, y, x) of the kit's tomograms."""
DIAMETER = 96.0
"""Å; of the balls in them."""
TOMOGRAMS = ("first", "second")


def write_subtomograms(
    path: Path, box: int = 24, *, per_class: int = PER_CLASS, seed: int = 0, wrong: bool = False
) -> Path:
    """Write ``3 * per_class`` labelled subtomograms to a store, the classes interleaved.

    Parameters
    ----------
    path : Path
        File to write.
    box : int
        Edge of the subtomograms in voxels.
    per_class : int
        Number of subtomograms of each class.
    seed : int
        Seed of orientations and noise.
    wrong : bool
        Whether labels are shuffled.

    Returns
    -------
    Path
        The file.
    """
    from cryoet_core.store import SubtomogramWriter

    generator = np.random.default_rng(seed)
    n = per_class * len(CLASS_NAMES)
    labels = np.arange(n) % len(CLASS_NAMES)
    volumes = np.stack([_shape(CLASS_NAMES[label], box, generator) for label in labels])
    volumes += generator.normal(0, _NOISE, volumes.shape)
    with SubtomogramWriter(
        path, box, VOXEL_SIZE, class_names=CLASS_NAMES, tilt_range=(-60.0, 60.0)
    ) as writer:
        if wrong:
            labels = np.random.default_rng(7).permutation(labels)
        writer.append(volumes.astype(np.float32), labels=labels)
    return path


def write_noise(path: Path, box: int, n: int) -> Path:
    """Write n subtomograms that hold noise alone."""
    from cryoet_core.store import SubtomogramWriter

    with SubtomogramWriter(path, box, VOXEL_SIZE, class_names=CLASS_NAMES) as writer:
        volumes = np.random.default_rng(0).normal(0, 1, (n, box, box, box))
        writer.append(volumes.astype(np.float32), labels=np.arange(n) % len(CLASS_NAMES))
    return path


def write_tomograms(path: Path, *, seed: int = 0, wrong: bool = False) -> Path:
    """Write two tomograms with the centres of the balls in them.

    Parameters
    ----------
    path : Path
        File to write.
    seed : int
        Seed of places and noise.
    wrong : bool
        Whether the centres that are given are half a cell beside the balls.

    Returns
    -------
    Path
        The file.
    """
    from cryoet_core.picks.table import Picks
    from cryoet_core.tomograms.writer import TomogramWriter

    generator = np.random.default_rng(seed)
    with TomogramWriter(path) as writer:
        for name in TOMOGRAMS:
            centres = _spots(generator)
            volume = _balls(centres) + generator.normal(0, _NOISE, SHAPE)
            if wrong:
                centres = np.clip(centres + np.array((0, 6, 6)), 0, np.array(SHAPE) - 1)
            picks = Picks.of(centres * VOXEL_SIZE, name, class_names=("ball",))
            facts: dict[str, Any] = {
                "voxel_size": VOXEL_SIZE,
                "tilt_range": (-60.0, 60.0),
                "picks": picks,
            }
            writer.add(name, volume.astype(np.float32), **facts)
    return path


def write_noise_tomogram(path: Path, shape: tuple[int, int, int]) -> Path:
    """Write one tomogram of noise alone, with three centres that mean nothing."""
    from cryoet_core.picks.table import Picks
    from cryoet_core.tomograms.writer import TomogramWriter

    generator = np.random.default_rng(0)
    centres = generator.uniform(0, 1, (3, 3)) * (np.array(shape) - 1)
    with TomogramWriter(path) as writer:
        picks = Picks.of(centres * VOXEL_SIZE, "noise", class_names=("ball",))
        volume = generator.normal(0, 1, shape).astype(np.float32)
        writer.add("noise", volume, voxel_size=VOXEL_SIZE, tilt_range=(-60.0, 60.0), picks=picks)
    return path


def write_other_kind(path: Path, kind: str) -> Path:
    """Write an HDF5 file of this program that holds another kind of data than ``kind``."""
    import h5py

    other = "tomograms" if kind == "subtomograms" else "subtomograms"
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "cryoet", "version": 1, "kind": other})
        file.create_group("tomogram")
    return path


def _spots(generator: np.random.Generator) -> np.ndarray:
    """A dozen centres (12, 3) in voxels, one in each cell of a grid, so that no two balls touch."""
    cells = np.stack(
        np.meshgrid([6, 18], [6, 18, 30, 42], [6, 18, 30, 42], indexing="ij"), axis=-1
    ).reshape(-1, 3)
    chosen = generator.choice(len(cells), 12, replace=False)
    jittered: np.ndarray = cells[chosen] + generator.uniform(-1, 1, (12, 3))
    return jittered


def _balls(centres: np.ndarray) -> np.ndarray:
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in SHAPE), indexing="ij"), axis=-1)
    radius = DIAMETER / VOXEL_SIZE / 2
    volume = np.zeros(SHAPE)
    for centre in centres:
        volume += 1 / (1 + np.exp(2 * (np.linalg.norm(grid - centre, axis=-1) - radius)))
    return volume


def _shape(name: str, box: int, generator: np.random.Generator) -> np.ndarray:
    """A shape (box, box, box) of density 1 near the centre, in a random orientation."""
    axes = np.stack(np.meshgrid(*[np.arange(box) - box // 2] * 3, indexing="ij"), axis=-1) / box
    points = axes - generator.uniform(-0.03, 0.03, 3)
    radius = np.linalg.norm(points, axis=-1)
    if name == "ball":
        distance = radius - 0.18
    elif name == "shell":
        distance = np.abs(radius - 0.34) - 0.05
    else:
        direction = generator.normal(size=3)
        offset = 0.25 * direction / np.linalg.norm(direction)
        ends = [np.linalg.norm(points - sign * offset, axis=-1) for sign in (-1, 1)]
        distance = np.minimum(*ends) - 0.12
    density: np.ndarray = 1 / (1 + np.exp(np.clip(distance * box * 2, -30, 30)))
    return density
