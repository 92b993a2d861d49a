"""Two domains of three shapes: the target's cubes are dimmer, shifted in intensity and blurred."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cryoet_core.store import write_store

Write = Callable[..., Path]
NAMES = ("ball", "bars", "shell")


def shapes(box: int) -> np.ndarray:
    z, y, x = np.indices((box, box, box)) - box // 2
    radius = np.sqrt(z**2 + y**2 + x**2)
    found = (
        radius < 0.28 * box,
        (abs(abs(x) - 0.25 * box) < 1.5) & (radius < 0.45 * box),
        abs(radius - 0.36 * box) < 1,
    )
    return np.stack([part.astype(float) for part in found])


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write(name, per_class=..., target=True, names=..., labelled=..., box=...)`` makes a
    store.
    """

    def call(
        name: str,
        per_class: int = 12,
        target: bool = False,
        names: tuple[str, ...] = NAMES,
        seed: int = 0,
        box: int = 16,
        voxel_size: float = 10.0,
        noise: float = 0.4,
        labels: np.ndarray | None = None,
        **facts: Any,
    ) -> Path:
        random = np.random.default_rng(seed)
        truth = np.arange(per_class * len(names)) % len(names)
        volumes = shapes(box)[[NAMES.index(names[i]) if names[i] in NAMES else 0 for i in truth]]
        if target:
            volumes = 1.5 * gaussian_filter(volumes, (0, 1.2, 1.2, 1.2)) - 0.6 * volumes
        volumes = volumes + random.normal(0, noise, volumes.shape)
        known = truth if labels is None else np.where(labels, truth, -1)
        return write_store(
            tmp_path / f"{name}.h5", volumes, voxel_size, known, class_names=names, **facts
        )

    return call
