"""The kit's data: a handful of cubes of three shapes that any method can tell apart, in a store file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CLASS_NAMES = ("ball", "shell", "dumbbell")
PER_CLASS = 12
VOXEL_SIZE = 12.0
_NOISE = 0.2


def write_subtomograms(path: Path, box: int = 24, *, per_class: int = PER_CLASS, seed: int = 0) -> Path:
    """Write ``3 * per_class`` labelled cubes to a store, the classes interleaved."""
    from cryoet_core.store import SubtomogramWriter

    generator = np.random.default_rng(seed)
    n = per_class * len(CLASS_NAMES)
    labels = np.arange(n) % len(CLASS_NAMES)
    volumes = np.stack([_shape(CLASS_NAMES[label], box, generator) for label in labels])
    volumes += generator.normal(0, _NOISE, volumes.shape)
    with SubtomogramWriter(path, box, VOXEL_SIZE, class_names=CLASS_NAMES, tilt_range=(-60.0, 60.0)) as writer:
        writer.append(volumes.astype(np.float32), labels=labels)
    return path


def write_noise(path: Path, box: int, n: int) -> Path:
    """Write n cubes that hold noise alone."""
    from cryoet_core.store import SubtomogramWriter

    with SubtomogramWriter(path, box, VOXEL_SIZE, class_names=CLASS_NAMES) as writer:
        volumes = np.random.default_rng(0).normal(0, 1, (n, box, box, box))
        writer.append(volumes.astype(np.float32), labels=np.arange(n) % len(CLASS_NAMES))
    return path


def write_other_kind(path: Path) -> Path:
    """Write an HDF5 file of this program that holds no subtomograms."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "cryoet", "version": 1, "kind": "tomograms"})
        file.create_group("tomogram")
    return path


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
