"""Picking by difference of Gaussians: what is as bright and as large as a particle of the given
diameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from cryoet_core.algorithms.peaks import find_peaks
from cryoet_core.picks.table import Picks
from cryoet_core.plugins.config import Config, option
from cryoet_core.plugins.interfaces import InputSpec, Trainer
from cryoet_core.runs.run import Run
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import Tomogram
from cryoet_core.tomograms.tiles import score_map
from cryoet_dog.filter import BALL, difference_of_gaussians, noise_gains, reach
from cryoet_dog.threshold import automatic_threshold, noise_level

FINE, COARSE = 4.5, 3.0
"""Tomograms whose voxels are finer than sigma1 / FINE are binned to sigma1 / COARSE: the same
answer, sooner.
"""


class DogConfig(Config):
    """Lengths are in Å, so they hold for any voxel size."""

    diameter: float = option(
        0.0, "diameter of the particle, Å; needed", ge=0, le=5000, paper="sigma1 of 7 nm"
    )
    threshold: float | Literal["auto"] = option(
        "auto",
        "lowest score of a pick, in standard deviations of the noise; auto: see the README",
        paper="3/20 of range",
    )
    spacing: float = option(
        0.6,
        "picks are at least this fraction of the diameter apart",
        gt=0,
        le=10,
        paper="0.28 to 0.55 (sigma1, 2 sigma1)",
    )
    limit: int | None = option(None, "the best so many picks of each tomogram", ge=1, paper="1000")
    clip: float = option(
        4.0, "standard deviations at which voxels are cut off, against gold and ice", ge=1, le=100
    )


class DogPicker:
    """``sigma``: of the narrower Gaussian, in Å."""

    class_names = ("particle",)

    def __init__(self, config: DogConfig) -> None:
        self.config = config
        self.sigma = BALL * config.diameter / 2

    def pick(self, tomogram: Tomogram, run: Run) -> Picks:
        """Scores are the response over its noise level. UserError: the particle does not fit voxels
        or tomogram.
        """
        _check_size(tomogram, self.config.diameter)
        seen = tomogram
        if self.sigma / tomogram.voxel_size > FINE:
            seen = tomogram.at(self.sigma / COARSE)
        sigma = self.sigma / seen.voxel_size

        def response(region: Tensor) -> Tensor:
            return difference_of_gaussians(region.clamp(-self.config.clip, self.config.clip), sigma)

        margin = (reach(sigma),) * 3
        scores = score_map(seen, response, margin=margin, run=run, name="dog", working_bytes=32)[0]
        for plane, gains in zip(scores, noise_gains(seen.shape, sigma), strict=True):
            plane /= gains
        scores /= noise_level(scores)
        given = self.config.threshold
        positions, values = find_peaks(
            scores,
            distance=self.config.spacing * self.config.diameter / seen.voxel_size,
            threshold=0.0 if given == "auto" else float(given),
            limit=None if given == "auto" else self.config.limit,
        )
        if given == "auto":
            lowest = automatic_threshold(values, scores.size / sigma**3)
            run.say(f"{tomogram.name}: threshold {lowest:.2f} (noise level 1)")
            count = int((values >= lowest).sum())
            positions = positions[:count][: self.config.limit]
            values = values[:count][: self.config.limit]
        positions = np.clip(positions * seen.voxel_size, 0, tomogram.extent)
        return Picks.of(positions, tomogram.name, scores=values, class_names=self.class_names)


class DogTrainer(Trainer):
    name, task = "dog", "picking"
    summary = "template-free picking: difference of Gaussians from the particle diameter"
    inputs: ClassVar = {"data": InputSpec("tomograms to pick in", kind="tomograms", labels="never")}
    Config = DogConfig
    tiny: ClassVar = {"diameter": 96.0}

    def fit(self, inputs: Mapping[str, Any], run: Run) -> DogPicker:
        if self.config.diameter <= 0:
            raise UserError(
                "`diameter`: not given; expected the particle's diameter in Å, for instance "
                "`diameter` 250"
            )
        run.save("model", {}, {"config": self.config.model_dump(mode="json")})
        return self.load(run)

    def load(self, run: Run) -> DogPicker:
        found = run.load("model")
        if found is None:
            raise UserError(
                f"{run.dir}: holds no model; the run was not finished; see cryoet resume"
            )
        return DogPicker(DogConfig(**found[1]["config"]))


def _check_size(tomogram: Tomogram, diameter: float) -> None:
    where, across = tomogram.where or tomogram.name, diameter / tomogram.voxel_size
    if across > min(tomogram.shape):
        shape = " x ".join(map(str, tomogram.shape))
        raise UserError(
            f"`diameter` {diameter:g}: {across:.0f} voxels in {where}, which has {shape} (z, y, x) "
            "of "
            f"{tomogram.voxel_size:g} Å; expected a particle that fits; check diameter and voxel "
            "size"
        )
    if BALL * across / 2 < 1:
        raise UserError(
            f"`diameter` {diameter:g}: {across:.1f} voxels of {tomogram.voxel_size:g} Å in "
            f"{where}; expected at least "
            f"{2 / BALL:.1f}; use a tomogram that is binned less"
        )
