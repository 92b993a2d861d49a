"""Random sequential insertion of structures by their voxelised shapes: nothing overlaps.

A candidate (uniform rotation, uniform position) is tested first at a few points of its shape, 256
positions at a time, and only if those are free at all of them. The largest structures go first,
which fills most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoet_core.simulate.scene.crowding import Placed
from cryoet_core.simulate.scene.poses import from_quaternion
from cryoet_core.simulate.shapes.structures import Structure
from cryoet_core.support.errors import UserError

Array = NDArray[np.float64]
OCCUPIED = 0.3
"""Density above this fraction of protein's belongs to a particle's shape."""
POSITIONS, ROUNDS, PROBES = 256, 400, 48
"""Positions tried for a rotation, rotations tried for a particle, points of the quick test."""


class Room:
    """The volume, and what is taken of it.

    ``ids`` (z, y, x) int32 holds the number of a particle from 1. ``labels`` uint8 holds what lies
    there, 0 for nothing.

    Parameters
    ----------
    shape : (int, int, int)
        Voxels (z, y, x).
    voxel_size : float
        Å per voxel.
    """

    def __init__(self, shape: tuple[int, int, int], voxel_size: float) -> None:
        self.shape, self.voxel_size = shape, voxel_size
        self.labels = np.zeros(shape, np.uint8)
        self.ids = np.zeros(shape, np.int32)
        self._strides = np.array([shape[1] * shape[2], shape[2], 1])

    @property
    def extent(self) -> Array:
        """Å (z, y, x) from the first voxel to the last."""
        return (np.array(self.shape) - 1) * self.voxel_size

    def inside(self, points: Array) -> NDArray[np.bool_]:
        """Say of each of ``points`` (..., 3) in Å whether it lies in the volume."""
        within = (points >= 0) & (points <= self.extent)
        every: NDArray[np.bool_] = np.logical_and.reduce(within, axis=-1)
        return every

    def voxels(self, points: Array) -> NDArray[np.int64]:
        """Return flat indices of the voxels that hold ``points`` (..., 3) in Å, all inside."""
        return self.flat(np.rint(points / self.voxel_size).astype(np.int64))

    def flat(self, voxels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return flat indices of voxels (..., 3)."""
        flat: NDArray[np.int64] = voxels @ self._strides
        return flat

    def free(self, voxels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say of each of the flat indices whether nothing is there."""
        empty: NDArray[np.bool_] = self.labels.reshape(-1)[voxels] == 0
        return empty

    def take(self, voxels: NDArray[np.int64], label: int, number: int = 0) -> None:
        """Claim voxels.

        Parameters
        ----------
        voxels : ndarray of int64
            Flat indices.
        label : int
            What lies there.
        number : int
            The number of the particle; 0 for none.
        """
        self.labels.reshape(-1)[voxels] = label
        self.ids.reshape(-1)[voxels] = number


@dataclass(frozen=True)
class Shape:
    """The shape of a structure.

    Attributes
    ----------
    points : ndarray, shape (m, 3)
        Points of it, in Å from its centre.
    probes : ndarray, shape (k, 3)
        A few of them for a quick test.
    spacing : float
        Distance of the points in Å.
    """

    points: Array
    probes: Array
    spacing: float

    @staticmethod
    def of(structure: Structure) -> Shape:
        """Return the shape of a structure."""
        where = np.argwhere(structure.density > OCCUPIED) - structure.density.shape[0] // 2
        points = where * structure.voxel_size
        outermost = np.argsort(-(points**2).sum(1), kind="stable")[: PROBES // 3]
        spread = np.linspace(0, len(points) - 1, PROBES).astype(int)
        return Shape(points, points[np.concatenate((outermost, spread))], structure.voxel_size)

    def claimed(self, room: Room, rotation: Array, centre: Array) -> NDArray[np.int64]:
        """Return the voxels of which at least half lies in the shape.

        Parameters
        ----------
        room : Room
            The volume.
        rotation : ndarray, shape (3, 3)
            Active rotation of the structure.
        centre : ndarray, shape (3,)
            Where its centre is, in Å from voxel 0.

        Returns
        -------
        ndarray of int64
            Flat indices.
        """
        nearest = np.rint((self.points @ rotation.T + centre) / room.voxel_size).astype(np.int64)
        low = nearest.min(0)
        size = nearest.max(0) - low + 1
        counts = np.bincount(
            (nearest - low) @ [size[1] * size[2], size[2], 1], minlength=int(size.prod())
        )
        inside = np.unravel_index(
            np.flatnonzero(counts >= 0.5 * (room.voxel_size / self.spacing) ** 3), tuple(size)
        )
        return room.flat(np.stack(inside, 1) + low)

    def volume(self, voxel_size: float) -> float:
        """Return how many voxels of ``voxel_size`` Å it claims on average."""
        return len(self.points) * (self.spacing / voxel_size) ** 3


def pack(
    room: Room,
    structures: Sequence[Structure],
    copies: Sequence[int],
    margin: float,
    generator: np.random.Generator,
) -> list[Placed]:
    """Place copies of each structure in the room and enter them in its masks.

    Parameters
    ----------
    room : Room
        The volume; its masks are filled in.
    structures : sequence of Structure
        The classes, in the order of their labels.
    copies : sequence of int
        How many of each.
    margin : float
        Least distance from the faces in Å.
    generator : numpy.random.Generator
        The source of random numbers.

    Returns
    -------
    list of Placed
        Particle i has id i + 1 and label 1 + its class; positions are in Å from voxel 0.

    Raises
    ------
    UserError
        There is no room for all; the message says how many of each fitted.
    """
    shapes = [Shape.of(s) for s in structures]
    placed: list[Placed] = []
    fitted = [0] * len(structures)
    for label in sorted(range(len(structures)), key=lambda i: (-len(shapes[i].points), i)):
        for _ in range(copies[label]):
            found = _find_place(room, structures[label], shapes[label], margin, generator)
            if found is None:
                break
            rotation, centre, voxels = found
            placed.append(Placed.of(label, structures[label], rotation, centre))
            fitted[label] += 1
            room.take(voxels, label + 1, len(placed))
    if fitted != list(copies):
        counts = ", ".join(
            f"{s.name} {n} of {m}" for s, n, m in zip(structures, fitted, copies, strict=True)
        )
        raise UserError(
            f"`copies`: {sum(fitted)} of {sum(copies)} particles fitted into "
            f"{' x '.join(map(str, room.shape))} voxels "
            f"({counts}), which fill {np.count_nonzero(room.ids) / room.ids.size:.1%}; lower "
            "`copies` or "
            "`volume_fraction`, raise `shape`, or ask for fewer distractors"
        )
    return placed


def _find_place(
    room: Room, structure: Structure, shape: Shape, margin: float, generator: np.random.Generator
) -> tuple[Array, Array, NDArray[np.int64]] | None:
    for _ in range(ROUNDS):
        rotation = from_quaternion(generator.normal(size=4))
        corners = structure.hull @ rotation.T
        low, high = margin - corners.min(0), room.extent - margin - corners.max(0)
        centres = low + generator.random((POSITIONS, 3)) * (high - low)
        quick = room.voxels(centres[:, None] + shape.probes @ rotation.T)
        for centre in centres[room.free(quick).all(axis=1)]:
            voxels = shape.claimed(room, rotation, centre)
            if room.free(voxels).all():
                return rotation, centre, voxels
    return None


def copies_for(fraction: float, room: Room, structures: Sequence[Structure]) -> list[int]:
    """Return equal copies of each structure that fill a fraction of the room.

    They fill it to within one particle; larger structures have one more first.

    Parameters
    ----------
    fraction : float
        Fraction of the volume.
    room : Room
        The volume.
    structures : sequence of Structure
        The classes, in the order of their labels.

    Returns
    -------
    list of int
        Copies of each.
    """
    volumes = [Shape.of(s).volume(room.voxel_size) for s in structures]
    wanted = fraction * room.labels.size
    each = int(wanted // sum(volumes))
    copies = [each] * len(structures)
    rest = wanted - each * sum(volumes)
    for label in sorted(range(len(structures)), key=lambda i: (-volumes[i], i)):
        if rest >= volumes[label]:
            copies[label] += 1
            rest -= volumes[label]
    if sum(copies) == 0:
        raise UserError(
            f"`volume_fraction`: {fraction:g} is less than one particle; raise it or `shape`"
        )
    return copies
