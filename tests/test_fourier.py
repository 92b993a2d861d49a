"""Filters: the wedge, the CTF, shells; all Hermitian for even and odd boxes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cryoet_core.algorithms.fourier import (
    apply_filter,
    ctf,
    electron_wavelength,
    frequency_grid,
    lowpass,
    radial_frequency,
    shell_index,
    tilt_angles,
    wedge_mask,
)

BOXES = [31, 32, 35]


def filters(box: int, full: bool) -> dict[str, torch.Tensor]:
    return {
        "wedge": wedge_mask(box, (-60, 60), full=full),
        "asymmetric wedge": wedge_mask(box, (-50, 70), full=full),
        "wedge about x": wedge_mask(box, (-35, 55), tilt_axis="x", full=full),
        "soft wedge": wedge_mask(box, (-50, 70), soft=4, full=full),
        "stepped wedge": wedge_mask(box, (-51, 60), tilt_step=9, full=full),
        "ctf": ctf(radial_frequency(box, 10, full), 4.0, bfactor=300),
        "low-pass": lowpass(box, 10, 40, full=full),
    }


@pytest.mark.parametrize("box", BOXES)
def test_filters_are_hermitian_and_both_layouts_agree(box: int) -> None:
    volume = torch.randn(box, box, box, generator=torch.Generator().manual_seed(0))
    half, full = filters(box, False), filters(box, True)
    for name in half:
        assert half[name].dtype == torch.float32, name
        assert torch.equal(half[name], full[name][..., : box // 2 + 1]), name
        out = torch.fft.ifftn(torch.fft.fftn(volume.double()) * full[name])
        assert float(out.imag.abs().max()) < 1e-6 * float(out.real.abs().max()), name
        assert torch.allclose(apply_filter(volume, half[name]), out.real.float(), atol=1e-4), name


@pytest.mark.parametrize("box", BOXES)
def test_frequencies_are_those_of_numpy(box: int) -> None:
    grid = frequency_grid(box, 12.0)
    assert np.allclose(grid[0, :, 0, 0], np.fft.fftfreq(box, 12.0))
    assert np.allclose(grid[2, 0, 0], np.fft.rfftfreq(box, 12.0))
    assert float(radial_frequency(box, 12.0)[0, 0, 1]) == pytest.approx(1 / (12 * box))
    assert int(shell_index(box)[0, 0, -1]) == box // 2
    assert int(shell_index(box)[1, 1, 1]) == 2


@pytest.mark.parametrize("box", [32, 48, 49])
def test_wedge_fraction(box: int) -> None:
    inside = radial_frequency(box, full=True) <= 0.5
    for tilt_range, expected in (
        ((-60, 60), 2 / 3),
        ((-50, 70), 2 / 3),
        ((-40, 40), 4 / 9),
        ((-90, 90), 1.0),
    ):
        mask = wedge_mask(box, tilt_range, full=True)
        assert float(mask[inside].mean()) == pytest.approx(expected, abs=0.015)


def test_wedge_geometry() -> None:
    mask = wedge_mask(32, (-60, 60), full=True).bool()
    assert bool(mask[0, 5, 0])  # the tilt axis is always seen
    assert bool(mask[0, 0, 7])
    assert not bool(mask[7, 0, 0])  # the beam's axis never is
    kz, _, kx = frequency_grid(32, full=True)
    inner = (kz.abs() < 0.5) & (kx.abs() < 0.5)
    expected = kz.abs() <= math.tan(math.radians(60)) * kx.abs() + 1e-6
    assert torch.equal(mask[inner], expected[inner])
    about_x = wedge_mask(32, (-60, 60), tilt_axis="x", full=True).bool()
    assert torch.equal(about_x, mask.transpose(1, 2))


def test_asymmetric_wedge_keeps_the_side_of_its_larger_angle() -> None:
    mask = wedge_mask(32, (-30, 70), full=True).bool()
    assert bool(mask[5, 0, 5])  # kz = kx tan(45): the plane of tilt +45
    assert not bool(mask[-5, 0, 5])
    assert bool(mask[-5, 0, -5])
    assert not bool(wedge_mask(32, (-70, 30), full=True)[5, 0, 5])
    beam = wedge_mask(32, (-60, 90), full=True)
    assert float(beam[3, 0, 0]) == float(beam[-3, 0, 0]) == 1


def test_projection_of_a_tilted_specimen_lies_on_the_kept_plane() -> None:
    """The mask's sign of the tilt is that of an active right-handed turn about +y followed by
    projection along z.
    """
    from cryoet_core.algorithms.transforms import rotate

    box, tilt = 32, 40.0
    volume = torch.zeros(1, 1, box, box, box)
    volume[0, 0, 20, 16, 18] = volume[0, 0, 12, 20, 13] = volume[0, 0, 17, 11, 16] = 1
    c, s = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    turn = torch.tensor(
        [[c, 0, -s], [0, 1, 0], [s, 0, c]]
    )  # (z, y, x): x = c x + s z, z = -s x + c z
    smooth = lowpass(box, 1, 5)
    volume = apply_filter(volume, smooth)
    projection = rotate(volume, turn[None], fill=0.0, mode="fourier")[0, 0].sum(0)
    points = torch.fft.fftfreq(box) * 2 * math.pi
    axis = (torch.arange(box) - box // 2).float()
    # Direct Fourier sum on the plane kz = kx tan(tilt): in-plane frequency q -> (q sin, ky, q cos).
    z, y, x = (torch.exp(-1j * torch.outer(f, axis)) for f in (points * s, points, points * c))
    plane = torch.einsum("qi,qk,pj,ijk->pq", z, x, y, volume[0, 0].to(z.dtype))
    shifted = torch.fft.fft2(torch.fft.ifftshift(projection))
    assert torch.allclose(plane[:6, :6], shifted[:6, :6], atol=0.05 * float(plane.abs().max()))


def test_tilt_step_opens_gaps_only_in_large_boxes() -> None:
    assert torch.equal(wedge_mask(32, (-60, 60), tilt_step=3), wedge_mask(32, (-60, 60)))
    coarse = wedge_mask(64, (-60, 60), tilt_step=6)
    whole = wedge_mask(64, (-60, 60))
    assert 0.4 < float(coarse.sum() / whole.sum()) < 0.9
    assert float((coarse * (1 - whole)).max()) == 0
    assert tilt_angles((-60, 60), 3) == pytest.approx(list(range(-60, 61, 3)))
    assert tilt_angles((-50, 70), 50) == pytest.approx([-50, 10, 70])


@pytest.mark.parametrize("bad", [(60, -60), (-100, 60), (10, 10)])
def test_bad_tilt_ranges_are_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="tilt range"):
        wedge_mask(16, bad)


def test_bad_axis_and_step_are_refused() -> None:
    with pytest.raises(ValueError, match="tilt axis"):
        wedge_mask(16, (-60, 60), tilt_axis="z")
    with pytest.raises(ValueError, match="tilt step"):
        wedge_mask(16, (-60, 60), tilt_step=0)


def test_ctf_constants_and_zeros() -> None:
    assert electron_wavelength(300) == pytest.approx(0.019687, rel=1e-4)
    assert electron_wavelength(200) == pytest.approx(0.025079, rel=1e-4)
    assert float(ctf(torch.zeros(1), 4.0, amplitude_contrast=0.1)) == pytest.approx(-0.1, abs=1e-6)
    for defocus in (5.0, 10.0):  # first zeros at 3.14 and 4.44 nm
        zero = 1 / math.sqrt(electron_wavelength(300) * defocus * 1e4)
        assert float(ctf(torch.tensor([zero]), defocus, cs_mm=0, amplitude_contrast=0).abs()) < 1e-5
        before = ctf(
            torch.tensor([0.5 * zero, 0.95 * zero]), defocus, cs_mm=0, amplitude_contrast=0
        )
        assert bool((before < 0).all())
    assert 1 / math.sqrt(electron_wavelength(300) * 5e4) == pytest.approx(1 / 31.4, rel=2e-3)


def test_ctf_follows_the_written_formula() -> None:
    k = torch.linspace(0, 0.05, 50, dtype=torch.float64)
    lam, cs, amplitude = electron_wavelength(300), 2.7e7, 0.07
    chi = math.pi * lam * 3e4 * k**2 - math.pi / 2 * cs * lam**3 * k**4 + math.radians(90)
    expected = -(math.sqrt(1 - amplitude**2) * chi.sin() + amplitude * chi.cos()) * torch.exp(
        -500 * k**2 / 4
    )
    got = ctf(k, 3.0, 2.7, 300, amplitude, bfactor=500, phase_shift_deg=90)
    assert torch.allclose(got, expected.float(), atol=1e-5)
    many = ctf(k, [3.0, 4.0], 2.7, 300, amplitude, bfactor=500, phase_shift_deg=90)
    assert many.shape == (2, 50)
    assert torch.allclose(many[0], got)


def test_lowpass_edges() -> None:
    mask = lowpass(64, 10.0, 40.0)
    k = radial_frequency(64, 10.0)
    assert float(mask[k <= 1 / 40].min()) == 1
    assert float(mask[k >= 1 / 40 + 2 / 640 + 1e-6].max()) < 1e-6
    assert set(lowpass(32, 10.0, 40.0, edge=0).unique().tolist()) == {0.0, 1.0}
