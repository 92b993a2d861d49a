"""How many particles there are, labelled or not, and so which share of the heat map is positive.

The risk needs the share of positive cells. Users rarely know it, but some know how many particles
to expect, and the network itself finds out: its peaks are counted twice during training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cryoet_core.algorithms.peaks import parting_value
from cryoet_core.runs.run import Run
from cryoet_core.support.errors import UserError
from cryoet_pu_picker.config import PUPickerConfig
from cryoet_pu_picker.decoding import centres
from cryoet_pu_picker.losses.pu_focal import BETA
from cryoet_pu_picker.network import STRIDE, HybridNetwork
from cryoet_pu_picker.scenes import Scene
from cryoet_pu_picker.species import Species, by_name
from cryoet_pu_picker.targets import REACH

DENSEST = 0.5
"""Share of the volume that particles of a species fill at most: no more peaks are looked at to
count them.
"""
FAINTEST = 0.02
"""Score of a peak that is looked at, at least."""
STEP = 3.0
"""Factor by which a count may change what was thought before: a network is not to be believed
before it has learnt.
"""
LEAST_LEFT = 0.05
"""Share of the particles that are taken to be unlabelled, at least."""
SLAB, LARGEST = 16, 1 << 23
"""Slices that are looked at together, and voxels that are looked at in all, to count particles."""


@dataclass(frozen=True)
class Prior:
    """Of each of c species: share (c,) of positive cells, and share ``left`` (c,) among the cells
    without a label.
    """

    share: tuple[float, ...]
    left: tuple[float, ...]


class Priors:
    """The prior of each species: given, from the expected number of copies, or from what the
    network counts.
    """

    def __init__(
        self,
        species: Sequence[Species],
        scenes: Sequence[Scene],
        sigmas: Tensor,
        config: PUPickerConfig,
    ) -> None:
        """sigmas (c, 3): widths of the soft targets in cells.

        UserError for numbers that cannot be.
        """
        self.species, self.scenes = species, scenes
        names = [kind.name for kind in species]
        sizes = [np.array(scene.tomogram.shape, dtype=float) for scene in scenes]
        voxel_size = scenes[0].tomogram.voxel_size
        self.cells = float(sum(np.prod(size) for size in sizes)) / math.prod(STRIDE)
        self.cells_each = [_cells_of(sigma) for sigma in sigmas]
        self.labels = [
            sum(int((scene.species == c).sum()) for scene in scenes) for c in range(len(species))
        ]
        self.volume = float(sum(np.prod(size) for size in sizes)) * voxel_size**3
        self.counted = False
        self.copies: list[float] = []
        """In all scenes together; where they are counted, none and no ``most`` until ``expect``."""
        self.most: list[float] = []
        if config.prior != "auto":
            given = by_name("prior", config.prior, names)
            too_large = next((name for name in names if given[name] >= 1), None)
            if too_large:
                raise UserError(
                    f"`prior` {config.prior}: a share of {given[too_large]:g}; expected less than 1"
                )
            self.copies = [
                given[name] * self.cells / each
                for name, each in zip(names, self.cells_each, strict=True)
            ]
        elif config.copies:
            expected = by_name("copies", config.copies, names)
            self.copies = [expected[name] * len(scenes) for name in names]
        else:
            self.counted = True

    def expect(self, copies: Sequence[float], run: Run) -> None:
        """Where particles are counted, begin with ``copies`` (c,), what a filter of the labels
        finds.

        It is the most that may be counted later, too: what a network counts that has learnt from
        few labels alone is far less.
        """
        if not self.counted:
            return
        self.copies = [max(count, 1.0) for count in copies]
        self.most = list(self.copies)
        for kind, count in zip(self.species, self.copies, strict=True):
            run.say(
                f"{kind.name}: a linear filter of the labels finds up to {count:.0f} in all; "
                "--copies is surer"
            )

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
        """Set ``copies`` to the number of peaks that stand out in the training tomograms."""
        scores, share = self._best(network, config, run, step)
        for c, best in enumerate(scores):
            count = float((best >= parting_value(best)).sum()) / share
            self.copies[c] = min(
                max(count, self.copies[c] / STEP), self.copies[c] * STEP, self.most[c]
            )

    def thresholds(self, network: HybridNetwork, config: PUPickerConfig, run: Run) -> list[float]:
        """The score of each species that a pick needs: that parts the peaks, or leaves as many as
        are expected.
        """
        scores, share = self._best(network, config, run, config.iterations)
        if not self.counted:
            return [_nth(best, self.copies[c] * share) for c, best in enumerate(scores)]
        return [
            max(parting_value(best), _nth(best, self.most[c] * share))
            for c, best in enumerate(scores)
        ]

    def _best(
        self, network: HybridNetwork, config: PUPickerConfig, run: Run, step: int
    ) -> tuple[list[np.ndarray], float]:
        """Scores of the best peaks of each species in the training tomograms, or a random part of
        them; its share.

        Peaks of particles and of all else are parted where their scores fall into two
        (``peaks.parting_value``), since scores of a network that still learns, or was told a wrong
        share, mean nothing by themselves. For that no more peaks are of use than particles can be.
        """
        slabs = [
            (scene, start)
            for scene in self.scenes
            for start in range(0, scene.tomogram.shape[0], SLAB)
        ]
        order = torch.randperm(len(slabs), generator=run.generator("count", step)).tolist()
        seen, whole = 0.0, sum(float(np.prod(scene.tomogram.shape)) for scene in self.scenes)
        scores: list[list[np.ndarray]] = [[] for _ in self.species]
        for index in order:
            scene, start = slabs[index]
            thick = min(SLAB, scene.tomogram.shape[0] - start)
            values, kinds = self._peaks(network, scene, start, thick, config, run)
            for c, found in enumerate(scores):
                found.append(values[kinds == c])
            seen += thick * float(np.prod(scene.tomogram.shape[1:]))
            if seen > LARGEST:
                break
        share = seen / whole
        most = [int(DENSEST * self.volume / kind.volume * share) for kind in self.species]
        return [
            -np.sort(-np.concatenate(found))[:n] for found, n in zip(scores, most, strict=True)
        ], share

    @torch.no_grad()
    def _peaks(
        self,
        network: HybridNetwork,
        scene: Scene,
        start: int,
        thick: int,
        config: PUPickerConfig,
        run: Run,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores and species of the peaks of some slices."""
        deep, (d, h, w) = network.margin[0], scene.tomogram.shape
        low, high = max(start - deep, 0), min(start + thick + deep, d)
        volume = scene.crop((low, 0, 0), (high - low, h, w))
        with run.autocast():
            heat = (
                network.logits(volume[None].to(run.device), config.turns)[0]
                .sigmoid()
                .float()
                .cpu()
                .numpy()
            )
        diameters = [kind.diameter for kind in self.species]
        across = [x / scene.tomogram.voxel_size for x in diameters]
        place, score, kind = centres(heat, 1.0, across, [FAINTEST] * len(across), config.spacing)
        z = np.round(place[:, 0]) + low
        mine = (z >= start) & (z < start + thick)
        return score[mine], kind[mine]


def _nth(falling: np.ndarray, n: float) -> float:
    """The n-th of falling scores, or the last where there are fewer; FAINTEST where there are
    none.
    """
    return float(falling[min(max(round(n), 1), len(falling)) - 1]) if len(falling) else FAINTEST


def _cells_of(sigma: Tensor) -> float:
    """What a particle counts for in cells: its soft target, weighted as the risk weights it."""
    reach = torch.arange(-int(REACH * sigma.max()) - 1, int(REACH * sigma.max()) + 2)
    sums = [torch.exp(-BETA * (reach / width) ** 2 / 2).sum() for width in sigma]
    return float(torch.stack(sums).prod())
