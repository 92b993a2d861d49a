"""Tilt series: projections are slices, back-projection is their adjoint and brings a density back;
optics by tilt.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from cryoet_core.algorithms.fourier import ctf, tilt_angles
from cryoet_core.simulate import projection
from cryoet_core.simulate.projection import back_project, detector_width, project
from cryoet_core.simulate.tilts import TiltRoute, angular_weights, exposures, ramp
from cryoet_core.simulate.tomogram_settings import TomogramSettings
from cryoet_core.simulate.volume_filter import FilterRoute

TILTS = [-90.0, -60.0, -46.0, -45.0, -10.0, 0.0, 33.0, 71.0, 90.0]
CPU = torch.device("cpu")


def blobs(
    shape: tuple[int, int, int], width: float, *centres: tuple[float, float, float]
) -> Tensor:
    """Gaussians about (z, y, x) from voxel n // 2."""
    z, y, x = torch.meshgrid(*(torch.arange(n) - n // 2 for n in shape), indexing="ij")
    parts = [
        torch.exp(-((z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2) / (2 * width**2))
        for a, b, c in centres
    ]
    return torch.stack(parts).sum(0)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(np.corrcoef(a.flatten().numpy(), b.flatten().numpy())[0, 1])


@pytest.mark.parametrize("shape", [(24, 9, 40), (41, 6, 20), (25, 7, 25)])
def test_projection_equals_central_slice(shape: tuple[int, int, int]) -> None:
    """The transform of a projection, in float64 from the voxels: the volume's at (kz, kx) = k (sin,
    cos).
    """
    volume = blobs(shape, 1.6, (2, 1, 5), (-6.3, -2, -4), (0.5, 0, 0))
    series = project(volume, TILTS)
    d, h, w = shape
    pixels = detector_width(d, w)
    assert series.shape == (len(TILTS), h, pixels)
    z, x, p = (torch.arange(n, dtype=torch.float64) - n // 2 for n in (d, w, pixels))
    k = torch.linspace(-0.45, 0.45, 41, dtype=torch.float64)
    for image, tilt in zip(series, TILTS, strict=True):
        c, s = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
        phases = torch.exp(-2j * math.pi * k[:, None, None] * (s * z[:, None] + c * x))
        wanted = torch.einsum("kzx,zyx->ky", phases, volume.to(torch.complex128))
        found = torch.exp(-2j * math.pi * k[:, None] * p) @ image.T.to(torch.complex128)
        assert float((found - wanted).abs().max() / wanted.abs().max()) < 2e-4, tilt


def test_a_point_is_seen_where_the_tilt_takes_it() -> None:
    image = project(blobs((24, 4, 40), 1.5, (5, 0, -12)), [30.0])[0, 2]
    middle = detector_width(24, 40) // 2
    where = float((image * (torch.arange(len(image)) - middle)).sum() / image.sum())
    assert where == pytest.approx(-12 * math.cos(math.pi / 6) + 5 * math.sin(math.pi / 6), abs=0.01)


def test_back_projection_is_the_adjoint_and_chunks_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn((14, 6, 22), generator=generator)
    series = project(volume, TILTS)
    other = torch.randn(series.shape, generator=generator)
    back = back_project(other, TILTS, 14, 22)
    assert float((back * volume).sum()) == pytest.approx(float((other * series).sum()), rel=1e-4)
    monkeypatch.setattr(projection, "CHUNK_BYTES", 1)
    assert torch.allclose(project(volume, TILTS), series, atol=1e-5)
    assert torch.allclose(back_project(other, TILTS, 14, 22), back, atol=1e-4)


def route(**changes: object) -> TiltRoute:
    values: dict[str, object] = {"ctf": False, "dose": 0.0, "route": "tilts"} | changes
    return TiltRoute(TomogramSettings(**values), 4.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(32, 12, 32), (20, 8, 45)])
def test_the_full_range_brings_the_density_back(shape: tuple[int, int, int]) -> None:
    volume = blobs(shape, 1.7, (3, -1, 6.3), (-4, 2, -8))
    image = route(tilt_range=(-90.0, 90.0), tilt_step=2.0).image(volume)
    assert correlation(image, volume) > 0.99
    assert float((image * volume).sum() / volume.square().sum()) == pytest.approx(1, abs=0.01)
    assert float(image.mean() / volume.mean()) == pytest.approx(1, abs=0.02)  # slow changes too


def test_a_point_becomes_a_symmetric_peak_at_its_place() -> None:
    volume = torch.zeros((33, 9, 33))
    volume[16, 4, 16] = 1
    image = route(tilt_range=(-60.0, 60.0)).image(volume)
    assert np.unravel_index(int(image.argmax()), image.shape) == (16, 4, 16)
    for axes in ((0,), (2,), (0, 2)):
        assert torch.allclose(image, image.flip(axes), atol=2e-3 * float(image.max()))
    assert float(image[15, 4, 16]) > 0.3 * float(image.max())  # longer along the beam,
    assert float(image[16, 4, 15]) < 0  # and undershoots beside it
    assert float(image[:, :4].abs().max()) < 1e-6  # rows of y are apart


def test_both_routes_agree() -> None:
    volume = blobs((48, 40, 48), 2.0, (4, -3, 7.3), (-8, 5, -10))
    for changes in ({"ctf": True}, {"ctf": True, "tilt_range": (-40.0, 60.0)}, {"ctf": False}):
        settings = TomogramSettings(dose=0.0, **changes)  # type: ignore[arg-type]
        tilts, single = (
            TiltRoute(settings, 4.0).image(volume),
            FilterRoute(settings, 4.0).image(volume),
        )
        assert correlation(tilts, single) > 0.98
        assert float((tilts * single).sum() / single.square().sum()) == pytest.approx(1, abs=0.04)


def test_the_defocus_gradient_against_each_column_at_its_own_defocus() -> None:
    settings = TomogramSettings(dose=0.0, voxel_size=8.0, bfactor=100.0)
    series = torch.randn((1, 20, 420), generator=torch.Generator().manual_seed(1))
    found = TiltRoute(settings, 3.0)._exposed(series[0], 50.0, 0.0, 600)
    size = (128, 512)
    spectrum = torch.fft.rfft2(series[0].double(), s=size)
    y, x = torch.fft.fftfreq(size[0], 8.0), torch.fft.rfftfreq(size[1], 8.0)
    k = (y.double().square()[:, None] + x.double().square()).sqrt()
    for column in (3, 100, 210, 333, 415):
        defocus = 3.0 + (column - 210) * 8.0 * math.tan(math.radians(50)) * 1e-4
        transfer = -ctf(k, defocus, 2.7, 300.0, 0.07, 100.0).double()
        wanted = torch.fft.irfft2(spectrum * transfer, s=size)[:20, column]
        assert float((found[:, column] - wanted).norm() / wanted.norm()) < 0.03, column


def test_no_gradient_at_zero_tilt_and_none_without_ctf() -> None:
    image = torch.randn((16, 40), generator=torch.Generator().manual_seed(2))
    flat = route()._exposed(image, 55.0, 0.0, 40)
    assert torch.allclose(flat, image, atol=1e-5)
    assert len(route()._defoci(0.0)) == 1


def test_doses_by_growing_tilt() -> None:
    assert exposures([-4.0, -2.0, 0.0, 2.0, 4.0], 50.0) == [35.0, 15.0, 5.0, 25.0, 45.0]
    damaged = route(dose=120.0).image(blobs((24, 24, 24), 1.0, (0, 0, 0)))
    whole = route().image(blobs((24, 24, 24), 1.0, (0, 0, 0)))
    assert 0.5 < float(damaged.max() / whole.max()) < 0.95


def test_angles_share_the_half_circle() -> None:
    for tilt_range, total in (((-90.0, 90.0), 180.0), ((-60.0, 60.0), 123.0)):
        weights = angular_weights(tilt_angles(tilt_range, 3.0))
        assert float(weights.sum()) == pytest.approx(math.radians(total))


def test_the_ramp_is_the_frequency() -> None:
    x = torch.arange(400.0)
    wave = torch.cos(2 * math.pi * 0.1 * x)[None, None] * torch.hann_window(400)
    assert (
        float((ramp(wave) / 0.1 - wave)[..., 100:300].abs().max()) < 0.014
    )  # the slope of the window


def test_noise_fills_what_the_tilts_have_seen() -> None:
    noise = route(tilt_range=(-60.0, 60.0)).noise(
        (48, 10, 48), np.random.default_rng(0), np.ones((10, 48)), CPU
    )
    window = torch.hann_window(48)
    power = torch.fft.rfftn(noise * window[:, None, None] * window).abs().square().mean(1)
    kz, kx = torch.fft.fftfreq(48)[:, None], torch.fft.rfftfreq(48)[None]
    angle, radius = torch.rad2deg(torch.atan2(kz.abs(), kx)), torch.hypot(kz, kx)
    inside, missing = (
        (angle < 55) & (radius > 0.15) & (radius < 0.45),
        (angle > 70) & (radius > 0.15) & (radius < 0.45),
    )
    assert float(power[missing].mean() / power[inside].mean()) < 0.01
