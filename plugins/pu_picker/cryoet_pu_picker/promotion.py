"""More labels from few: what looks most like the labelled particles to a linear filter is labelled
as well.

A handful of labels shows the network too little, but is enough for Fisher's linear discriminant on
a few smooth bands. Of a particle that is the largest or densest around, nearly all of its best
peaks are right; of others few are. Which of the two it is shows in how many it finds: a filter that
seems to find far more than can be there is not believed.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import pad

from cryoet_core.algorithms.peaks import find_peaks, parting_value
from cryoet_core.runs.run import Run
from cryoet_core.tomograms.tiles import score_map
from cryoet_pu_picker.bands import Bands
from cryoet_pu_picker.decoding import apart
from cryoet_pu_picker.network import Filter
from cryoet_pu_picker.prior import DENSEST, Priors
from cryoet_pu_picker.scenes import Scene
from cryoet_pu_picker.species import Species

TOO_MANY = 2.5
"""Times the expected copies that the filter may find, at most.

Of five labels it found 0.6 to 1.8 times the ribosomes in tomograms of seeds 10 and 11, at SNR 0.1
and 0.03; where fewer than half of its best peaks were right, 2.1 to 12 times, mostly over 3.
"""
BALL_LABELS = 5
"""Labels that weigh as much as what is known before: that a particle is a ball of its diameter."""
RIDGE = 1e-3
"""Added to the covariance of the bands, whose deviations are 1."""
NEAR = 0.5
"""Diameters: what is nearer to a label is that label."""


class Likely(NamedTuple):
    """The filter of each species, and its peaks that are no labels yet.

    peaks: of each scene positions (n, 3) in voxels, species (n,) and scores (n,), best first.
    copies (c,): how many particles of a species there are, labels and peaks.
    """

    filters: list[Filter]
    peaks: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
    copies: list[float]


def likely(
    scenes: Sequence[Scene], species: Sequence[Species], bands: Bands, spacing: float, run: Run
) -> Likely:
    """What looks like the labels to a linear filter for each species.

    Labels are a random part of the particles, so about as many of these score above the labels'
    mean as below it: particles without a label are about twice the peaks above it, fewer where
    those are something else. (Of five labels the mean is surer than the median.) Nor are they more
    than what stands out from all peaks, particles or not.
    """
    filters = [_discriminant(scenes, c, bands) for c in range(len(species))]
    weights = torch.stack([each.weights for each in filters])
    peaks = [_peaks(scene, species, weights, bands, spacing, run) for scene in scenes]
    scores, kinds = (np.concatenate([found[i] for found in peaks]) for i in (2, 1))
    volume = sum(np.prod(scene.tomogram.extent) for scene in scenes)
    copies = []
    for c, kind in enumerate(species):
        best = -np.sort(-scores[kinds == c])[: int(DENSEST * volume / kind.volume)]
        above, standing = (
            (best >= level).sum() for level in (filters[c].level, parting_value(best))
        )
        copies.append(
            float(sum((scene.species == c).sum() for scene in scenes) + min(2 * above, standing))
        )
    return Likely(filters, peaks, copies)


def promoted(
    scenes: Sequence[Scene],
    species: Sequence[Species],
    priors: Priors,
    found: Likely,
    share: float,
    run: Run,
) -> list[Scene]:
    """The scenes with more labels.

    share: of the particles that have no label, by the expected number of copies. Where the filter
    seems to find far more than these, no labels are added.
    """
    if share == 0:
        return list(scenes)
    scores, kinds = (np.concatenate([each[i] for each in found.peaks]) for i in (2, 1))
    kept = np.zeros(len(scores), bool)
    for c, (copies, labels) in enumerate(zip(priors.copies, priors.labels, strict=True)):
        if found.copies[c] > TOO_MANY * copies:
            run.say(
                f"{species[c].name}: others look alike to a linear filter, so no labels are added"
            )
            continue
        rows = np.flatnonzero(kinds == c)
        best = rows[np.argsort(-scores[rows], kind="stable")][
            : max(round(share * (copies - labels)), 0)
        ]
        kept[best] = True
        run.say(
            f"{species[c].name}: {labels} labels, and {len(best)} that a linear filter of them "
            "finds"
        )
    parts = np.split(kept, np.cumsum([len(each[0]) for each in found.peaks])[:-1])
    return [
        replace(
            scene,
            positions=np.concatenate((scene.positions, place[part])),
            species=np.concatenate((scene.species, kind[part])),
        )
        for scene, (place, kind, _), part in zip(scenes, found.peaks, parts, strict=True)
    ]


def _discriminant(scenes: Sequence[Scene], c: int, bands: Bands) -> Filter:
    """What parts the labels of a species from everything else best, if both are normal with one
    covariance.

    From all bands but the blobs, which are differences of them. Of few labels the mean is
    uncertain, so it is drawn to that of a ball of the species' size, which counts as
    ``BALL_LABELS`` labels.
    """
    used = bands.channels - len(bands.balls)
    middles = torch.cat(
        [bands(scene.middle())[0].flatten(1) for scene in scenes if len(scene.positions)], 1
    ).double()
    every, about = torch.cov(middles), middles[:used].mean(1)
    covariance = every[:used, :used] + RIDGE * torch.eye(used, dtype=every.dtype)
    own = _at_labels(scenes, c, bands).double()
    # of all labels, and of all but each one
    counts = torch.tensor([len(own), *[max(len(own) - 1, 1)] * len(own)])[:, None]
    means = (
        torch.cat((own.sum(0, keepdim=True), own.sum(0) - own if len(own) > 1 else own)) / counts
    )
    gaps = means[:, :used] - about
    if bands.balls:
        blob = used + c
        ball = every[:used, blob] / every[blob, blob] * means[:, blob, None]
        gaps = (counts * gaps + BALL_LABELS * ball) / (counts + BALL_LABELS)
    weights = torch.linalg.solve(covariance, gaps.T).T
    weights = weights / ((weights @ covariance) * weights).sum(1, keepdim=True).sqrt()
    level = (weights[1:] * own[:, :used]).sum(1).mean()
    return Filter(pad(weights[0].float(), (0, len(bands.balls))), float(level))


def _at_labels(scenes: Sequence[Scene], c: int, bands: Bands) -> Tensor:
    """(n, k): the bands at the labels of a species."""
    rows = []
    for scene in scenes:
        last = np.array(scene.tomogram.shape) - 1
        for place in scene.positions[scene.species == c]:
            voxel = np.clip(np.round(place).astype(int), 0, last)
            rows.append(scene.crop(voxel, (1, 1, 1), bands).flatten())
    return torch.stack(rows)


def _peaks(
    scene: Scene,
    species: Sequence[Species],
    filters: Tensor,
    bands: Bands,
    spacing: float,
    run: Run,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (n, 3) in voxels, species (n,) and scores (n,) of what is positive and no label
    yet, best first.
    """
    on_device = filters.to(run.device)
    maps = score_map(
        scene.tomogram,
        lambda volume: torch.einsum("ck,bkdhw->bcdhw", on_device, bands(volume)),
        margin=(bands.reach,) * 3,
        run=run,
        channels=len(species),
        name="promotion",
    ).copy()
    shutil.rmtree(run.scratch, ignore_errors=True)
    across = np.array([kind.diameter for kind in species]) / scene.tomogram.voxel_size
    parts = [
        find_peaks(each, distance=spacing * wide, threshold=0.0)
        for each, wide in zip(maps, across, strict=True)
    ]
    place = np.concatenate([found for found, _ in parts])
    score = np.concatenate([values for _, values in parts])
    kind = np.repeat(np.arange(len(species)), [len(values) for _, values in parts])
    if len(scene.positions):
        far = cKDTree(scene.positions).query(place)[0] >= NEAR * across[kind]
        place, score, kind = place[far], score[far], kind[far]
    order = np.argsort(-score, kind="stable")
    order = order[apart(place[order], spacing * across[kind[order]])]
    return place[order], kind[order], score[order]
