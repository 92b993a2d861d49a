"""Built-in complexes: subunits of a few ellipsoidal lobes, copied by a point group or a helix.

No download is needed. Sizes are those of real complexes of the kind, 11 to 30 nm. A lobe is
(centre, semi-axes), both (z, y, x) in Å, the symmetry axis being z; the lobes of all copies form
one body of even density, as protein has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from cryoet_core.simulate.shapes.density import Array, gaussian_width, resample, trim
from cryoet_core.simulate.shapes.pointgroups import axis_rotation, point_group
from cryoet_core.simulate.shapes.structures import Structure, as_structure
from cryoet_core.support.errors import UserError

Vector = tuple[float, float, float]
Lobe = tuple[Vector, Vector]
GRID = 4.0
"""Voxel size in Å of the grid on which the lobes are drawn."""


def draw_phantom(name: str, voxel_size: float, resolution: float | None = None) -> Array:
    """Draw the density of a built-in phantom.

    Parameters
    ----------
    name : str
        Name of the phantom.
    voxel_size : float
        Å per voxel.
    resolution : float, optional
        In Å; two voxels without it.

    Returns
    -------
    ndarray, shape (n, n, n)
        Its centre of mass is at n // 2.

    Raises
    ------
    UserError
        There is no such phantom; the message lists the known names.
    """
    if name not in PHANTOMS:
        raise UserError(f"`phantoms`: no phantom {name!r}; expected some of {', '.join(PHANTOMS)}")
    if not voxel_size > 0:
        raise UserError(f"`voxel_size`: {voxel_size}; expected more than 0 Å")
    body = PHANTOMS[name]()
    width = gaussian_width(2 * voxel_size if resolution is None else resolution)
    body = np.pad(body, int(np.ceil(3 * width / GRID)) + 1)
    squares = sum(
        frequency.reshape([-1 if a == axis else 1 for a in range(3)]) ** 2
        for axis, frequency in enumerate([np.fft.fftfreq(n, GRID) for n in body.shape[:2]])
    )
    squares = squares + np.fft.rfftfreq(body.shape[2], GRID) ** 2
    smooth = np.fft.irfftn(
        np.fft.rfftn(body) * np.exp(-2 * (np.pi * width) ** 2 * squares),
        s=body.shape,
        axes=(0, 1, 2),
    )
    centre = [
        (smooth.sum(tuple({0, 1, 2} - {a})) * np.arange(n)).sum() for a, n in enumerate(body.shape)
    ]
    density = resample(smooth, GRID, voxel_size, np.array(centre) / smooth.sum())
    return trim(density, 0.01 * float(density.max()))


def load_phantom(name: str, voxel_size: float, resolution: float | None = None) -> Structure:
    """Return a built-in phantom as a structure.

    Parameters
    ----------
    name : str
        Name of the phantom.
    voxel_size : float
        Å per voxel.
    resolution : float, optional
        In Å; two voxels without it.

    Returns
    -------
    Structure
        The structure.

    Raises
    ------
    UserError
        There is no such phantom.
    """
    return as_structure(name, draw_phantom(name, voxel_size, resolution), voxel_size)


def _body(lobes: list[tuple[Array, Array, Array]]) -> Array:
    """The union of ellipsoids (centre, semi-axes, orientation) as fractions of voxels."""
    reach = max(float(np.abs(centre).max() + axes.max()) for centre, axes, _ in lobes)
    half = int(np.ceil(reach / GRID)) + 1
    body = np.zeros((2 * half + 2,) * 3)
    line = (np.arange(2 * half + 2) - (half + 1)) * GRID
    for centre, axes, rotation in lobes:
        span = [np.flatnonzero(np.abs(line - c) <= axes.max() + GRID) for c in centre]
        z, y, x = np.meshgrid(
            *(line[s] - c for s, c in zip(span, centre, strict=True)), indexing="ij"
        )
        local = np.tensordot(rotation.T, np.stack((z, y, x)), axes=1) / axes[:, None, None, None]
        depth = (1 - np.sqrt((local**2).sum(0))) * axes.min() / GRID
        window = np.ix_(*span)
        body[window] = np.maximum(body[window], np.clip(depth + 0.5, 0, 1))
    return body


def _symmetric(*parts: tuple[str, list[Lobe]]) -> Array:
    """Parts, each copied by its own point group about the common origin."""
    return _body(
        [
            (rotation @ np.array(centre, dtype=float), np.array(axes, dtype=float), rotation)
            for group, lobes in parts
            for rotation in point_group(group)
            for centre, axes in lobes
        ]
    )


def _helix(lobes: list[Lobe], twist: float, rise: float, count: int) -> Array:
    copies = []
    for index in range(count):
        rotation = axis_rotation((1, 0, 0), index * twist)
        up = np.array([(index - (count - 1) / 2) * rise, 0, 0])
        copies += [
            (rotation @ np.array(c, dtype=float) + up, np.array(a, dtype=float), rotation)
            for c, a in lobes
        ]
    return _body(copies)


def _shell(group: str, direction: Vector, radius: float, lobes: list[Lobe]) -> Array:
    """Copies of a subunit whose local z axis points outwards, at ``radius`` along ``direction``."""
    outward = np.array(direction, dtype=float) / np.linalg.norm(direction)
    side = np.cross(outward, [0.3, -0.8, 0.5])
    side /= np.linalg.norm(side)
    frame = np.stack((outward, np.cross(side, outward), side), axis=1)
    return _body(
        [
            (
                rotation @ (outward * radius + frame @ np.array(c, dtype=float)),
                np.array(a, dtype=float),
                rotation @ frame,
            )
            for rotation in point_group(group)
            for c, a in lobes
        ]
    )


PHANTOMS: dict[str, Callable[[], Array]] = {
    # two back-to-back rings of seven, open inside, like a bacterial chaperonin: 16 x 15 nm
    "double-ring-c7": partial(
        _symmetric,
        (
            "C7",
            [
                ((17, 0, 43), (21, 20, 22)),
                ((52, 2, 50), (24, 19, 20)),
                ((-19, 8, 44), (20, 20, 22)),
            ],
        ),
        ("C7", [((-56, 6, 47), (24, 21, 22))]),
    ),
    # two unequal halves with stalks and a cleft, like a ribosome: 27 nm
    "large-two-lobed": partial(
        _symmetric,
        (
            "C1",
            [
                ((0, 0, -40), (76, 82, 54)),
                ((-6, 10, 40), (80, 48, 34)),
                ((68, -6, 56), (34, 40, 34)),
                ((74, -66, -34), (28, 34, 18)),
                ((56, 90, -38), (15, 40, 16)),
                ((-80, -20, 48), (30, 36, 26)),
                ((-48, 66, -60), (34, 32, 26)),
                ((4, -48, 62), (36, 34, 24)),
                ((-70, -44, -50), (26, 32, 30)),
            ],
        ),
    ),
    # a hollow shell of 60 subunits with spikes at the five-folds, like a small virus: 28 nm
    "icosahedral-shell": partial(
        _shell,
        "I",
        (0.26, 0.45, 1.35),
        100,
        [((0, 0, 0), (13, 33, 28)), ((18, 18, -6), (19, 12, 12))],
    ),
    # a piece of a two-stranded helix of 9 subunits, like actin: 28 x 10 nm
    "filament": partial(
        _helix, [((0, 0, 20), (32, 20, 25)), ((16, 16, 32), (17, 16, 14))], -166.6, 27.5, 9
    ),
    # a flat ring of six with vanes outside, like an unfoldase: 17 x 7 nm
    "ring-c6": partial(
        _symmetric,
        (
            "C6",
            [
                ((6, 0, 34), (24, 20, 20)),
                ((-12, 12, 62), (19, 15, 20)),
                ((20, -10, 52), (15, 13, 16)),
            ],
        ),
    ),
    # an irregular body of two jaws, like an RNA polymerase: 14 nm
    "two-jaws": partial(
        _symmetric,
        (
            "C1",
            [
                ((0, 0, -30), (38, 46, 28)),
                ((28, 8, 16), (20, 28, 46)),
                ((-34, -8, 14), (18, 36, 38)),
                ((-26, 44, -26), (18, 24, 20)),
                ((44, -28, -14), (18, 17, 26)),
                ((-4, -50, 12), (12, 16, 30)),
            ],
        ),
    ),
    # a closed cage of 24 subunits with windows, like ferritin: 13 nm
    "octahedral-cage": partial(
        _shell, "O", (0.35, 0.95, 1.05), 50, [((0, 0, 0), (11, 31, 14)), ((-1, 4, 17), (10, 22, 9))]
    ),
    # two dimers across each other, like beta-galactosidase: 18 x 13 x 9 nm
    "tetramer-d2": partial(
        _symmetric,
        (
            "D2",
            [
                ((38, 26, 14), (36, 28, 28)),
                ((70, 18, -14), (20, 20, 20)),
                ((14, 44, -20), (20, 22, 18)),
            ],
        ),
    ),
    # a wide square cap on a channel, like a ryanodine receptor: 24 x 24 x 13 nm
    "mushroom-c4": partial(
        _symmetric,
        (
            "C4",
            [
                ((30, 20, 62), (22, 40, 42)),
                ((26, 64, 76), (22, 38, 32)),
                ((40, 0, 32), (18, 26, 28)),
            ],
        ),
        ("C4", [((-22, 8, 24), (50, 22, 22)), ((2, 30, 44), (18, 18, 20))]),
    ),
    # three arms in a plane, like an antibody: 16 nm
    "y-shaped": partial(
        _symmetric,
        ("C2", [((40, 20, 50), (24, 19, 24)), ((18, 8, 22), (20, 15, 22))]),
        ("C1", [((-26, 0, 0), (40, 28, 18)), ((-58, 0, 0), (22, 34, 18))]),
    ),
    # a double ring closed by a dome on one side, like a chaperonin with its lid: 20 x 14 nm
    "capped-barrel": partial(
        _symmetric,
        (
            "C7",
            [
                ((-66, 0, 44), (22, 20, 20)),
                ((-32, 6, 42), (22, 19, 20)),
                ((4, 0, 48), (22, 20, 20)),
            ],
        ),
        ("C7", [((40, 0, 52), (26, 19, 17)), ((72, 4, 36), (19, 18, 20))]),
        ("C1", [((88, 0, 0), (14, 30, 30))]),
    ),
    # a head of six, a central and a side stalk, and a disc, like an ATP synthase: 21 x 12 nm
    "head-and-disc": partial(
        _symmetric,
        ("C6", [((62, 0, 31), (38, 19, 21))]),
        (
            "C1",
            [
                ((0, 6, 2), (44, 14, 14)),
                ((34, 0, -62), (62, 12, 12)),
                ((-34, 0, -50), (24, 20, 22)),
            ],
        ),
        ("C1", [((106, 0, -36), (12, 16, 28)), ((-66, 0, -42), (24, 24, 22))]),
        ("C10", [((-68, 0, 28), (32, 14, 16))]),
    ),
    # a trimer of heads on a thin stalk, like a viral spike: 18 nm
    "spike-c3": partial(
        _symmetric,
        (
            "C3",
            [
                ((50, 6, 28), (30, 24, 26)),
                ((72, 18, 40), (17, 22, 18)),
                ((10, 0, 14), (34, 15, 15)),
            ],
        ),
        ("C3", [((-48, 4, 9), (42, 11, 11))]),
    ),
    # two eclipsed rings of six, like a glutamine synthetase: 13 x 10 nm
    "double-ring-d6": partial(
        _symmetric, ("D6", [((22, 0, 40), (24, 23, 24)), ((20, 14, 22), (14, 12, 12))])
    ),
    # twelve subunits around four three-folds, open faces: 11 nm
    "tetrahedral": partial(
        _symmetric,
        (
            "T",
            [
                ((28, 28, 28), (15, 15, 15)),
                ((40, 12, 14), (14, 13, 13)),
                ((16, 36, 24), (11, 14, 11)),
            ],
        ),
    ),
    # four stacked rings of seven with narrowed ends, like a core proteasome: 16 x 12 nm
    "stacked-rings-d7": partial(
        _symmetric,
        (
            "D7",
            [
                ((18, 4, 38), (20, 18, 20)),
                ((54, -4, 36), (20, 18, 20)),
                ((68, 0, 20), (11, 12, 13)),
            ],
        ),
    ),
}
"""Name -> function that draws the body on a grid of 4 Å. The first ones differ most."""


def choose_phantoms(words: Sequence[str]) -> list[str]:
    """Return the names of the phantoms that are asked for.

    Parameters
    ----------
    words : sequence of str
        Names, or one number n for the first n.

    Returns
    -------
    list of str
        Names.

    Raises
    ------
    UserError
        A name or number is unknown.
    """
    if len(words) == 1 and words[0].isdigit():
        if not 1 <= int(words[0]) <= len(PHANTOMS):
            raise UserError(f"`phantoms`: {words[0]}; expected 1 to {len(PHANTOMS)}")
        return list(PHANTOMS)[: int(words[0])]
    for word in words:
        if word not in PHANTOMS:
            raise UserError(
                f"`phantoms`: no phantom {word!r}; expected a number or some of "
                f"{', '.join(PHANTOMS)}"
            )
    return list(words)
