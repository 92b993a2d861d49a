"""Whole tomograms with known truth: structures packed among distractors, imaged, with noise.

SNR. The signal of a particle is its own image, without neighbours and without noise. Its variance
is taken over the box whose side is the diameter of the structure, as in a simulated subtomogram.
S^2 is the mean of that over the particles of the tomogram (each structure's from 16 random
rotations), and noise is scaled so that S^2 / var(noise over the whole volume) is exactly ``snr``.
Crowding, membranes and beads therefore do not change the noise.

The same seed gives tomogram i the same scene and the same white noise under any optics, SNR or
route.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoet_core.picks.table import Picks
from cryoet_core.simulate.render import render_into, template
from cryoet_core.simulate.scene.crowding import Placed
from cryoet_core.simulate.scene.distractors import NAMES, add_distractors
from cryoet_core.simulate.scene.packing import Room, copies_for, pack
from cryoet_core.simulate.scene.poses import from_quaternion, stream
from cryoet_core.simulate.shapes.structures import Structure
from cryoet_core.simulate.tilts import TiltRoute
from cryoet_core.simulate.tomogram_settings import TomogramSettings
from cryoet_core.simulate.volume_filter import FilterRoute

Array = NDArray[np.float64]
PACKING, DISTRACTORS, WHITE, OPTICS, OWN = range(4, 9)
"""What a stream of random numbers is for (0 to 3 are the subtomograms')."""
SAMPLES = 16
"""Rotations from which the strength of a structure's image is taken."""
CLEARANCE = 8
"""Voxels around such a sample."""


class Route(Protocol):
    """A way to form images of a whole tomogram."""

    def image(self, density: Tensor, /) -> Tensor:
        """Form the image of a density (z, y, x) without noise."""

    def noise(
        self,
        shape: Sequence[int],
        generator: np.random.Generator,
        profile: Array,
        device: torch.device,
    ) -> Tensor:
        """Return noise of arbitrary scale.

        Parameters
        ----------
        shape : sequence of int
            Voxels (z, y, x).
        generator : numpy.random.Generator
            The source of random numbers.
        profile : ndarray, shape (y, x)
            Standard deviation of the noise over the field.
        device : torch.device
            Where to compute.

        Returns
        -------
        Tensor, shape (z, y, x)
            The noise.
        """


@dataclass(frozen=True)
class SimulatedScene:
    """What is in a tomogram.

    Attributes
    ----------
    density : ndarray of float32, shape (z, y, x)
        Without any optics.
    room : Room
        The masks of particles and distractors.
    placed : list of Placed
        The particles.
    label_names : tuple of str
        The classes, then the distractors.
    """

    density: NDArray[np.float32]
    room: Room
    placed: list[Placed]
    label_names: tuple[str, ...]


@dataclass(frozen=True)
class SimulatedTomogram:
    """A tomogram with its truth.

    Attributes
    ----------
    name : str
        Name of the tomogram.
    volume : ndarray of float32, shape (z, y, x)
        With noise, protein bright.
    clean : ndarray or None
        Without noise, where it is asked for.
    picks : Picks
        Position (centre of mass, Å), class and rotation of every particle.
    ids : ndarray of int32, shape (z, y, x)
        Row of the picks + 1; 0 outside of particles.
    labels : ndarray of uint8, shape (z, y, x)
        0, or 1 + index into ``label_names``.
    label_names : tuple of str
        The classes, then the distractors.
    facts : dict
        Defocus, copies, filled fraction of the volume, and SNR, nominal and measured.
    """

    name: str
    volume: NDArray[np.float32]
    clean: NDArray[np.float32] | None
    picks: Picks
    ids: NDArray[np.int32]
    labels: NDArray[np.uint8]
    label_names: tuple[str, ...]
    facts: dict[str, Any]


def simulate_tomogram(
    structures: Sequence[Structure],
    settings: TomogramSettings,
    index: int = 0,
    name: str = "simulated",
    device: torch.device | str = "cpu",
    clean: bool = False,
) -> SimulatedTomogram:
    """Simulate one tomogram of the set that the settings and their seed describe.

    Parameters
    ----------
    structures : sequence of Structure
        The classes, in the order of their labels.
    settings : TomogramSettings
        What is simulated.
    index : int
        Number of the tomogram in the set.
    name : str
        Name of the tomogram.
    device : torch.device or str
        Where to compute.
    clean : bool
        Whether the volume without noise is kept too.

    Returns
    -------
    SimulatedTomogram
        The tomogram with its truth.

    Raises
    ------
    UserError
        The structures do not fit the settings, or there is no room for all copies.
    """
    settings.check(structures)
    where = torch.device(device)
    templates = [template(s, settings.voxel_size).to(where) for s in structures]
    scene = build_scene(structures, templates, settings, index)
    draw = stream(settings.seed, index, OPTICS)
    defocus = settings.defocus[0] + draw.random() * (settings.defocus[-1] - settings.defocus[0])
    profile = noise_profile(settings.shape, settings.ice_gradient, 2 * math.pi * draw.random())
    route: Route = (FilterRoute if settings.route == "filter" else TiltRoute)(settings, defocus)
    image = route.image(torch.from_numpy(scene.density).to(where))
    copies = np.bincount([p.label for p in scene.placed], minlength=len(structures))
    facts: dict[str, Any] = {
        "defocus_um": defocus if settings.ctf else None,
        "copies": dict(zip((s.name for s in structures), copies.tolist(), strict=True)),
        "volume_fraction": float(np.count_nonzero(scene.room.ids) / scene.room.ids.size),
        "snr": settings.snr if math.isfinite(settings.snr) else None,
    }
    volume = image
    if math.isfinite(settings.snr):
        strength = _own_variances(route, structures, templates, settings)
        signal = float(np.average(strength, weights=copies if copies.any() else None))
        noise = route.noise(settings.shape, stream(settings.seed, index, WHITE), profile, where)
        noise *= math.sqrt(signal / settings.snr / _variance(noise))
        facts |= _measured(image, noise, strength, structures, scene.placed, settings.voxel_size)
        volume = image + noise if clean else image.add_(noise)
    return SimulatedTomogram(
        name,
        volume.cpu().numpy(),
        image.cpu().numpy() if clean else None,
        _picks(structures, scene.placed, name),
        scene.room.ids,
        scene.room.labels,
        scene.label_names,
        facts,
    )


def build_scene(
    structures: Sequence[Structure], templates: list[Tensor], settings: TomogramSettings, index: int
) -> SimulatedScene:
    """Place the particles of one tomogram among its distractors, which are placed first.

    Parameters
    ----------
    structures : sequence of Structure
        The classes, in the order of their labels.
    templates : list of Tensor
        Of each structure, see ``render.template``.
    settings : TomogramSettings
        What is simulated.
    index : int
        Number of the tomogram in the set.

    Returns
    -------
    SimulatedScene
        Density, masks and particles.

    Raises
    ------
    UserError
        There is no room for all copies or distractors.
    """
    room = Room(settings.shape, settings.voxel_size)
    density = np.zeros(settings.shape, np.float32)
    counts = (settings.membranes, settings.filaments, settings.beads)
    add_distractors(
        density, room, counts, len(structures) + 1, stream(settings.seed, index, DISTRACTORS)
    )
    fraction = settings.volume_fraction
    copies = (
        settings.copies_of(len(structures))
        if fraction is None
        else copies_for(fraction, room, structures)
    )
    placed = pack(room, structures, copies, settings.margin, stream(settings.seed, index, PACKING))
    volume = torch.from_numpy(density).to(templates[0].device)
    render_into(volume, placed, structures, templates, settings.voxel_size)
    return SimulatedScene(
        volume.cpu().numpy(), room, placed, (*(s.name for s in structures), *NAMES)
    )


def noise_profile(shape: tuple[int, int, int], gradient: float, direction: float) -> Array:
    """Return the standard deviation of the noise over the field.

    It is a ramp from 1 - gradient / 2 to 1 + gradient / 2, as under ice that thickens along
    ``direction``, scaled so that the mean square is 1.

    Parameters
    ----------
    shape : (int, int, int)
        Voxels (z, y, x).
    gradient : float
        Difference between the two ends of the ramp.
    direction : float
        Radians in the plane.

    Returns
    -------
    ndarray, shape (y, x)
        The profile.
    """
    y, x = (np.linspace(-1, 1, n) for n in shape[1:])
    along = np.sin(direction) * y[:, None] + np.cos(direction) * x
    profile = 1 + 0.5 * gradient * along / np.abs(along).max()
    scaled: Array = profile / np.sqrt(np.mean(profile**2))
    return scaled


def _own_variances(
    route: Route,
    structures: Sequence[Structure],
    templates: list[Tensor],
    settings: TomogramSettings,
) -> Array:
    """The variance of each structure's own image over the box of its diameter, the mean over
    rotations.

    The samples of a structure stand in a row along the tilt axis, along which nothing is smeared,
    and far enough apart for their fringes.
    """
    variances = np.zeros(len(structures))
    for label, structure in enumerate(structures):
        generator = stream(settings.seed, label, OWN)
        side = math.ceil(structure.diameter / settings.voxel_size)
        box = side + 2 * CLEARANCE
        alone = []
        for index in range(SAMPLES):
            turn, shift = from_quaternion(generator.normal(size=4)), generator.uniform(-0.5, 0.5, 3)
            middle = np.array([box // 2, box // 2 + index * box, box // 2])
            alone.append(Placed.of(label, structure, turn, (middle + shift) * settings.voxel_size))
        row = torch.zeros((box, SAMPLES * box, box), device=templates[label].device)
        render_into(row, alone, structures, templates, settings.voxel_size)
        first = box // 2 - side // 2
        cubes = route.image(row)[first : first + side, :, first : first + side].unfold(1, box, box)
        variances[label] = (
            cubes[..., first : first + side].double().var((0, 2, 3), correction=0).mean()
        )
    return variances


def _measured(
    image: Tensor,
    noise: Tensor,
    strength: Array,
    structures: Sequence[Structure],
    placed: Sequence[Placed],
    voxel_size: float,
) -> dict[str, Any]:
    """SNR as measured: of each class alone, in the particles' boxes with all that is in them, and
    in the volume.
    """
    level = _variance(noise)
    sides = [math.ceil(s.diameter / voxel_size) for s in structures]
    boxes = []
    for particle in placed:
        side = sides[particle.label]
        start = np.round(particle.centre / voxel_size).astype(int) - side // 2
        region = tuple(slice(max(0, s), s + side) for s in start.tolist())
        boxes.append(_variance(image[region]))
    return {
        "snr_by_class": {
            s.name: float(v / level) for s, v in zip(structures, strength, strict=True)
        },
        "snr_in_boxes": float(np.mean(boxes) / level) if boxes else None,
        "snr_in_volume": _variance(image) / level,
    }


def _variance(volume: Tensor) -> float:
    """Over all voxels, summed slice by slice in float64."""
    count = volume.numel()
    total = sum(float(part.sum(dtype=torch.float64)) for part in volume)
    squares = sum(float(part.double().square().sum()) for part in volume)
    return squares / count - (total / count) ** 2


def _picks(structures: Sequence[Structure], placed: Sequence[Placed], name: str) -> Picks:
    return Picks.of(
        np.array([p.centre for p in placed]).reshape(-1, 3),
        name,
        classes=np.array([p.label for p in placed], dtype=np.int64),
        class_names=tuple(s.name for s in structures),
        rotations=np.array([p.rotation for p in placed]).reshape(-1, 3, 3),
    )
