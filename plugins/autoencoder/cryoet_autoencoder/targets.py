"""Voxel labels from an autoencoder: nobody draws them (paper 002, section II-A; EDSS3D)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, interpolate, pad

from cryoet_core.algorithms.transforms import rotate


def foreground(
    decoded: Tensor, box: int, bin: int, iso: float, rotations: Tensor, shifts: Tensor
) -> Tensor:
    """Which voxels of cubes are the particle, (n, box, box, box) bool, from what the autoencoder
    decodes.

    decoded (n, s, s, s): ``bin`` voxels of the box a voxel, in the normalised pose, from which the
    particle came by ``rotations`` (n, 3, 3) and ``shifts`` (n, 3), voxels of the box. A voxel is
    foreground where the decoded density lies above the share ``iso`` of the way from its median,
    which is background, to its largest value: whatever the intensity scale is.
    """
    low, high = decoded.flatten(1).median(1).values, decoded.flatten(1).amax(1)
    height = (decoded - low[:, None, None, None]) / (high - low).clamp(min=1e-6)[
        :, None, None, None
    ]
    whole = _enlarged(height[:, None], box, bin)
    return rotate(whole, rotations, shifts, fill=0.0)[:, 0] > iso


def _enlarged(volumes: Tensor, box: int, bin: int) -> Tensor:
    if bin == 1:
        return volumes
    larger = interpolate(volumes, scale_factor=bin, mode="trilinear", align_corners=False)
    more = box - larger.shape[-1]  # what binning dropped at the end
    return pad(larger, (0, more) * 3, mode="replicate") if more else larger


def voxel_labels(inside: Tensor, classes: Tensor, bin: int) -> Tensor:
    """Labels (n, s, s, s) uint8, ``bin`` voxels a voxel: 0 background, else the cube's class where
    most is inside.

    inside (n, b, b, b) bool; classes (n,) uint8, 0 for cubes that are all background.
    """
    share = avg_pool3d(inside[:, None].float(), bin)[:, 0] if bin > 1 else inside.float()
    return (share >= 0.5).to(torch.uint8) * classes[:, None, None, None]


def training_rows(classes: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """Rows of cubes to train on, sorted: all with a class (n,) above 0, and as many drawn from the
    others, which are background; all of them where they are fewer."""
    chosen, others = np.flatnonzero(classes > 0), np.flatnonzero(classes == 0)
    drawn = torch.randperm(len(others), generator=generator)[: len(chosen)].numpy()
    return np.sort(np.concatenate([chosen, others[drawn]]))
