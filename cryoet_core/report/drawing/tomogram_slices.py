"""Slices through tomograms with rings where picks are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cryoet_core.report.drawing import images
from cryoet_core.report.drawing.words import Markup, text
from cryoet_core.tomograms import Tomogram

WIDEST = 760
"""Pixels of a slice at most; larger ones are shrunk."""
PLANES = ("xy", "xz", "zy")
_LYING = ((1, 2), (0, 2), (1, 0))
"""Axes that the rows and columns of the picture across z, y and x lie along: side by side they
share their edges.
"""


@dataclass(frozen=True)
class Plane:
    """A slab of a tomogram, averaged over its thickness.

    Attributes
    ----------
    axis : int
        The axis across which it lies: 0, 1, 2 for z, y, x.
    at : float
        Its middle in Å.
    pixels : ndarray
        (y, x) across z, (z, x) across y and (y, z) across x.
    size : float
        Å per pixel.
    """

    axis: int
    at: float
    pixels: np.ndarray
    size: float


@dataclass(frozen=True)
class Rings:
    """Picks that look alike.

    Attributes
    ----------
    positions : ndarray, shape (n, 3)
        Å.
    colour : str
        As ``#rrggbb``.
    dashes : str
        A dash pattern for readers who see no colours.
    word : str
        What the rings mean.
    """

    positions: np.ndarray
    colour: str
    dashes: str = ""
    word: str = ""


def planes(
    tomogram: Tomogram, positions: np.ndarray, radius: float, axes: Sequence[int] = (0, 1, 2)
) -> list[Plane]:
    """Return the slabs across each axis in which the most picks lie, half a radius thick.

    Parameters
    ----------
    tomogram : Tomogram
        The tomogram.
    positions : ndarray, shape (n, 3)
        Picks in Å.
    radius : float
        Of a particle in Å.
    axes : sequence of int
        Axes 0, 1, 2 for z, y, x.

    Returns
    -------
    list of Plane
        One for each axis.

    Raises
    ------
    UserError
        The volume holds NaN.
    """
    return [
        _plane(tomogram, axis, _busiest(tomogram, positions, axis, radius), radius) for axis in axes
    ]


def _busiest(tomogram: Tomogram, positions: np.ndarray, axis: int, radius: float) -> float:
    """The place along an axis with the most picks within half a radius; the middle where there are
    none inside.
    """
    line = positions[:, axis]
    line = np.sort(line[(line >= 0) & (line <= tomogram.extent[axis])])
    if not len(line):
        return float(tomogram.extent[axis] / 2)
    near = np.searchsorted(line, line + radius / 2, "right") - np.searchsorted(
        line, line - radius / 2
    )
    # of many places as good, the one nearest to the middle
    best = line[near == near.max()]
    return float(best[np.abs(best - tomogram.extent[axis] / 2).argmin()])


def _plane(tomogram: Tomogram, axis: int, at: float, radius: float) -> Plane:
    from PIL import Image
    from scipy.ndimage import gaussian_filter

    half = max(0, round(radius / 4 / tomogram.voxel_size))
    middle = int(np.clip(round(at / tomogram.voxel_size), 0, tomogram.shape[axis] - 1))
    region = [slice(0, n) for n in tomogram.shape]
    region[axis] = slice(max(middle - half, 0), min(middle + half + 1, tomogram.shape[axis]))
    pixels = tomogram.read((region[0], region[1], region[2])).mean(axis=axis)
    pixels = np.ascontiguousarray(pixels.T) if axis == 2 else pixels
    pixels = gaussian_filter(pixels, max(0.5, radius / 8 / tomogram.voxel_size))
    factor = WIDEST / max(pixels.shape)
    size = tomogram.voxel_size
    if factor < 1:
        shape = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
        size *= pixels.shape[1] / shape[0]
        pixels = np.asarray(Image.fromarray(pixels).resize(shape, Image.Resampling.BOX))
    return Plane(axis, middle * tomogram.voxel_size, pixels, size)


def drawn(plane: Plane, groups: Sequence[Rings], radius: float) -> Markup:
    """Draw a slab with a ring where its middle cuts a sphere about each pick.

    Parameters
    ----------
    plane : Plane
        The slab.
    groups : sequence of Rings
        The picks.
    radius : float
        Of the spheres in Å.

    Returns
    -------
    Markup
        HTML.
    """
    height, width = plane.pixels.shape
    rows, columns = _LYING[plane.axis]
    rings = []
    for group in groups:
        depth = np.abs(group.positions[:, plane.axis] - plane.at)
        near = group.positions[depth < 0.95 * radius]
        cut = np.sqrt(radius**2 - depth[depth < 0.95 * radius] ** 2) / plane.size
        circles = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{max(r, 1.5):.1f}"/>'
            for y, x, r in zip(
                near[:, rows] / plane.size + 0.5,
                near[:, columns] / plane.size + 0.5,
                cut,
                strict=True,
            )
        )
        dashes = f' stroke-dasharray="{group.dashes}"' if group.dashes else ""
        # a dark line below each, so that it is seen on bright particles
        rings.append(
            f'<g class="under">{circles}</g><g stroke="{group.colour}"{dashes}>{circles}</g>'
        )
    picture = f'<image href="{images.strip([plane.pixels])}" width="{width}" height="{height}"/>'
    svg = (
        f'<svg viewBox="0 0 {width} {height}" '
        f'role="img">{picture}{"".join(rings)}{_bar(plane)}</svg>'
    )
    said = f"{PLANES[plane.axis]} at {'zyx'[plane.axis]} = {plane.at:.0f} Å"
    return Markup(f'<figure class="slab">{svg}<figcaption>{text(said)}</figcaption></figure>')


def side_by_side(three: Sequence[Plane], groups: Sequence[Rings], radius: float) -> Markup:
    """Draw the slabs across z, y and x as three faces of a box, on one scale.

    The xz slab is below xy, and zy at its right.

    Parameters
    ----------
    three : sequence of Plane
        Slabs across z, y and x.
    groups : sequence of Rings
        The picks.
    radius : float
        Of a particle in Å.

    Returns
    -------
    Markup
        HTML.
    """
    (depth, width), height = three[1].pixels.shape, three[0].pixels.shape[0]
    pictures = "".join(drawn(plane, groups, radius) for plane in (three[0], three[2], three[1]))
    wide = min(1100, round(820 * (width + depth) / max(width, height)))
    return Markup(
        f'<div class="slabs" style="grid-template-columns:{width}fr '
        f'{depth}fr;max-width:{wide}px">{pictures}</div>'
    )


def _bar(plane: Plane) -> str:
    """Across z, a white bar of a round length in nm at the lower right."""
    if plane.axis:
        return ""
    height, width = plane.pixels.shape
    whole = width * plane.size / 10
    length = max((n for n in (5, 10, 20, 50, 100, 200, 500) if n <= whole / 4), default=0)
    if not length:
        return ""
    size, unit = 10 * length / plane.size, width / 100
    x, y = width - size - 2 * unit, height - 2.5 * unit
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{size:.1f}" height="{unit:.1f}" fill="#fff"/>'
        f'<text x="{x + size / 2:.1f}" y="{y - unit:.1f}" font-size="{2.4 * unit:.1f}" '
        'text-anchor="middle">'
        f"{length} nm</text>"
    )


def key(groups: Sequence[Rings]) -> Markup:
    """Say what the rings mean, with their number."""
    parts = []
    for group in groups:
        dashes = f' stroke-dasharray="{group.dashes}"' if group.dashes else ""
        ring = (
            '<svg class="swatch" viewBox="0 0 16 16" fill="none"><circle cx="8" cy="8" r="6" '
            'stroke="#555" '
            f'stroke-width="4"/><circle cx="8" cy="8" r="6" stroke="{group.colour}" '
            f'stroke-width="2.4"{dashes}/></svg>'
        )
        parts.append(f"<span>{ring}{text(group.word)} ({len(group.positions):,})</span>")
    return Markup(f'<p class="ringkey">{"".join(parts)}</p>')
