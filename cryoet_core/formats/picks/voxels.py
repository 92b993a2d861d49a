"""Convert positions to voxels, for the formats that count in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryoet_core.formats.picks.model import Writing
from cryoet_core.picks.table import Picks


def in_voxels(path: Path, picks: Picks, writing: Writing) -> np.ndarray:
    """Convert positions to voxels, the first voxel at 0.

    Parameters
    ----------
    path : Path
        The file, for messages.
    picks : Picks
        The picks.
    writing : Writing
        Says the voxel sizes.

    Returns
    -------
    np.ndarray, shape (n, 3)
        Voxels, (x, y, z).

    Raises
    ------
    UserError
        Where the voxel size of a tomogram is unknown.
    """
    names, which = np.unique(picks.tomograms.astype(str), return_inverse=True)
    sizes = np.array([writing.size_of(path, str(name)) for name in names])
    if not len(picks):
        return np.zeros((0, 3))
    voxels: np.ndarray = picks.positions[:, ::-1] / sizes[which][:, None]
    return voxels
