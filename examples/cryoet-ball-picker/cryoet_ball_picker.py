"""Picks where a ball of the particle's diameter is brighter than its surroundings."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from cryoet_core import hookimpl
from cryoet_core.algorithms.peaks import find_peaks
from cryoet_core.picks.table import Picks
from cryoet_core.plugins.config import Config, option
from cryoet_core.plugins.interfaces import InputSpec, Trainer
from cryoet_core.support.errors import UserError

VOXELS = 8
"""Voxels across a particle: enough to see a ball, and few to compute."""


class BallPickerConfig(Config):
    diameter: float = option(0.0, "diameter of the particle, Å; needed", ge=0, le=5000)
    threshold: float = option(4.0, "lowest score, in standard deviations of the score map", gt=0)


class BallPicker(Trainer):
    name, task = "ball_picker", "picking"
    summary = "bright balls of a given diameter"
    inputs: ClassVar = {"data": InputSpec("tomograms to pick in", kind="tomograms", labels="never")}
    Config = BallPickerConfig
    tiny: ClassVar = {"diameter": 96.0, "threshold": 2.0}

    def fit(self, inputs, run):
        if self.config.diameter <= 0:
            raise UserError("`diameter`: not given; expected the particle's diameter in Å")
        run.save("model", {}, {"diameter": self.config.diameter})
        return self.load(run)

    def load(self, run):
        return Picker(run.load("model")[1]["diameter"], self.config.threshold)


class Picker:
    class_names = ("particle",)

    def __init__(self, diameter, threshold):
        self.diameter, self.threshold = diameter, threshold

    def pick(self, tomogram, run):
        # voxels of a size at which every particle has the same number of them
        seen = tomogram.at(self.diameter / VOXELS)
        if min(seen.shape) < VOXELS:
            raise UserError(f"{tomogram.name}: smaller than a particle of {self.diameter:g} Å")
        volume = torch.from_numpy(seen.read()).to(run.device)  # (z, y, x), protein bright
        scores = torch.nn.functional.conv3d(volume[None, None], kernel().to(run.device), padding=7)
        scores = scores[0, 0] / scores.std()
        positions, values = find_peaks(
            scores, distance=0.7 * VOXELS, threshold=self.threshold, border=(2, 2, 2)
        )
        positions = np.asarray(positions) * seen.voxel_size  # Å from the centre of the first voxel
        positions = np.clip(positions, 0, tomogram.extent)
        return Picks.of(
            positions, tomogram.name, scores=np.asarray(values), class_names=self.class_names
        )


def kernel():
    """(1, 1, 15, 15, 15): a ball less the shell of the same volume around it; it sums to 0."""
    axis = torch.arange(15) - 7
    radius = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    ball = (radius <= VOXELS / 2).float()
    shell = ((radius > VOXELS / 2) & (radius <= 0.75 * VOXELS)).float()
    return (ball / ball.sum() - shell / shell.sum())[None, None]


@hookimpl
def cryoet_trainers():
    return [BallPicker]
