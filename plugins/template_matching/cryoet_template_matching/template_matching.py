"""Picking by template matching: a coarse search over all rotations, a threshold, then refinement at
the candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from cryoet_core.algorithms.peaks import far_apart, find_peaks, parting_value
from cryoet_core.picks.table import Picks
from cryoet_core.plugins.interfaces import InputSpec, Trainer
from cryoet_core.runs.run import Run
from cryoet_core.support.errors import RunError, UserError
from cryoet_core.tomograms import Tomogram
from cryoet_core.tomograms.tiles import score_map
from cryoet_template_matching import template as templates
from cryoet_template_matching.config import BALL, TemplateMatchingConfig
from cryoet_template_matching.filters import radial_filter, seen_frequencies
from cryoet_template_matching.matcher import Matcher, box_of
from cryoet_template_matching.refine import Refined, refine
from cryoet_template_matching.rotations import rotation_set
from cryoet_template_matching.template import Template
from cryoet_template_matching.threshold import noise_threshold

LEAST_RADIUS = 3.0
"""Voxels; a smaller particle is a few voxels, in which no rotation can be told."""
BATCH = {"cpu": 2, "cuda": 16}
"""Rotations whose transforms are computed together."""
WORKING_BYTES = {"cpu": 768, "cuda": 320}
"""Per voxel of a tile. A CPU needs 96; more makes tiles that stay in its cache and are minutes of
work, not hours.
"""


@dataclass(frozen=True)
class _Found:
    """The search's maps of one tomogram (d, h, w): best score, index of its rotation; the volume as
    compared.
    """

    scores: np.ndarray
    index: np.ndarray
    volume: np.ndarray
    square: float


class TemplateMatchingPicker:
    """Finds one template; its picks carry rotations unless it is a ball."""

    def __init__(self, config: TemplateMatchingConfig, template: Template) -> None:
        self.config, self.template = config, template
        self.class_names = (template.name,)
        self.radius = config.diameter / 2 if config.diameter else template.radius
        """Å, of the sphere that is compared."""
        self.rotations = (
            torch.eye(3)[None]
            if config.template == BALL
            else rotation_set(config.angular_step, config.symmetry)
        )

    def pick(self, tomogram: Tomogram, run: Run) -> Picks:
        """Scores are locally normalised correlations. UserError: the template does not fit voxels
        or tomogram.
        """
        seen = tomogram.at(self._voxel_size(tomogram))
        self._check_size(seen)
        matcher = self._matcher(seen, run)
        found = self._search(seen, matcher, run)
        lowest = self._lowest(found)
        spacing = 2 * self.config.spacing * self.radius / seen.voxel_size
        positions, values = find_peaks(found.scores, distance=spacing, threshold=min(0.0, lowest))
        above = int((values >= lowest).sum())
        tried = slice(min(above, self.config.limit or above))
        picked = self._refined(matcher, found, positions[tried], values[tried], run)
        if self.config.threshold == "auto":
            noise = lowest
            lowest = max(noise, parting_value(np.concatenate((picked.scores, values[above:]))))
            run.say(
                f"{tomogram.name}: threshold {lowest:.3f} (noise alone stays below {noise:.3f})"
            )
        return self._picks(picked, lowest, spacing, seen, tomogram)

    def _voxel_size(self, tomogram: Tomogram) -> float:
        """Å of the search: two voxels, the finest detail, are what a step of the rotations moves
        the rim by.
        """
        wish = self.config.search_voxel_size
        if wish == "data":
            return tomogram.voxel_size
        if wish != "auto":
            return float(wish)
        arc = math.radians(self.config.angular_step) * self.radius
        return max(tomogram.voxel_size, min(arc / 2, self.radius / 6))

    def _check_size(self, seen: Tomogram) -> None:
        where, across = seen.where or seen.name, 2 * self.radius / seen.voxel_size
        if across > min(seen.shape):
            shape = " x ".join(map(str, seen.shape))
            raise UserError(
                f"`template`: {2 * self.radius:.0f} Å across, {across:.0f} voxels of {where}, "
                f"which has {shape} "
                f"(z, y, x) of {seen.voxel_size:.3g} Å; expected a particle that fits; check voxel "
                "sizes or `diameter`"
            )
        if across < 2 * LEAST_RADIUS:
            raise UserError(
                f"`template`: {2 * self.radius:.0f} Å are {across:.1f} voxels of "
                f"{seen.voxel_size:.3g} Å in {where}; "
                f"expected {2 * LEAST_RADIUS:g} or more; use finer voxels (the tomogram's or "
                "`search_voxel_size`)"
            )

    def _matcher(self, seen: Tomogram, run: Run) -> Matcher:
        radius = self.radius / seen.voxel_size
        if self.config.wedge and seen.tilt_range is None:
            run.say(
                f"note: {seen.name}: no tilt range is known, so the template has no missing wedge"
            )
        return Matcher(
            self.template.at(seen.voxel_size),
            radius,
            seen_frequencies(self.config, seen, box_of(radius)),
            radial_filter(self.config, seen, math.ceil(radius)),
            run.device,
        )

    def _search(self, seen: Tomogram, matcher: Matcher, run: Run) -> _Found:
        batch, clip = BATCH.get(run.device.type, 2), self.config.clip
        margin = matcher.margin

        def compare(region: Tensor) -> Tensor:
            found = matcher.search(region[0, 0].clamp(-clip, clip), self.rotations, batch)
            maps = region.new_full((1, 4, *region.shape[2:]), found.square)
            z, y, x = (slice(margin, n - margin) for n in region.shape[2:])
            maps[0, :3, z, y, x] = torch.stack((found.best, found.index.float(), found.volume))
            return maps

        with run.timer("search"):
            maps = score_map(
                seen,
                compare,
                margin=(margin,) * 3,
                run=run,
                channels=4,
                name="template matching",
                working_bytes=WORKING_BYTES.get(run.device.type, WORKING_BYTES["cpu"]),
            )
        return _Found(maps[0], maps[1], maps[2], float(maps[3].mean(dtype=np.float64)))

    def _lowest(self, found: _Found) -> float:
        """The score of a candidate: the threshold that is given, or what noise does not reach."""
        if self.config.threshold != "auto":
            return float(self.config.threshold)
        return noise_threshold(
            found.square, found.scores.size, len(self.rotations), self.config.false_positives
        )

    def _refined(
        self, matcher: Matcher, found: _Found, positions: np.ndarray, values: np.ndarray, run: Run
    ) -> Refined:
        """The peaks with rotations, improved where the options say so."""
        places = tuple(
            np.clip(np.rint(positions).astype(int), 0, np.array(found.scores.shape) - 1).T
        )
        rotations = self.rotations[torch.from_numpy(found.index[places].astype(np.int64))]
        if not self.config.refine or not len(values) or len(self.rotations) == 1:
            return Refined(positions, rotations.double().numpy(), values)
        with run.timer("refinement"):
            return refine(matcher, found.volume, positions, rotations, self.config.angular_step)

    def _picks(
        self, picked: Refined, threshold: float, spacing: float, seen: Tomogram, tomogram: Tomogram
    ) -> Picks:
        """Best first, none nearer to a better one than the spacing, which refinement may have
        brought about.
        """
        order = np.argsort(-picked.scores, kind="stable")
        order = order[picked.scores[order] >= threshold]
        order = order[far_apart(picked.positions[order], spacing)]
        return Picks.of(
            np.clip(picked.positions[order] * seen.voxel_size, 0, tomogram.extent),
            tomogram.name,
            scores=picked.scores[order],
            class_names=self.class_names,
            rotations=None if self.config.template == BALL else picked.rotations[order],
        )


class TemplateMatchingTrainer(Trainer):
    name, task = "template_matching", "picking"
    summary = "a known structure, found by locally normalised correlation over all rotations"
    inputs: ClassVar = {"data": InputSpec("tomograms to pick in", kind="tomograms", labels="never")}
    Config = TemplateMatchingConfig
    tiny: ClassVar = {"template": BALL, "diameter": 96.0}

    def fit(self, inputs: Mapping[str, Any], run: Run) -> TemplateMatchingPicker:
        if run.load("model") is None:
            template = self._template(inputs["data"].voxel_size)
            state = {
                "name": template.name,
                "voxel_size": template.voxel_size,
                "radius": template.radius,
            }
            run.save("model", {"density": torch.from_numpy(template.density)}, state)
        return self.load(run)

    def _template(self, voxel_size: float) -> Template:
        """Kept twice as fine as the data, for data that is finer later."""
        config = self.config
        if not config.template:
            raise UserError(
                "`template`: not given; expected a map (MRC) or a model (PDB, mmCIF) of the "
                "particle"
            )
        if config.template == BALL:
            if config.diameter is None:
                raise UserError("`template` ball: needs `diameter`, in Å")
            return templates.ball(config.diameter, voxel_size / 2)
        return templates.read_template(
            Path(config.template),
            voxel_size / 2,
            contrast=config.template_contrast,
            centre=config.template_centre,
            voxel_size=config.template_voxel_size,
        )

    def load(self, run: Run) -> TemplateMatchingPicker:
        found = run.load("model")
        if found is None:
            raise RunError(
                f"{run.dir}: holds no model; the run was not finished; see cryoet resume"
            )
        tensors, state = found
        template = Template(
            state["name"], tensors["density"].numpy(), state["voxel_size"], state["radius"]
        )
        return TemplateMatchingPicker(self.config, template)
