"""How many particles there are, labelled or not, and so which share of the heat map is positive.

The risk needs the share of positive cells. Users rarely know it, but some know how many particles to expect, and the
network itself finds out: it is counted twice during training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cryoet_core.errors import UserError
from cryoet_core.run import Run
from cryoet_pu_picker.config import PUPickerConfig
from cryoet_pu_picker.decoding import centres
from cryoet_pu_picker.losses.pu_focal import BETA
from cryoet_pu_picker.network import STRIDE, HybridNetwork
from cryoet_pu_picker.scenes import Scene
from cryoet_pu_picker.species import Species, by_name
from cryoet_pu_picker.targets import REACH

FILLED = 0.03
"""Share of the volume that particles are taken to fill before anything has been counted."""
SURE = 0.5
"""Score from which a peak is counted as a particle."""
LEAST_LEFT = 0.05
"""Share of the particles that are taken to be unlabelled, at least."""
SLAB, LARGEST = 16, 1 << 23
"""Slices that are looked at together, and voxels that are looked at in all, to count particles."""


@dataclass(frozen=True)
class Prior:
    """Of each of c species: share (c,) of positive cells, and share ``left`` (c,) among the cells without a label."""

    share: tuple[float, ...]
    left: tuple[float, ...]


class Priors:
    """The prior of each species: given, from the expected number of copies, or from what the network counts."""

    def __init__(
        self, species: Sequence[Species], scenes: Sequence[Scene], sigmas: Tensor, config: PUPickerConfig
    ) -> None:
        """sigmas (c, 3): widths of the soft targets in cells. UserError for numbers that cannot be."""
        self.species, self.scenes = species, scenes
        names = [kind.name for kind in species]
        sizes = [np.array(scene.tomogram.shape, dtype=float) for scene in scenes]
        voxel_size = scenes[0].tomogram.voxel_size
        self.cells = float(sum(np.prod(size) for size in sizes)) / math.prod(STRIDE)
        self.cells_each = [_cells_of(sigma) for sigma in sigmas]
        self.labels = [sum(int((scene.species == c).sum()) for scene in scenes) for c in range(len(species))]
        volume = sum(np.prod(size) for size in sizes) * voxel_size**3
        self.counted = False
        if config.prior != "auto":
            given = by_name("prior", config.prior, names)
            too_large = next((name for name in names if given[name] >= 1), None)
            if too_large:
                raise UserError(f"--prior {config.prior}: a share of {given[too_large]:g}; expected less than 1")
            self.copies = [given[name] * self.cells / each for name, each in zip(names, self.cells_each, strict=True)]
        elif config.copies:
            expected = by_name("copies", config.copies, names)
            self.copies = [expected[name] * len(scenes) for name in names]
        else:
            self.counted = True
            self.copies = [FILLED * volume / kind.volume for kind in species]

    @property
    def prior(self) -> Prior:
        """The shares that follow from ``copies``, at least the labels themselves."""
        share, left = [], []
        for copies, labels, each in zip(self.copies, self.labels, self.cells_each, strict=True):
            there = max(copies, labels)
            positive = min(there * each / self.cells, 0.99)
            share.append(positive)
            left.append(positive * max(1 - labels / there, LEAST_LEFT))
        return Prior(tuple(share), tuple(left))

    def count(self, network: HybridNetwork, config: PUPickerConfig, run: Run, step: int) -> None:
        """Set ``copies`` to the number of sure peaks in the training tomograms, or in a random part of them.

        At most four times as many or as few as before: a network that has not learnt yet is not to be believed.
        """
        slabs = [(scene, start) for scene in self.scenes for start in range(0, scene.tomogram.shape[0], SLAB)]
        order = torch.randperm(len(slabs), generator=run.generator("count", step)).tolist()
        seen, whole = 0.0, sum(float(np.prod(scene.tomogram.shape)) for scene in self.scenes)
        found = np.zeros(len(self.species))
        for index in order:
            scene, start = slabs[index]
            thick = min(SLAB, scene.tomogram.shape[0] - start)
            found += self._peaks(network, scene, start, thick, config, run)
            seen += thick * float(np.prod(scene.tomogram.shape[1:]))
            if seen > LARGEST:
                break
        counted = found * whole / seen
        self.copies = [min(max(new, old / 4), old * 4) for new, old in zip(counted.tolist(), self.copies, strict=True)]

    @torch.no_grad()
    def _peaks(
        self, network: HybridNetwork, scene: Scene, start: int, thick: int, config: PUPickerConfig, run: Run
    ) -> np.ndarray:
        deep, (d, h, w) = network.margin[0], scene.tomogram.shape
        low, high = max(start - deep, 0), min(start + thick + deep, d)
        volume = scene.crop((low, 0, 0), (high - low, h, w))
        with run.autocast():
            heat = network.logits(volume[None, None].to(run.device))[0].sigmoid().float().cpu().numpy()
        diameters = [kind.diameter for kind in self.species]
        place, _, kind = centres(heat, 1.0, [x / scene.tomogram.voxel_size for x in diameters], SURE, config.spacing)
        z = np.round(place[:, 0]) + low
        return np.bincount(kind[(z >= start) & (z < start + thick)], minlength=len(self.species))


def _cells_of(sigma: Tensor) -> float:
    """What a particle counts for in cells: its soft target, weighted as the risk weights it."""
    reach = torch.arange(-int(REACH * sigma.max()) - 1, int(REACH * sigma.max()) + 2)
    sums = [torch.exp(-BETA * (reach / width) ** 2 / 2).sum() for width in sigma]
    return float(torch.stack(sums).prod())
