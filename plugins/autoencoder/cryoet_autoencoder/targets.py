"""Make voxel labels from an autoencoder: nobody draws them (EDSS3D; Uddin 2021, section II-A)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, interpolate, pad

from cryoet_core.algorithms.transforms import rotate


def foreground(
    decoded: Tensor, box: int, bin: int, iso: float, rotations: Tensor, shifts: Tensor
) -> Tensor:
    """Find the voxels that are the particle, from what the autoencoder decodes.

    A voxel is foreground where the decoded density lies above the fraction ``iso`` of the way from
    its median, which is background, to its largest value: whatever the intensity scale is.

    Parameters
    ----------
    decoded : Tensor
        Decoded volumes (n, s, s, s) in the normalised pose, ``bin`` voxels of the box a voxel.
    box : int
        Box size in voxels.
    bin : int
        Voxels averaged per axis before the network.
    iso : float
        Fraction of the way from median to maximum.
    rotations : Tensor
        Rotations (n, 3, 3) from the normalised pose to the particle.
    shifts : Tensor
        Shifts (n, 3) from the normalised pose to the particle, voxels of the box.

    Returns
    -------
    Tensor
        Foreground (n, box, box, box) bool.
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
    """Label voxels with the class of their subtomogram where most is inside.

    Parameters
    ----------
    inside : Tensor
        Foreground (n, b, b, b) bool.
    classes : Tensor
        Class of each subtomogram (n,) uint8, 0 for those that are all background.
    bin : int
        Voxels of the box a voxel.

    Returns
    -------
    Tensor
        Labels (n, s, s, s) uint8, 0 background.
    """
    share = avg_pool3d(inside[:, None].float(), bin)[:, 0] if bin > 1 else inside.float()
    return (share >= 0.5).to(torch.uint8) * classes[:, None, None, None]


def training_rows(classes: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """Return rows of subtomograms to train on, sorted.

    They are all with a class (n,) above 0, and as many drawn from the others, which are
    background; all of the others where they are fewer.
    """
    chosen, others = np.flatnonzero(classes > 0), np.flatnonzero(classes == 0)
    drawn = torch.randperm(len(others), generator=generator)[: len(chosen)].numpy()
    return np.sort(np.concatenate([chosen, others[drawn]]))
