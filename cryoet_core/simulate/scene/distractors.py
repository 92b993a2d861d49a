"""What surrounds particles in a cell and is none: membranes, filaments and gold beads.

Lengths are in Å. Densities are relative to protein's (1). Each thing is drawn as a sparse list of
voxels, refused where something lies already, and may leave the volume through its faces (beads may
not).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoet_core.simulate.scene.packing import Room
from cryoet_core.simulate.scene.poses import from_quaternion
from cryoet_core.support.errors import UserError

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
NAMES = ("membranes", "filaments", "beads")
ATTEMPTS = 60

LEAFLET, HEAD, TAIL, REACH, HALF_THICKNESS = 19.0, 6.0, 8.0, 45.0, 30.0
"""Bilayer: distance of the head groups from its middle, widths of heads and tails; how far it is
drawn and occupies.
"""
SMALLEST_VESICLE, LARGEST_VESICLE = 200.0, 2000.0
GOLD, BEAD = 12.0, 50.0
"""Density of gold beside protein, both less that of water, and the radius of a bead."""


@dataclass(frozen=True)
class Drawn:
    """A thing as a sparse list of voxels.

    Attributes
    ----------
    indices : ndarray of int64, shape (n,)
        Flat voxel indices; an index may occur twice.
    values : ndarray, shape (n,)
        What is added to the density there.
    occupied : ndarray of int64, shape (m,)
        Flat indices of the voxels that the thing occupies.
    """

    indices: Indices
    values: Array
    occupied: Indices


@dataclass(frozen=True)
class Helix:
    """A filament: subunits, a Gaussian each, on a helix.

    Attributes
    ----------
    radius : float
        Distance of the subunits from the axis in Å.
    rise : float
        From one subunit to the next of a helix, in Å along the axis.
    twist : float
        From one subunit to the next of a helix, in degrees.
    starts : int
        How many helices there are.
    width : float
        Standard deviation of the Gaussian of a subunit, in Å.
    volume : float
        Volume of a subunit in Å^3.
    outer : float
        Radius in Å up to which the filament is occupied.
    """

    radius: float
    rise: float
    twist: float
    starts: int
    width: float
    volume: float
    outer: float


FILAMENTS = (
    # a microtubule: 13 protofilaments of tubulin, each a row of monomers 40 Å apart
    Helix(
        radius=108.0,
        rise=120.0 / 13,
        twist=360.0 / 13,
        starts=3,
        width=14.0,
        volume=60_000.0,
        outer=135.0,
    ),
    # actin: two strands
    Helix(radius=22.0, rise=27.5, twist=-166.6, starts=1, width=15.0, volume=51_000.0, outer=45.0),
)


def add_distractors(
    density: NDArray[np.float32],
    room: Room,
    counts: tuple[int, int, int],
    first_label: int,
    generator: np.random.Generator,
) -> None:
    """Add membranes, filaments and beads to a density.

    Parameters
    ----------
    density : ndarray of float32, shape (z, y, x)
        Changed in place.
    room : Room
        What is taken already; the distractors are entered.
    counts : (int, int, int)
        How many membranes, filaments and beads.
    first_label : int
        The label of membranes; filaments and beads have the next ones.
    generator : numpy.random.Generator
        The source of random numbers.

    Raises
    ------
    UserError
        There is no room for all of one kind; the message says how many fitted.
    """
    draws = (_membrane, _filament, _bead)
    for offset, (name, draw, count) in enumerate(zip(NAMES, draws, counts, strict=True)):
        for index in range(count):
            tries = (draw(room, index, generator) for _ in range(ATTEMPTS))
            thing = next((t for t in tries if t is not None and room.free(t.occupied).all()), None)
            if thing is None:
                shown = " x ".join(map(str, room.shape))
                raise UserError(
                    f"`{name}`: {index} of {count} fitted into {shown} voxels; lower `{name}` or "
                    "raise `shape`"
                )
            np.add.at(density.reshape(-1), thing.indices, thing.values.astype(np.float32))
            room.take(thing.occupied, first_label + offset)


def _membrane(room: Room, _: int, generator: np.random.Generator) -> Drawn | None:
    """A closed ellipsoidal bilayer with slow waves; None where less than a fifth of it would be in
    the volume.
    """
    largest = float(np.clip(0.35 * room.extent.max(), 1.2 * SMALLEST_VESICLE, LARGEST_VESICLE))
    radius = SMALLEST_VESICLE * (largest / SMALLEST_VESICLE) ** generator.random()
    axes = radius * generator.uniform(0.8, 1.25, 3)
    turn = from_quaternion(generator.normal(size=4))
    centre = generator.random(3) * (room.extent + radius) - radius / 2
    waves = generator.normal(size=(3, 3)) * 2 * np.pi / (1.5 * radius)
    phases = generator.uniform(0, 2 * np.pi, 3)
    directions = generator.normal(size=(500, 3))
    surface = centre + (directions / np.linalg.norm(directions, axis=1)[:, None] * axes) @ turn.T
    inside = room.inside(surface)
    if inside.mean() < 0.2 or not room.free(room.voxels(surface[inside])).all():
        return None
    low = np.floor((centre - axes.max() - REACH) / room.voxel_size).astype(int).clip(0)
    high = np.ceil((centre + axes.max() + REACH) / room.voxel_size).astype(int) + 1
    span = [np.arange(a, min(b, n)) for a, b, n in zip(low, high, room.shape, strict=True)]
    parts = []
    for z in span[0]:
        points = (
            np.stack(np.meshgrid([z], span[1], span[2], indexing="ij"), -1).reshape(-1, 3)
            * room.voxel_size
        )
        local = (points - centre) @ turn
        scaled = np.sqrt(((local / axes) ** 2).sum(1)) + 1e-9
        distance = scaled * (scaled - 1) / np.sqrt(((local / axes**2) ** 2).sum(1) + 1e-18)
        near = np.abs(distance) < REACH + 30
        bent = distance[near] + 8 * np.sin(points[near] @ waves.T + phases).sum(1)
        close = np.abs(bent) < REACH
        parts.append((room.voxels(points[near][close]), bent[close]))
    indices, distances = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Drawn(
        indices, _bilayer(distances, room.voxel_size), indices[np.abs(distances) < HALF_THICKNESS]
    )


def _bilayer(distance: Array, voxel_size: float) -> Array:
    """Density across a membrane: two layers of heads, tails thinner than water between; blurred as
    voxels blur it.
    """
    head, tail = np.hypot([HEAD, TAIL], 0.4 * voxel_size)
    leaflets = sum(np.exp(-0.5 * ((distance - side) / head) ** 2) for side in (-LEAFLET, LEAFLET))
    profile: Array = 1.2 * HEAD / head * leaflets - 0.3 * TAIL / tail * np.exp(
        -0.5 * (distance / tail) ** 2
    )
    return profile


def _filament(room: Room, index: int, generator: np.random.Generator) -> Drawn | None:
    """A long, gently bent helix nearly in the plane of the slab; None where less than a third would
    be inside.
    """
    kind = FILAMENTS[index % len(FILAMENTS)]
    middle = generator.random(3) * room.extent
    azimuth, elevation = generator.uniform(0, 2 * np.pi), generator.normal(0, 0.12)
    length = generator.uniform(0.7, 1.5) * room.extent.max()
    bend = generator.normal(0, 0.3) / length
    along = np.array(
        [
            np.sin(elevation),
            np.cos(elevation) * np.sin(azimuth),
            np.cos(elevation) * np.cos(azimuth),
        ]
    )
    side = np.cross(along, [1.0, 0.0, 0.0])
    frame = (along, side / np.linalg.norm(side), bend)

    steps = np.arange(-length / 2, length / 2, room.voxel_size / 2)
    axis = _curve(middle, frame, steps, np.zeros((len(steps), 2)))
    if room.inside(axis).mean() < 1 / 3:
        return None
    steps = steps[((axis > -kind.outer) & (axis < room.extent + kind.outer)).all(axis=1)]
    # First a few points of its surface, then all that it takes, then its subunits.
    for some, disc in (
        (steps[::4], _rim(kind.outer)),
        (steps, _disc(kind.outer, room.voxel_size / 2)),
    ):
        tube = _curve(middle, frame, np.repeat(some, len(disc)), np.tile(disc, (len(some), 1)))
        taken = room.voxels(tube[room.inside(tube)])
        if not room.free(taken).all():
            return None
    turn = 360 / abs(kind.twist) * kind.rise
    number = np.arange(int(length / kind.rise))
    angle = np.tile(np.radians(number * kind.twist), kind.starts)
    height = np.concatenate(
        [number * kind.rise + start * turn / kind.starts for start in range(kind.starts)]
    )
    around = kind.radius * np.stack((np.cos(angle), np.sin(angle)), 1)
    subunits = _curve(middle, frame, height - length / 2, around)
    return Drawn(*_blobs(room, subunits, kind), occupied=taken)


def _rim(radius: float) -> Array:
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    return radius * np.stack((np.cos(angle), np.sin(angle)), 1)


def _disc(radius: float, spacing: float) -> Array:
    line = np.arange(-radius, radius + spacing, spacing)
    points = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    inside: Array = points[(points**2).sum(1) <= radius**2]
    return inside


def _curve(middle: Array, frame: tuple[Array, Array, float], along: Array, across: Array) -> Array:
    """Points (n, 3) at ``along`` (n,) on a bent axis and ``across`` (n, 2) from it."""
    direction, side, bend = frame
    slope = bend * along[:, None]
    normal = (side - slope * direction) / np.sqrt(1 + slope**2)
    axis = middle + direction * along[:, None] + side * (0.5 * slope * along[:, None])
    points: Array = axis + normal * across[:, :1] + np.cross(direction, side) * across[:, 1:]
    return points


def _blobs(room: Room, points: Array, kind: Helix) -> tuple[Indices, Array]:
    """Voxels and values of a Gaussian, of the density that protein of the subunit's volume has, at
    each point.
    """
    width = max(kind.width, 0.7 * room.voxel_size)
    reach = int(np.ceil(3 * width / room.voxel_size))
    offsets = np.indices((2 * reach + 1,) * 3).reshape(3, -1).T - reach
    near = points[room.inside(points)]
    centres = np.rint(near / room.voxel_size)
    places = (centres[:, None] + offsets) * room.voxel_size
    values = np.exp(-0.5 * ((places - near[:, None]) ** 2).sum(-1) / width**2)
    values *= kind.volume / ((2 * np.pi) ** 1.5 * width**3)
    inside = room.inside(places)
    return room.voxels(places[inside]), values[inside]


def _bead(room: Room, _: int, generator: np.random.Generator) -> Drawn | None:
    """A gold sphere, wholly inside; None where the volume is too thin for it."""
    radius = BEAD * generator.uniform(0.9, 1.1)
    reach = radius + room.voxel_size
    centre = reach + generator.random(3) * (room.extent - 2 * reach)
    if (room.extent < 2 * reach).any():
        return None
    low = np.floor((centre - reach) / room.voxel_size).astype(int)
    side = int(np.ceil(2 * reach / room.voxel_size)) + 1
    points = (np.indices((side,) * 3).reshape(3, -1).T + low) * room.voxel_size
    points = points[room.inside(points)]
    depth = (radius - np.linalg.norm(points - centre, axis=1)) / room.voxel_size
    indices = room.voxels(points)
    return Drawn(indices, GOLD * np.clip(depth + 0.5, 0, 1), indices[depth > -0.5])
