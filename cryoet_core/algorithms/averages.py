"""Class averages of subtomograms, weighted for the missing wedge, and the files that hold them.

An average is the sum of its particles' Fourier transforms inside their wedges over the sum of the
wedges, particle by particle in the common frame. Without rotations all wedges coincide, and what no
particle has seen stays empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cryoet_core.algorithms.fourier import wedge_mask
from cryoet_core.algorithms.transforms import rotate
from cryoet_core.support import files
from cryoet_core.support.errors import RunError
from cryoet_core.support.names import file_name

TiltRange = tuple[float, float] | None

_LEAST_COVERAGE = 0.02
"""A frequency that less than this share of a class has seen is damped instead of divided by almost
nothing.
"""


class Volumes(Protocol):
    """What is averaged: ``volumes[indices]`` gives (b, 1, d, h, w) float32 on one device, as
    ``DeviceVolumes`` does.
    """

    @property
    def box(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Any, /) -> Tensor: ...


def class_averages(
    volumes: Volumes,
    weights: np.ndarray | Tensor,
    k: int | None = None,
    *,
    tilt_range: TiltRange = None,
    tilt_axis: str = "y",
    rotations: Tensor | None = None,
    shifts: Tensor | None = None,
    batch_size: int = 256,
) -> Tensor:
    """Averages (k, d, h, w), float32 on the CPU, in the units of ``volumes``; a class without
    particles is 0.

    ``weights``: labels (n,), of which -1 takes no part, or posterior probabilities (n, k).
    ``tilt_range`` in degrees, None for no missing wedge. ``rotations`` (n, 3, 3) and ``shifts`` (n,
    3) in voxels say how each particle lies: the reference turned by R, then moved by the shift, is
    the particle; each is turned back before it is added.
    """
    shares = _shares(weights, len(volumes), k)
    box = volumes.box
    mask = _shifted_mask(box, tilt_range, tilt_axis)
    total: Tensor | None = None
    for indices in batches(shares.any(1).nonzero().flatten(), batch_size):
        batch = volumes[indices]
        share = shares[indices].to(batch)
        if total is None:
            total = torch.zeros(share.shape[1], 3, box, box, box // 2 + 1, device=batch.device)
        if rotations is None:
            batch = batch if shifts is None else _turned_back(batch, None, shifts[indices])
            seen = mask.to(batch)[None, None]
        else:
            back = rotations[indices].to(batch)
            batch = _turned_back(batch, back, None if shifts is None else shifts[indices])
            seen = rotate(mask.to(batch)[None, None], back.transpose(1, 2), fill=0.0)
        seen = half_layout(seen)
        spectrum = torch.fft.rfftn(batch[:, 0], dim=(1, 2, 3)) * seen
        parts = torch.stack((spectrum.real, spectrum.imag, seen.expand(len(batch), -1, -1, -1)), 1)
        total += torch.einsum("bk,bcxyz->kcxyz", share, parts)
    classes = shares.shape[1]
    if total is None:
        return torch.zeros(classes, box, box, box)
    floor = _LEAST_COVERAGE * shares.sum(0).to(total)[:, None, None, None].clamp_min(1e-6)
    spectrum = torch.complex(total[:, 0], total[:, 1]) / torch.maximum(total[:, 2], floor)
    averages: Tensor = torch.fft.irfftn(spectrum, s=(box, box, box), dim=(1, 2, 3))
    return averages.float().cpu()


def batches(indices: Tensor, size: int) -> Iterator[Tensor]:
    """``indices`` in pieces of at most ``size``; nothing when there are none."""
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def half_layout(centred: Tensor) -> Tensor:
    """Fourier-space values (b, 1, d, h, w), zero frequency at n // 2 -> layout of ``rfftn`` (b, d,
    h, w // 2 + 1).
    """
    whole: Tensor = torch.fft.ifftshift(centred[:, 0], dim=(1, 2, 3))
    return whole[..., : whole.shape[-1] // 2 + 1]


def _turned_back(batch: Tensor, rotations: Tensor | None, shifts: Tensor | None) -> Tensor:
    """Undo r -> R r + s: r -> R^T r - R^T s."""
    back = torch.eye(3).expand(len(batch), 3, 3) if rotations is None else rotations.transpose(1, 2)
    back = back.to(batch)
    moved = None if shifts is None else -torch.einsum("bij,bj->bi", back, shifts.to(batch))
    return rotate(batch, back, moved)


def _shifted_mask(box: int, tilt_range: TiltRange, tilt_axis: str) -> Tensor:
    """The wedge with the zero frequency at n // 2, so that ``rotate`` turns it about that."""
    if tilt_range is None:
        return torch.ones(box, box, box)
    centred: Tensor = torch.fft.fftshift(wedge_mask(box, tilt_range, tilt_axis, full=True))
    return centred


def _shares(weights: np.ndarray | Tensor, n: int, k: int | None) -> Tensor:
    """Weights (n, k) float32 from labels or posteriors."""
    given = torch.as_tensor(weights)
    if given.ndim == 1:
        labels = given.long()
        size = max(k or 0, int(labels.max()) + 1 if len(labels) else 0)
        given = (
            torch.nn.functional.one_hot(labels.clamp_min(0), max(size, 1)) * (labels >= 0)[:, None]
        )
    if given.ndim != 2 or len(given) != n or (k is not None and given.shape[1] != k):
        raise ValueError(
            f"weights of shape {tuple(given.shape)}: expected labels ({n},) or posteriors ({n}, "
            f"{k or 'k'})"
        )
    return given.float()


# ---- files ---------------------------------------------------------------------------------------


def write_averages(
    folder: Path, averages: Tensor | np.ndarray, names: Sequence[str], voxel_size: float
) -> list[Path]:
    """Write one MRC file (mode 2, voxel size in Å in the header) per class, named after the class;
    their paths.

    Characters that a file name cannot have become underscores. RunError when two classes then share
    a name.
    """
    import mrcfile

    own = [file_name(name, blanks=True, empty="class") for name in names]
    paths = [folder / f"{name}.mrc" for name in own]
    if len(set(paths)) != len(paths):
        raise RunError(
            f"{folder}: class names {sorted(names)} do not give different file names; rename the "
            "classes"
        )
    with files.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for path, volume in zip(paths, np.asarray(averages, dtype=np.float32), strict=True):
        with files.replacing(path) as beside:
            mrcfile.write(beside, volume, voxel_size=voxel_size, overwrite=True)
    return paths


def read_averages(folder: Path) -> dict[str, tuple[np.ndarray, float]]:
    """Class name -> (average (d, h, w) float32, voxel size in Å); files that are no MRC volume are
    left out.
    """
    import mrcfile

    found = {}
    for path in sorted(folder.glob("*.mrc")):
        try:
            with mrcfile.open(path, permissive=False) as file:
                volume, size = np.array(file.data, dtype=np.float32), float(file.voxel_size.x)
        except (OSError, ValueError):
            continue
        if volume.ndim == 3:
            found[path.stem] = volume, size
    return found
