"""The training tomograms as the network sees them: on its voxels, with their labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cryoet_core.runs.run import Run
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import ArrayVolume, Tomogram, Tomograms
from cryoet_pu_picker.bands import Bands
from cryoet_pu_picker.config import PUPickerConfig
from cryoet_pu_picker.species import Species

FEWEST_VOXELS = 3
"""Of a tomogram in a diameter, at least."""


@dataclass(frozen=True)
class Scene:
    """A tomogram on the network's voxels, its labels in those voxels: positions (n, 3) float64,
    species (n,) int64.
    """

    tomogram: Tomogram
    positions: np.ndarray
    species: np.ndarray

    def crop(
        self,
        corner: Sequence[int],
        shape: Sequence[int],
        bands: Bands | None = None,
        noise: Callable[[torch.Size], Tensor] | None = None,
    ) -> Tensor:
        """Voxels from a corner inside on, standardised by the tomogram's statistics, (1, d, h, w);
        or their bands.

        The bands are those that the whole tomogram has there. ``noise`` gives what is added to the
        voxels before.
        """
        mean, deviation = self.tomogram.statistics()
        reach = bands.reach if bands else 0
        ends = zip(corner, shape, self.tomogram.shape, strict=True)
        region = tuple(
            slice(max(int(a) - reach, 0), min(int(a) + n + reach, end)) for a, n, end in ends
        )
        volume = torch.from_numpy((self.tomogram.read(region) - mean) / deviation)[None].float()  # type: ignore[arg-type]
        clean = volume
        if noise is not None:
            volume = volume + noise(volume.shape)
        if bands is None:
            return volume
        starts = [int(a) - part.start for a, part in zip(corner, region, strict=True)]
        z, y, x = (slice(a, a + n) for a, n in zip(starts, shape, strict=True))
        seen: Tensor = bands(volume[None], (z, y, x), clean[None])
        return seen[0]

    def middle(self) -> Tensor:
        """(1, 1, d, h, w): up to 128 voxels of each axis, from the middle."""
        size = [min(n, 128) for n in self.tomogram.shape]
        return self.crop(
            [(n - m) // 2 for n, m in zip(self.tomogram.shape, size, strict=True)], size
        )[None]


def network_voxel_size(
    config: PUPickerConfig, species: Sequence[Species], data: Tomograms
) -> float:
    """Å: what the options ask for, at least that of the coarsest tomogram."""
    coarsest = max(tomogram.voxel_size for tomogram in data)
    if config.network_voxel_size == "data":
        return coarsest
    if config.network_voxel_size == "auto":
        return max(coarsest, min(kind.diameter for kind in species) / config.voxels_across)
    return max(coarsest, float(config.network_voxel_size))


def scenes_of(
    data: Tomograms, species: Sequence[Species], voxel_size: float, run: Run
) -> list[Scene]:
    """Every tomogram, in memory where all of them fit; those without labels of these species serve
    as unlabelled.

    UserError for a diameter that cannot be in these tomograms and for labels outside of theirs.
    """
    finer = [tomogram.at(voxel_size) for tomogram in data]
    held = sum(4 * int(np.prod(tomogram.shape)) for tomogram in finer) <= run.max_memory
    return [_scene(full, view, species, held) for full, view in zip(data, finer, strict=True)]


def _scene(tomogram: Tomogram, view: Tomogram, species: Sequence[Species], held: bool) -> Scene:
    where = tomogram.where or tomogram.name
    for kind in species:
        if kind.diameter > max(tomogram.shape) * tomogram.voxel_size:
            size = " x ".join(f"{n * tomogram.voxel_size:g}" for n in tomogram.shape)
            raise UserError(
                f"`diameter` {kind.diameter:g}: {where} is {size} Å; expected a particle that fits "
                "into it; check the "
                "diameter, in Å, and the voxel size"
            )
        if kind.diameter < FEWEST_VOXELS * tomogram.voxel_size:
            raise UserError(
                f"`diameter` {kind.diameter:g}: {where} has voxels of {tomogram.voxel_size:g} Å; "
                "expected at least "
                f"{FEWEST_VOXELS} voxels in a diameter; check the diameter, in Å, or use finer "
                "voxels"
            )
    positions, kinds = _labels(tomogram, species)
    outside = ((positions < 0) | (positions > tomogram.extent)).any(1)
    if outside.any():
        first = ", ".join(f"{value:g}" for value in positions[outside][0])
        raise UserError(
            f"{where}: {outside.sum()} of {len(positions)} labels lie outside, the first at "
            f"({first}) Å (z, y, x); "
            "check the picks' voxel size and axis order"
        )
    if held:
        view = replace(view, volume=ArrayVolume(view.read()), density_sign=1)
    return Scene(view, positions / view.voxel_size, kinds)


def _labels(tomogram: Tomogram, species: Sequence[Species]) -> tuple[np.ndarray, np.ndarray]:
    """Positions in Å and species of the labels of these species."""
    picks = tomogram.picks
    if picks is None:
        return np.zeros((0, 3)), np.zeros(0, np.int64)
    names = [kind.name for kind in species]
    numbers = np.array(
        [*(names.index(name) if name in names else -1 for name in picks.class_names), -1]
    )
    kinds = numbers[picks.classes]
    return picks.positions[kinds >= 0], kinds[kinds >= 0]
