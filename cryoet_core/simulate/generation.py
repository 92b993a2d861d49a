"""Simulate subtomograms of known structures: rotated, shifted, imaged, with noise of an exact SNR.

``simulate`` yields batches; ``write_subtomograms`` stores them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoet_core.simulate.imaging import Microscope
from cryoet_core.simulate.render import render, template
from cryoet_core.simulate.scene.crowding import Placed, place_neighbours
from cryoet_core.simulate.scene.poses import CROWD, NOISE, class_order, draw_pose, stream
from cryoet_core.simulate.settings import SimulationSettings
from cryoet_core.simulate.shapes.structures import Structure
from cryoet_core.support.errors import UserError

EMPTY = "empty"


@dataclass(frozen=True)
class Batch:
    """A batch of simulated particles.

    Attributes
    ----------
    indices : ndarray of int64, shape (b,)
        Numbers of the particles in the whole set.
    volumes : Tensor of float32, shape (b, box, box, box)
        On the device of the simulation, protein bright.
    clean : Tensor or None
        The same volumes without noise, where they are asked for.
    labels : ndarray of int64, shape (b,)
        Indices into the class names.
    rotations : ndarray of float32, shape (b, 3, 3)
        Active rotations.
    shifts : ndarray of float32, shape (b, 3)
        Voxels (z, y, x).
    defocus : ndarray of float32, shape (b,)
        Underfocus in µm.
    snr : ndarray of float32, shape (b,)
        Measured var(signal) / var(noise).
    neighbours : ndarray of int64, shape (b,)
        How many neighbours were placed.
    """

    indices: NDArray[np.int64]
    volumes: Tensor
    clean: Tensor | None
    labels: NDArray[np.int64]
    rotations: NDArray[np.float32]
    shifts: NDArray[np.float32]
    defocus: NDArray[np.float32]
    snr: NDArray[np.float32]
    neighbours: NDArray[np.int64]


@dataclass(frozen=True)
class SimulationPlan:
    """The random part of a batch.

    Attributes
    ----------
    indices : ndarray of int64, shape (b,)
        Numbers of the particles in the whole set.
    labels : ndarray of int64, shape (b,)
        Indices into the class names.
    scenes : list of list of Placed
        The structures in each box, the target first.
    defocus : list of float
        Underfocus in µm.
    noise : ndarray of float32 or None
        White noise.
    """

    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    scenes: list[list[Placed]]
    defocus: list[float]
    noise: NDArray[np.float32] | None


def class_names(structures: Sequence[Structure], settings: SimulationSettings) -> tuple[str, ...]:
    """Return the names of the labels.

    Parameters
    ----------
    structures : sequence of Structure
        The classes, in the order of their labels.
    settings : SimulationSettings
        What is simulated.

    Returns
    -------
    tuple of str
        The names of the structures, then "empty" where there are subtomograms without a target.
    """
    names = tuple(s.name for s in structures)
    return (*names, EMPTY) if settings.empty(len(structures)) else names


def simulate(
    structures: Sequence[Structure],
    settings: SimulationSettings,
    batch_size: int | None = None,
    device: torch.device | str = "cpu",
    indices: Sequence[int] | None = None,
) -> Iterator[Batch]:
    """Simulate ``per_class`` particles of each structure in random order, batch by batch.

    Subtomograms without a target are added where the settings ask for them. Particle i is the same
    in any batch size and whichever ``indices`` are asked for. It has the same class, pose, shift,
    neighbours and white noise under any optics and SNR.

    Parameters
    ----------
    structures : sequence of Structure
        The classes, in the order of their labels.
    settings : SimulationSettings
        What is simulated.
    batch_size : int, optional
        Subtomograms in a batch; chosen by the box size and the device without it.
    device : torch.device or str
        Where to compute.
    indices : sequence of int, optional
        The particles of the set to simulate; all without it.

    Yields
    ------
    Batch
        The next particles.

    Raises
    ------
    UserError
        There is no structure, or two have the same name.
    """
    labels = plan_labels(structures, settings)
    wanted = np.arange(len(labels)) if indices is None else np.asarray(indices, dtype=np.int64)
    microscope = Microscope(settings, device)
    # Neighbours are imaged in a wider box and then cropped, as from a tomogram: cutting them first
    # would ring.
    wide = (
        Microscope(replace(settings, box=settings.box + 2 * (settings.box // 4)), device)
        if settings.crowding
        else None
    )
    templates = [template(s, settings.voxel_size).to(device) for s in structures]
    batch_size = batch_size or default_batch(settings.box, device)
    pieces = [wanted[start : start + batch_size] for start in range(0, len(wanted), batch_size)]

    def make(piece: NDArray[np.int64]) -> Batch:
        return _image(
            _plan(structures, settings, labels, piece), structures, templates, microscope, wide
        )

    yield from _in_order(make, pieces, torch.device(device))


def _in_order(
    make: Callable[[NDArray[np.int64]], Batch],
    pieces: list[NDArray[np.int64]],
    device: torch.device,
) -> Iterator[Batch]:
    """Yield ``make(piece)`` for each piece, made ahead by threads: each batch by one thread of its
    own on a CPU.

    That uses all cores without the barriers of threads that share each operation, and overlaps the
    drawing of random numbers with a GPU's work.
    """
    threads = torch.get_num_threads()
    workers = threads if device.type == "cpu" else 2
    one_each = partial(torch.set_num_threads, 1) if device.type == "cpu" else None
    waiting: deque[Future[Batch]] = deque()
    try:
        with ThreadPoolExecutor(workers, initializer=one_each) as pool:
            try:
                for piece in pieces:
                    waiting.append(pool.submit(make, piece))
                    if len(waiting) > workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)
    finally:
        torch.set_num_threads(threads)


def default_batch(box: int, device: torch.device | str) -> int:
    """Return a batch size of about 8 MB of voxels on a CPU and 128 MB on a GPU, at most 1024.

    Parameters
    ----------
    box : int
        Box size in voxels.
    device : torch.device or str
        Where the batch is computed.

    Returns
    -------
    int
        Subtomograms in a batch.
    """
    voxels = (1 << 21) if torch.device(device).type == "cpu" else (1 << 25)
    return min(1024, max(1, voxels // box**3))


def plan_labels(structures: Sequence[Structure], settings: SimulationSettings) -> NDArray[np.int64]:
    """Return the class of every particle of the set, in its order.

    Parameters
    ----------
    structures : sequence of Structure
        The classes, in the order of their labels.
    settings : SimulationSettings
        What is simulated.

    Returns
    -------
    ndarray of int64, shape (n,)
        Indices into the class names.
    """
    if not structures:
        raise UserError("no structures; expected at least one: give `structures` or `phantoms`")
    names = [s.name for s in structures]
    for name in names:
        if names.count(name) > 1 or name == EMPTY:
            raise UserError(f"structure name {name!r}: taken twice; expected different names")
    return class_order(
        settings.seed, settings.per_class, len(structures), settings.empty(len(structures))
    )


def write_subtomograms(
    path: Path | str,
    structures: Sequence[Structure],
    settings: SimulationSettings,
    batch_size: int | None = None,
    device: torch.device | str = "cpu",
    provenance: dict[str, Any] | None = None,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> int:
    """Simulate subtomograms into a store.

    Parameters
    ----------
    path : str or Path
        The store to write (.h5).
    structures : sequence of Structure
        The classes, in the order of their labels.
    settings : SimulationSettings
        What is simulated.
    batch_size : int, optional
        Subtomograms in a batch; chosen by the box size and the device without it.
    device : torch.device or str
        Where to compute.
    provenance : dict, optional
        What the store says about its origin.
    progress : callable
        Wraps the loop over the batches.

    Returns
    -------
    int
        How many subtomograms were written.

    Raises
    ------
    UserError
        There is no structure, or two have the same name.
    """
    from cryoet_core.store import SubtomogramWriter

    count = len(plan_labels(structures, settings))
    batch_size = batch_size or default_batch(settings.box, device)
    header: dict[str, Any] = {
        "density_sign": settings.density_sign,
        "class_names": class_names(structures, settings),
        "tilt_range": settings.tilt_range,
        "optics": settings.optics(),
        "snr": settings.snr if np.isfinite(settings.snr) else None,
        "provenance": {"simulated": settings.as_dict()} | (provenance or {}),
        "n": count,
    }
    batches = simulate(structures, settings, batch_size, device)
    with SubtomogramWriter(path, settings.box, settings.voxel_size, **header) as writer:
        for _ in progress(range(-(-count // batch_size))):
            batch = next(batches)
            extras = {
                "shifts": batch.shifts,
                "defocus": batch.defocus,
                "snr": batch.snr,
                "neighbours": batch.neighbours,
            }
            if batch.clean is not None:
                extras["clean"] = (
                    (batch.clean * settings.density_sign).cpu().numpy().astype(np.float16)
                )
            volumes = batch.volumes.cpu().numpy() * np.float32(settings.density_sign)
            writer.append(volumes, labels=batch.labels, rotations=batch.rotations, **extras)
    return count


def _plan(
    structures: Sequence[Structure],
    settings: SimulationSettings,
    labels: NDArray[np.int64],
    indices: NDArray[np.int64],
) -> SimulationPlan:
    box, spacing = settings.box, settings.voxel_size
    scenes, defocus = [], []
    for index in indices.tolist():
        pose = draw_pose(settings.seed, index, settings.orientation)
        label = int(labels[index])
        # Without a target, the place and the noise are still those that a class would have had.
        shape = label if label < len(structures) else index % len(structures)
        target = Placed.of(
            shape, structures[shape], pose.rotation, pose.shift * settings.max_shift * spacing
        )
        scene = [target]
        if settings.crowding:
            crowd = stream(settings.seed, index, CROWD)
            scene += place_neighbours(
                target, structures, settings.crowding, (box // 2 - 1) * spacing, crowd
            )
        scenes.append(scene)
        defocus.append(
            settings.defocus[0] + pose.fraction * (settings.defocus[-1] - settings.defocus[0])
        )
    noise = None
    if np.isfinite(settings.snr):
        shape_of = (2,) if settings.snr_mode == "aitom" else ()
        noise = np.empty((len(indices), *shape_of, box, box, box), dtype=np.float32)
        for row, index in enumerate(indices.tolist()):
            stream(settings.seed, index, NOISE).standard_normal(dtype=np.float32, out=noise[row])
    return SimulationPlan(indices, labels[indices], scenes, defocus, noise)


def _image(
    plan: SimulationPlan,
    structures: Sequence[Structure],
    templates: list[Tensor],
    microscope: Microscope,
    wide: Microscope | None,
) -> Batch:
    settings, device = microscope.settings, microscope.seen.device
    targets = [(row, scene[0]) for row, scene in enumerate(plan.scenes)]
    others = [(row, placed) for row, scene in enumerate(plan.scenes) for placed in scene[1:]]
    around = None
    if others and wide is not None:
        around = wide.project(
            render(others, len(targets), structures, templates, wide.settings), plan.defocus
        )
        inner = slice(settings.box // 4, settings.box // 4 + settings.box)
        around = around[:, inner, inner, inner]
    images = microscope.image(
        render(targets, len(targets), structures, templates, settings),
        around,
        torch.from_numpy(plan.labels < len(structures)).to(device),
        None if plan.noise is None else torch.from_numpy(plan.noise).to(device),
        plan.defocus,
    )
    return Batch(
        indices=plan.indices,
        volumes=images.volumes,
        clean=images.clean,
        labels=plan.labels,
        rotations=np.array([p.rotation for _, p in targets], dtype=np.float32),
        shifts=np.array([p.centre for _, p in targets], dtype=np.float32)
        / np.float32(settings.voxel_size),
        defocus=np.array(plan.defocus, dtype=np.float32)
        if settings.ctf
        else np.zeros(len(targets), np.float32),
        snr=images.snr.cpu().numpy().astype(np.float32),
        neighbours=np.array([len(scene) - 1 for scene in plan.scenes]),
    )
