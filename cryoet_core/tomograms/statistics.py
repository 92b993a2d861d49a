"""How bright a tomogram is, from a sample of it, and which of its slices hold NaN."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from cryoet_core.support.errors import UserError

if TYPE_CHECKING:
    from cryoet_core.tomograms.tomogram import Tomogram
    from cryoet_core.tomograms.volume import Region, Volume

SAMPLED = 1 << 22
"""Voxels that the sample has, about; smaller volumes are read as a whole."""
THICK, SLABS = 4, 16
CLIPPED = 4.0
"""Values further from the mean than this many standard deviations are outliers: gold, cut edges,
hot pixels.
"""
_MOST_KEPT = 0.9
_SLAB_VOXELS = 1 << 22


def robust_statistics(tomogram: Tomogram) -> tuple[float, float]:
    """Compute mean and standard deviation of a tomogram's values by repeated clipping.

    Parameters
    ----------
    tomogram : Tomogram
        A sample of it is read, see ``sample_regions``.

    Returns
    -------
    mean, standard deviation : float
        Of the protein-bright values, without outliers.

    Raises
    ------
    UserError
        The tomogram is constant.
    """
    values = np.concatenate(
        [tomogram.read(region).ravel() for region in sample_regions(tomogram.shape)]
    )
    mean, std = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    if std <= 1e-6 * abs(mean):
        raise UserError(
            f"{tomogram.where or tomogram.name}: constant ({mean:g} everywhere); expected a "
            "tomogram that varies; "
            "make or copy it again"
        )
    count = len(values)
    for _ in range(5):
        kept = values[np.abs(values - mean) <= CLIPPED * std]
        narrower = float(kept.std(dtype=np.float64))
        # a few particles on a background without noise: clipping would take all that varies
        if len(kept) == len(values) or len(kept) < _MOST_KEPT * count or narrower < 0.01 * std:
            break
        values, mean, std = kept, float(kept.mean(dtype=np.float64)), narrower
    return mean, std


def sample_regions(shape: tuple[int, int, int]) -> list[Region]:
    """Return regions of about ``SAMPLED`` voxels together.

    They are slabs spread evenly over z, and bands of slabs where the volume is wide.
    """
    d, h, w = shape
    if d * h * w <= SAMPLED:
        return [(slice(0, d), slice(0, h), slice(0, w))]
    thick = min(THICK, d)
    rows = max(1, min(h, SAMPLED // (thick * w * min(SLABS, d // thick))))
    count = min(max(1, SAMPLED // (thick * rows * w)), d // thick)
    tops = [round(i * (d - thick) / max(count - 1, 1)) for i in range(count)]
    # bands go through y by the golden ratio, so that they meet every part of it
    lefts = [int((0.5 + i * 0.6180339887) % 1 * (h - rows)) for i in range(count)]
    return [
        (slice(z, z + thick), slice(y, y + rows), slice(0, w))
        for z, y in zip(tops, lefts, strict=True)
    ]


def slabs(shape: tuple[int, int, int], thick: int | None = None) -> Iterator[slice]:
    """Yield slices along z that cover a volume.

    Parameters
    ----------
    shape : (int, int, int)
        Voxels (z, y, x).
    thick : int, optional
        Slices in each; as many as make some 4 million voxels without it.
    """
    d, h, w = shape
    step = thick or max(1, _SLAB_VOXELS // (h * w))
    for start in range(0, d, step):
        yield slice(start, min(start + step, d))


def bad_slices(volume: Volume) -> list[int]:
    """Return the z slices of the whole volume that hold NaN or infinity."""
    bad: list[int] = []
    everything = slice(None)
    for part in slabs(volume.shape):
        values = volume.read((part, everything, everything))
        bad += (part.start + np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))).tolist()
    return bad


def describe_bad_slices(volume: Volume) -> str:
    """Say what is wrong with a volume that holds NaN, for a message; of a view, with its file."""
    volume = getattr(volume, "source", volume)
    return describe_bad(bad_slices(volume), volume.shape[0])


def describe_bad(bad: list[int], count: int) -> str:
    """Say which z slices hold NaN, for a message.

    Parameters
    ----------
    bad : list of int
        The z slices.
    count : int
        The number of slices of the volume.
    """
    slices = f"z slice{'s' if len(bad) != 1 else ''} {ranges(bad)} (from 0, of {count})"
    return f"NaN or infinite voxels in {slices}; expected numbers; repair or crop it"


def ranges(numbers: list[int], most: int = 6) -> str:
    """List rising numbers, with runs drawn together.

    Parameters
    ----------
    numbers : list of int
        Rising numbers.
    most : int
        The most runs that are listed.

    Examples
    --------
    >>> ranges([3, 7, 8, 9, 40])
    '3, 7-9, 40'
    """
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    shown = ", ".join(
        str(first) if first == last else f"{first}-{last}" for first, last in runs[:most]
    )
    return shown + (f" and {len(runs) - most} more stretches" if len(runs) > most else "")
