"""What tests of opening tomograms share: small files of noise, and what a refusal says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest

from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import TomogramOptions, open_tomograms
from cryoet_core.tomograms.writer import TomogramWriter

zarr = pytest.importorskip("zarr")

SHAPE = (6, 8, 10)
BRIGHT = TomogramOptions(contrast="bright")


def noise(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1, 2, shape).astype(np.float32)


def write_mrc(path: Path, values: np.ndarray | None = None, voxel_size: float = 10.0) -> Path:
    with mrcfile.new(path, noise() if values is None else values, overwrite=True) as file:
        file.voxel_size = voxel_size
    return path


def one_line(error: Exception) -> str:
    text = str(error)
    assert "\n" not in text
    return text


def refusal(paths: Any, reading: TomogramOptions = BRIGHT) -> str:
    with pytest.raises(UserError) as caught:
        open_tomograms(paths, reading)
    return one_line(caught.value)


def write_zarr(
    path: Path,
    values: np.ndarray | None = None,
    axes: str = "zyx",
    scales: tuple[float, ...] = (10.0,),
    unit: str | None = "angstrom",
    version: int = 2,
    chunk: int = 4,
) -> Path:
    """An image with one level for each scale, written with every chunk."""
    values = noise() if values is None else values
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    levels = []
    for index, scale in enumerate(scales):
        step = round(scale / scales[0])
        part = values[(..., *[slice(None, None, step)] * 3)]
        chunks = tuple(min(chunk, n) for n in part.shape)
        group.create_array(
            str(index), data=part, chunks=chunks, config={"write_empty_chunks": True}
        )
        factors = [scale if axis in "zyx" else 1.0 for axis in axes]
        levels.append(
            {"path": str(index), "coordinateTransformations": [{"type": "scale", "scale": factors}]}
        )
    described = [
        {"name": axis, "type": "space", **({"unit": unit} if unit else {})} for axis in axes
    ]
    image = [{"version": "0.4", "axes": described, "datasets": levels}]
    group.attrs.update(
        {"multiscales": image}
        if version == 2
        else {"ome": {"version": "0.5", "multiscales": image}}
    )
    return path


def a_store(path: Path, **facts: Any) -> Path:
    with TomogramWriter(path) as writer:
        writer.add("A", noise(), voxel_size=10.0, **facts)
        writer.add("B", noise(), voxel_size=10.0, density_sign=-1)
    return path
