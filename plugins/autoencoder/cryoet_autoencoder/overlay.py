"""Draw slices of tomograms with what was segmented in colour, for the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageColor
from scipy.ndimage import gaussian_filter

from cryoet_autoencoder.pictures import FOLDER, add_pictures
from cryoet_core.report.drawing import palette
from cryoet_core.runs.run import Run
from cryoet_core.support import files
from cryoet_core.tomograms import Tomogram

TITLE = "Segmentation"
WIDEST, THICK = 900, 4
"""Pixels of a picture at most; voxels that a slice is averaged over, about."""
SHARE = 0.45
"""Of colour in a labelled pixel."""


def add_overlay(
    run: Run, name: str, seen: Tomogram, labels: np.ndarray, bin: int, classes: Sequence[str]
) -> None:
    """Draw the slice across z with most labelled voxels, plain and coloured, into ``run.results``.

    Parameters
    ----------
    run : Run
        The run: device, random numbers, log and checkpoints.
    name : str
        Name of the tomogram.
    seen : Tomogram
        The tomogram at the voxel size of the network.
    labels : np.ndarray
        Binned labels (d, h, w).
    bin : int
        Voxels averaged per axis before the network.
    classes : Sequence[str]
        Names of the classes.
    """
    plane = int((labels > 0).sum((1, 2)).argmax())
    depth = seen.shape[0]
    middle = min(plane * bin + bin // 2, depth - 1)
    part = slice(max(middle - THICK // 2, 0), middle + THICK // 2 + 1)
    grey = gaussian_filter(
        seen.read((part, slice(0, seen.shape[1]), slice(0, seen.shape[2]))).mean(0), 1.0
    )
    low, high = np.percentile(grey, (1, 99.5))
    shown = np.clip((grey - low) / max(high - low, 1e-12), 0, 1)[..., None] * np.full(3, 255.0)
    rows, columns = (
        np.minimum(np.arange(n) // bin, m - 1)
        for n, m in zip(grey.shape, labels.shape[1:], strict=True)
    )
    label = labels[plane][np.ix_(rows, columns)]
    painted = shown.copy()
    for index in range(len(classes)):
        colour = np.array(ImageColor.getrgb(palette.mark(index).colour), dtype=float)
        painted[label == index + 1] = (1 - SHARE) * painted[label == index + 1] + SHARE * colour
    path = run.results / FOLDER / f"segmentation_{name}.png"
    files.make_folder(path.parent)
    both = Image.fromarray(
        np.hstack([shown, np.full((len(shown), 4, 3), 255.0), painted]).astype(np.uint8)
    )
    if both.width > 2 * WIDEST:
        both = both.resize(
            (2 * WIDEST, round(both.height * 2 * WIDEST / both.width)), Image.Resampling.BOX
        )
    with files.replacing(path) as beside:
        both.save(beside, "PNG", optimize=True)
    entry = {
        "file": f"{FOLDER}/{path.name}",
        "caption": f"{name}, z = {plane * bin * seen.voxel_size:.0f} Å",
    }
    note = (
        "The slice across z with the most labelled voxels, plain and with labels: "
        f"{', '.join(classes)}."
    )
    add_pictures(run.results, TITLE, note, entry)
