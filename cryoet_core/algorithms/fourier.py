"""Fourier-space filters for cubic boxes: missing wedge, contrast transfer function, shells,
low-pass.

Layouts are those of ``torch.fft``: zero frequency first, and the last axis halved for real
transforms (box, box, box // 2 + 1) unless ``full=True``. Every filter h is real with h(k) = h(-k),
even and odd boxes alike, so a filtered real volume stays real and loses no energy. The beam is
along z. Frequencies are in 1/Å.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def frequency_grid(box: int, voxel_size: float = 1.0, full: bool = False) -> Tensor:
    """Frequency vectors (3, box, box, box // 2 + 1) in 1/Å, first axis (kz, ky, kx)."""
    whole = torch.fft.fftfreq(box, d=voxel_size)
    last = whole if full else torch.fft.rfftfreq(box, d=voxel_size)
    return torch.stack(torch.meshgrid(whole, whole, last, indexing="ij"))


def radial_frequency(box: int, voxel_size: float = 1.0, full: bool = False) -> Tensor:
    """|k| in 1/Å, (box, box, box // 2 + 1)."""
    return frequency_grid(box, voxel_size, full).square().sum(0).sqrt()


def shell_index(box: int, full: bool = False) -> Tensor:
    """The Fourier shell of each voxel, round(|k| * box), int64; shells 0..box // 2 are complete,
    corners lie beyond.
    """
    return (radial_frequency(box, full=full) * box).round().long()


def lowpass(
    box: int, voxel_size: float, resolution: float, edge: float = 2.0, full: bool = False
) -> Tensor:
    """1 below the frequency 1 / resolution (Å), then a cosine fall to 0 over ``edge`` Fourier
    voxels.
    """
    distance = (radial_frequency(box, voxel_size, full) - 1 / resolution) * box * voxel_size
    if edge <= 0:
        return (distance <= 0).float()
    return 0.5 + 0.5 * torch.cos(math.pi * (distance / edge).clamp(0, 1))


def wedge_mask(
    box: int,
    tilt_range: tuple[float, float],
    tilt_axis: str = "y",
    soft: float = 0.0,
    tilt_step: float | None = None,
    full: bool = False,
) -> Tensor:
    """Which frequencies a tilt series about y (or x) has seen: 1 inside, 0 in the missing wedge,
    float32.

    A specimen turned by the tilt angle t, right-handed about +y, is seen on the central plane kz =
    kx tan(t) (about +x: kz = -ky tan(t)), so a range (-60, 60) keeps |kz| <= tan(60) |kx|, 2/3 of
    all directions. ``soft`` is the width in degrees of a linear fall from 1 to 0 centred on each
    edge. ``tilt_step`` in degrees also removes the gaps between the tilts, voxels that no tilt's
    plane crosses; they open when box * step exceeds about 115. Raises ValueError for an unordered
    range, one beyond +-90, a step of 0 or an unknown axis.
    """
    low, high = float(tilt_range[0]), float(tilt_range[1])
    if not -90 <= low < high <= 90:
        raise ValueError(
            f"tilt range is {low} to {high}, expected two angles in order from -90 to 90 degrees"
        )
    if tilt_axis not in ("x", "y"):
        raise ValueError(f"tilt axis is {tilt_axis!r}, expected 'x' or 'y'")
    kz, ky, kx = (frequency_grid(box, full=True) * box).double()
    across = kx if tilt_axis == "y" else -ky
    # Half a turn maps a plane onto itself, so fold to across >= 0, where the tilt angle is the
    # polar angle. The beam's line belongs to +90 and -90 degrees alike.
    height = torch.where(
        across < 0, -kz, torch.where(across == 0, kz.abs() if high >= 90 else -kz.abs(), kz)
    )
    across = across.abs()
    angle = torch.rad2deg(torch.atan2(height, across))
    depth = torch.minimum(high - angle, angle - low)
    mask = (depth / soft + 0.5).clamp(0, 1) if soft > 0 else (depth >= -1e-6).double()
    mask = torch.where(
        (height == 0) & (across == 0), 1.0, mask
    )  # the tilt axis lies in every plane
    if high - low >= 180:
        mask = torch.ones_like(mask)
    if tilt_step is not None:
        near = torch.zeros_like(mask, dtype=torch.bool)
        for tilt in tilt_angles((low, high), tilt_step):
            c, t = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
            near |= (height * c - across * t).abs() <= 0.5 * (c + abs(t)) + 1e-6
        mask = mask * near.double()
    mask = torch.minimum(mask, _opposite(mask)).float()
    return mask if full else mask[..., : box // 2 + 1].contiguous()


def tilt_angles(tilt_range: tuple[float, float], step: float) -> list[float]:
    """The tilts of a series in degrees, both ends included, spaced as near to ``step`` as divides
    the range.
    """
    if step <= 0:
        raise ValueError(f"tilt step is {step}, expected more than 0 degrees")
    low, high = tilt_range
    count = max(1, round((high - low) / step))
    return [low + (high - low) * i / count for i in range(count + 1)]


def _opposite(volume: Tensor) -> Tensor:
    """The value at -k of each frequency k in the full layout (an even box's Nyquist plane is its
    own opposite).
    """
    return volume.flip((0, 1, 2)).roll((1, 1, 1), (0, 1, 2))


def electron_wavelength(voltage_kv: float) -> float:
    """Relativistic wavelength in Å: 0.019687 at 300 kV."""
    volts = voltage_kv * 1e3
    return 12.2643 / math.sqrt(volts * (1 + 0.978466e-6 * volts))


def ctf(
    k: Tensor,
    defocus_um: float | Sequence[float] | Tensor,
    cs_mm: float = 2.7,
    voltage_kv: float = 300.0,
    amplitude_contrast: float = 0.07,
    bfactor: float = 0.0,
    phase_shift_deg: float = 0.0,
) -> Tensor:
    """Contrast transfer -[sqrt(1 - A^2) sin(chi) + A cos(chi)] exp(-B k^2 / 4) at frequencies k
    (1/Å), any shape.

    chi = pi lambda D k^2 - pi/2 Cs lambda^3 k^4 + phase shift; defocus D in um is positive for
    underfocus, Cs in mm, B in Å^2. A sequence of m defoci gives (m, *k.shape). H(0) = -A: bright
    protein becomes dark, as in a micrograph. In 3-D, k is |k|: a frequency lies on the plane
    perpendicular to the beam of the tilt that saw it, so the micrograph's frequency is its length.
    """
    defocus = torch.as_tensor(defocus_um, dtype=torch.float64, device=k.device) * 1e4
    wavelength = electron_wavelength(voltage_kv)
    square = k.double().square()
    bent = 0.5 * math.pi * cs_mm * 1e7 * wavelength**3 * square.square() - math.radians(
        phase_shift_deg
    )
    slope = math.pi * wavelength * square
    chi = defocus.reshape(defocus.shape + (1,) * k.ndim) * slope - bent
    transfer = math.sqrt(1 - amplitude_contrast**2) * torch.sin(
        chi
    ) + amplitude_contrast * torch.cos(chi)
    return (-transfer * torch.exp(-bfactor / 4 * square)).float()


def apply_filter(volumes: Tensor, transfer: Tensor) -> Tensor:
    """Real volumes (..., box, box, box) multiplied in Fourier space by a filter in the
    real-transform layout.
    """
    spectrum = torch.fft.rfftn(volumes, dim=(-3, -2, -1)) * transfer
    filtered: Tensor = torch.fft.irfftn(spectrum, s=volumes.shape[-3:], dim=(-3, -2, -1))
    return filtered
