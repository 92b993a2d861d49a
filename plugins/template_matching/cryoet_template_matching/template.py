"""The template: read from a map or a model, centred, its size found, brought to any voxel size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoet_core.formats.volumes import open_volumes
from cryoet_core.simulate.shapes.density import resample, trim
from cryoet_core.simulate.shapes.structures import MODELS, SUPPORT, load_density, structure_name
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms.volume import SAME_VOXELS

CLEAR = 0.5
"""Skewness of a map's values beyond which its contrast is not in doubt."""
EXTENT = 0.99
"""The template's radius holds this share of its mass."""


@dataclass(frozen=True)
class Template:
    """A density (n, n, n), protein bright, its centre at voxel n // 2. voxel_size: Å. radius: Å, of
    the particle.
    """

    name: str
    density: NDArray[np.float32]
    voxel_size: float
    radius: float

    def at(self, voxel_size: float) -> Tensor:
        """The density (m, m, m) with voxels of ``voxel_size`` Å, float32, low-passed where that is
        coarser.
        """
        if abs(voxel_size / self.voxel_size - 1) <= SAME_VOXELS / 10:
            return torch.from_numpy(self.density)
        values = resample(self.density, self.voxel_size, voxel_size)
        return torch.from_numpy(trim(values, 1e-3 * float(values.max())).astype(np.float32))


def read_template(
    path: Path,
    finest: float,
    *,
    contrast: str = "bright",
    centre: str = "mass",
    voxel_size: float | None = None,
) -> Template:
    """Read a template; voxels are those of its map, but none finer than ``finest`` Å, and those of
    a model are that.

    ``voxel_size``: of the map, Å, in place of what its header says. UserError: it cannot be read,
    is flat, has no voxel size, or is clearly dark where ``contrast`` says bright (or the reverse).
    """
    if _suffix(path) in MODELS:
        return of_density(structure_name(path), load_density(path, finest), finest)
    values, own = _read_map(path, voxel_size)
    values = _bright(path, values - float(np.median(_shell(values))), contrast)
    density, target = _centred(values, own, max(own, finest), centre)
    return of_density(structure_name(path), density, target)


def of_density(name: str, density: NDArray[np.floating], voxel_size: float) -> Template:
    """A template from a cube about n // 2, its radius from where its mass lies."""
    inside = np.argwhere(density > SUPPORT * float(density.max()))
    distances = np.linalg.norm(inside - density.shape[0] // 2, axis=1)
    order = np.argsort(distances)
    mass = np.cumsum(density[tuple(inside[order].T)])
    edge = int(np.searchsorted(mass, EXTENT * mass[-1]))
    radius = (distances[order[min(edge, len(order) - 1)]] + 0.5) * voxel_size
    return Template(name, density.astype(np.float32), float(voxel_size), float(radius))


def ball(diameter: float, voxel_size: float) -> Template:
    """A solid ball with an edge of one voxel."""
    radius = diameter / 2 / voxel_size
    half = int(np.ceil(radius)) + 2
    line = np.arange(2 * half + 1) - half
    distance = np.sqrt(line[:, None, None] ** 2 + line[:, None] ** 2 + line**2)
    return Template(
        "particle",
        np.clip(radius + 0.5 - distance, 0, 1).astype(np.float32),
        voxel_size,
        diameter / 2,
    )


def _bright(path: Path, values: NDArray[np.float64], contrast: str) -> NDArray[np.float64]:
    """The map with protein bright. Protein is what is far from the background: it gives the values
    their skewness.
    """
    skewness = float(np.mean((values - values.mean()) ** 3) / values.std() ** 3)
    if contrast == "dark":
        values, skewness = -values, -skewness
    if skewness < -CLEAR or values.max() <= 0:
        other = "dark" if contrast == "bright" else "bright"
        raise UserError(
            f"`template` {path}: what stands out from the background is {other} (skewness "
            f"{skewness:.1f}), but "
            f"`template_contrast` is {contrast}; expected protein to stand out; give "
            f"`template_contrast` {other}"
        )
    return values


def _centred(
    values: NDArray[np.float64], voxel_size: float, target: float, centre: str
) -> tuple[NDArray[np.floating], float]:
    middle = None
    if centre == "mass":
        weights = np.where(values > SUPPORT * values.max(), values, 0)
        sums = [weights.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
        middle = np.array([(line * np.arange(len(line))).sum() for line in sums]) / weights.sum()
    density = resample(values, voxel_size, target, middle)
    return trim(density, 0.01 * float(density.max())), target


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _read_map(path: Path, given: float | None) -> tuple[NDArray[np.float64], float]:
    try:
        stack = open_volumes(path)
    except UserError as error:
        raise UserError(
            f"`template` {error}; expected a map (MRC, EM) or a model ({', '.join(MODELS)})"
        ) from error
    if len(stack) != 1 or min(stack.shape) < 4:
        shape = " x ".join(map(str, (len(stack), *stack.shape)))
        raise UserError(
            f"`template` {path}: {shape} voxels; expected one map of at least 4 voxels a side"
        )
    cell = (given,) * 3 if given else stack.voxel_size
    if cell is None or min(cell) <= 0 or max(cell) > 1.01 * min(cell):
        shown = "none" if cell is None else " x ".join(f"{size:g}" for size in cell)
        raise UserError(
            f"`template` {path}: voxel size {shown} in its header; expected one; see "
            "`template_voxel_size`"
        )
    values = stack.read(np.array([0]))[0].astype(np.float64)
    if not np.isfinite(values).all() or values.min() == values.max():
        raise UserError(
            f"`template` {path}: holds NaN, infinity or one value only; expected a map of a "
            "particle"
        )
    return values, float(np.mean(cell))


def _shell(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The outermost voxels on every side."""
    inner = np.zeros(values.shape, bool)
    inner[1:-1, 1:-1, 1:-1] = True
    return values[~inner]
