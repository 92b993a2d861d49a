"""Training of the detector: crops of slices, targets where a labelled particle is cut, the focal
loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import Tomogram
from cryoet_slice_tracing.config import SliceTracingConfig
from cryoet_slice_tracing.network import OFFSET, STRIDE

ALPHA, BETA = 2, 4
CLIP = 5.0
"""Standard deviations at which voxels are cut off, against gold and ice."""
TARGET_WIDTH = 0.1
"""Standard deviation of the target, as a share of the diameter."""


@dataclass(frozen=True)
class Scene:
    """A tomogram as the detector sees it: volume (d, h, w) standardised; centres (n, 3) in its
    voxels.
    """

    volume: Tensor
    centres: Tensor


def scene(tomogram: Tomogram, config: SliceTracingConfig) -> Scene:
    """Resample and standardise a labelled tomogram. UserError where it is smaller than a crop."""
    seen = tomogram.at(config.diameter / config.voxels_across)
    mean, deviation = seen.statistics()
    volume = torch.from_numpy((seen.read() - mean) / deviation).clamp_(-CLIP, CLIP)
    short = config.crop - min(volume.shape[1:])
    if short > 0:
        raise UserError(
            f"`crop` {config.crop}: {tomogram.where or tomogram.name} has {volume.shape[1]} x "
            f"{volume.shape[2]} (y, x) "
            f"voxels of {seen.voxel_size:.3g} Å; expected as many or more; give a smaller `crop` "
            "(a multiple of 8)"
        )
    positions = np.zeros((0, 3)) if tomogram.picks is None else tomogram.picks.positions
    return Scene(volume, torch.from_numpy(positions / seen.voxel_size).float())


def batch(
    scenes: list[Scene], config: SliceTracingConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Crops (b, 1, c, c) and targets (b, 1, c / 2, c / 2), half of the crops around labelled
    particles.
    """
    labelled = [i for i, part in enumerate(scenes) if len(part.centres)]
    crops, targets = [], []
    depth = config.labelled_depth * config.voxels_across / 2
    for number in range(config.batch_size):
        if number % 2:
            part = scenes[_draw(len(scenes), generator)]
            place = torch.rand(3, generator=generator) * torch.tensor(part.volume.shape)
        else:
            part = scenes[labelled[_draw(len(labelled), generator)]]
            place = part.centres[_draw(len(part.centres), generator)].clone()
            offset = 2 * torch.rand(3, generator=generator) - 1
            place += offset * torch.tensor([depth, config.crop / 3, config.crop / 3])
        z, y, x = _corner(place, part.volume.shape, config.crop)
        crop = part.volume[z, y : y + config.crop, x : x + config.crop]
        near = part.centres[(part.centres[:, 0] - z).abs() <= depth, 1:] - torch.tensor([y, x])
        crops.append(crop)
        targets.append(target(near, config.crop, TARGET_WIDTH * config.voxels_across))
    turns = int(torch.randint(4, (), generator=generator))
    pair = [torch.stack(some)[:, None].rot90(turns, (2, 3)) for some in (crops, targets)]
    return (
        (pair[0].flip(3), pair[1].flip(3))
        if torch.rand((), generator=generator) < 0.5
        else (pair[0], pair[1])
    )


def target(centres: Tensor, crop: int, width: float) -> Tensor:
    """Heat map (c / 2, c / 2) of centres (n, 2) in voxels: 1 at the value nearest to one, falling
    off as a Gaussian.
    """
    size = crop // STRIDE
    places = torch.arange(size) * STRIDE + OFFSET
    if not len(centres):
        return torch.zeros(size, size)
    nearest = ((centres - OFFSET) / STRIDE).round() * STRIDE + OFFSET
    squared = (places[None] - nearest[:, :1]) ** 2
    across = (places[None] - nearest[:, 1:]) ** 2
    return torch.exp(-(squared[:, :, None] + across[:, None, :]) / (2 * width**2)).amax(0)


def focal_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Penalty-reduced focal loss (Zhou, Wang, Krähenbühl 2019, arXiv 1904.07850, eq. 1), per
    labelled centre.
    """
    positive = (wanted > 0.999).to(logits)
    p = logits.sigmoid()
    hit = positive * (1 - p) ** ALPHA * torch.nn.functional.logsigmoid(logits)
    miss = (
        (1 - positive) * (1 - wanted) ** BETA * p**ALPHA * torch.nn.functional.logsigmoid(-logits)
    )
    return -(hit.sum() + miss.sum()) / positive.sum().clamp(min=1)


def _corner(place: Tensor, shape: torch.Size, crop: int) -> tuple[int, int, int]:
    """Slice and first row and column of the crop around a place, moved inside the volume."""
    z = int(place[0].round().clamp(0, shape[0] - 1))
    y, x = ((place[1:] - crop / 2).round().long()).tolist()
    return z, min(max(y, 0), shape[1] - crop), min(max(x, 0), shape[2] - crop)


def _draw(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))
