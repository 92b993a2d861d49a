"""Crops for training: small pieces of tomograms with the labelled centres in and around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cryoet_pu_picker.bands import Bands
from cryoet_pu_picker.config import PUPickerConfig
from cryoet_pu_picker.scenes import Scene


class Crops(NamedTuple):
    """volumes (b, k, d, h, w), the bands; positions (n, 3) in voxels of crop ``rows`` (n,); species
    (n,).
    """

    volumes: Tensor
    positions: Tensor
    species: Tensor
    rows: Tensor


class Sampler:
    """Draws the crops of a step: of each pair the first at a label, the second at another label or
    anywhere.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        config: PUPickerConfig,
        reach: Sequence[float],
        bands: Bands | None = None,
    ) -> None:
        """reach: how far (z, y, x) in voxels outside a crop a label can still show in it."""
        self.scenes, self.config, self.reach, self.bands = scenes, config, np.asarray(reach), bands
        smallest = np.min([scene.tomogram.shape for scene in scenes], axis=0)
        wanted = np.array([config.crop_depth, config.crop, config.crop])
        self.shape = np.minimum(wanted, smallest - smallest % (1, 2, 2))
        self.labels = [
            (i, j) for i, scene in enumerate(scenes) for j in range(len(scene.positions))
        ]
        self.chances = _even_chances([int(scenes[i].species[j]) for i, j in self.labels])
        sizes = np.array([np.prod(np.array(scene.tomogram.shape, dtype=float)) for scene in scenes])
        self.sizes = sizes / sizes.sum()

    def draw(self, generator: torch.Generator, noise: float = 0.0) -> Crops:
        """The crops of one step, both of each pair after each other; ``noise``: deviation of what
        is added.
        """
        random = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        parts = []
        for _ in range(self.config.pairs):
            parts.append(self._at_label(random, noise))
            second = self._anywhere if random.random() < self.config.elsewhere else self._at_label
            parts.append(second(random, noise))
        positions = [part[1] for part in parts]
        return Crops(
            torch.stack([part[0] for part in parts]).float(),
            torch.cat(positions),
            torch.cat([part[2] for part in parts]),
            torch.repeat_interleave(
                torch.arange(len(parts)), torch.tensor([len(p) for p in positions])
            ),
        )

    def _at_label(self, random: np.random.Generator, noise: float) -> tuple[Tensor, Tensor, Tensor]:
        scene, label = self.labels[random.choice(len(self.labels), p=self.chances)]
        jitter = random.uniform(-0.5, 0.5, 3) * self.shape / (1, 2, 2)
        middle = self.scenes[scene].positions[label] + jitter
        return self._cut(scene, middle - (self.shape - 1) / 2, random, noise)

    def _anywhere(self, random: np.random.Generator, noise: float) -> tuple[Tensor, Tensor, Tensor]:
        scene = int(random.choice(len(self.scenes), p=self.sizes))
        space = np.array(self.scenes[scene].tomogram.shape) - self.shape
        return self._cut(scene, random.uniform(-0.5, space + 0.5), random, noise)

    def _cut(
        self, index: int, corner: np.ndarray, random: np.random.Generator, noise: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        scene = self.scenes[index]
        space = np.array(scene.tomogram.shape) - self.shape
        start = np.clip(np.round(corner).astype(int), 0, space)
        volume = scene.crop(start, self.shape, self.bands, _noise(random, noise))
        inside = scene.positions - start
        near = ((inside > -self.reach) & (inside < self.shape + self.reach)).all(1)
        positions, species = torch.from_numpy(inside[near]), torch.from_numpy(scene.species[near])
        if self.config.augment:
            volume, positions = turned(
                volume, positions, random.integers(0, 2, 3).tolist(), int(random.integers(4))
            )
        return volume, positions, species


def _noise(random: np.random.Generator, deviation: float) -> Callable[[torch.Size], Tensor] | None:
    if not deviation:
        return None
    key = torch.Generator().manual_seed(int(random.integers(2**62)))
    return lambda shape: deviation * torch.randn(shape, generator=key)


def turned(
    volume: Tensor, positions: Tensor, flips: Sequence[int], quarters: int
) -> tuple[Tensor, Tensor]:
    """A crop (k, d, h, w) and positions in it, mirrored along axes and, where it is square, turned
    about the beam.
    """
    positions = positions.clone()
    for axis, flip in enumerate(flips):
        if flip:
            volume = volume.flip(1 + axis)
            positions[:, axis] = volume.shape[1 + axis] - 1 - positions[:, axis]
    if volume.shape[2] != volume.shape[3]:
        return volume, positions
    for _ in range(quarters):
        volume = volume.transpose(2, 3).flip(2)
        positions = torch.stack(
            (positions[:, 0], volume.shape[2] - 1 - positions[:, 2], positions[:, 1]), 1
        )
    return volume, positions


def _even_chances(species: Sequence[int]) -> np.ndarray:
    """Chances of labels so that each species is drawn as often."""
    counts = np.bincount(species)
    chances = 1.0 / counts[np.asarray(species)]
    shares: np.ndarray = chances / chances.sum()
    return shares
