"""Where a particle lies in its box: planted shifts are found, centred ones stay, and moving is
exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from cryoet_core.algorithms.centring import LEAST_SPREAD, Centring, peak, soft_sphere, translate
from cryoet_core.algorithms.fourier import apply_filter, wedge_mask
from cryoet_core.algorithms.transforms import random_rotations, rotate, standardise

BOX = 24


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def particles(n: int, reach: float, noise: float) -> tuple[Tensor, Tensor]:
    """A body of four unequal lobes in random poses behind a wedge, up to ``reach`` voxels off
    centre.
    """
    line = torch.arange(BOX) - BOX // 2
    grid = torch.stack(torch.meshgrid(line, line, line, indexing="ij"))
    places = 2.0 * torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.4]])
    body = torch.stack(
        [torch.exp(-(grid - p[:, None, None, None]).square().sum(0) / 6) for p in places]
    ).sum(0)
    shifts = reach * (2 * torch.rand(n, 3, generator=generator(1)) - 1)
    clean = standardise(rotate(body[None, None], random_rotations(n, generator(2)), shifts))
    noisy = clean + noise * torch.randn(clean.shape, generator=generator(3))
    return standardise(apply_filter(noisy, wedge_mask(BOX, (-60.0, 60.0)))), shifts


def in_batches(volumes: Tensor, size: int = 25) -> Callable[[], Iterator[Tensor]]:
    return lambda: iter(volumes.split(size))


@pytest.mark.parametrize("noise", [1.5, 3.0])
def test_planted_shifts_are_found(noise: float) -> None:
    volumes, shifts = particles(80, 3.0, noise)
    centring = Centring.fit(in_batches(volumes), BOX, 6.0, "cpu")
    found = centring.shifts(volumes)
    error = (found - shifts).square().mean().sqrt()
    assert float(error) < 1.0
    assert float(error) < 0.6 * float(shifts.square().mean().sqrt())
    assert centring.spread > 1.0
    assert float(found.norm(dim=1).max()) <= 6.0 + 0.9


def test_centred_particles_stay() -> None:
    volumes, _ = particles(60, 0.0, 1.5)
    centring = Centring.fit(in_batches(volumes), BOX, 6.0, "cpu")
    assert float(centring.shifts(volumes).square().mean().sqrt()) < 0.7
    assert centring.spread >= LEAST_SPREAD


def test_noise_alone_gives_small_shifts() -> None:
    volumes = standardise(torch.randn(60, 1, BOX, BOX, BOX, generator=generator(4)))
    centring = Centring.fit(in_batches(volumes), BOX, 6.0, "cpu")
    found = centring.shifts(volumes)
    assert bool(torch.isfinite(found).all())
    assert centring.spread < 3.0


def test_switched_off() -> None:
    volumes, _ = particles(10, 3.0, 0.0)
    centring = Centring.fit(in_batches(volumes), BOX, 0.0, "cpu")
    assert not centring.shifts(volumes).any()
    assert centring.centred(volumes) is volumes


def test_centred_volumes_lie_at_the_centre_whatever_their_company() -> None:
    volumes, _ = particles(40, 3.0, 0.0)
    centring = Centring.fit(in_batches(volumes), BOX, 6.0, "cpu")
    again = centring.shifts(centring.centred(volumes))
    assert float(again.square().mean().sqrt()) < 0.5
    torch.testing.assert_close(
        centring.shifts(volumes[3:4]), centring.shifts(volumes)[3:4], rtol=1e-4, atol=1e-4
    )


def test_constant_volumes_do_no_harm() -> None:
    volumes = torch.zeros(4, 1, BOX, BOX, BOX)
    assert bool(
        torch.isfinite(Centring.fit(in_batches(volumes), BOX, 6.0, "cpu").shifts(volumes)).all()
    )


def test_shards_give_the_centring_of_the_whole(lockstep: Callable[..., None]) -> None:
    volumes, _ = particles(40, 2.0, 0.5)
    alone = Centring.fit(in_batches(volumes), BOX, 4.0, "cpu", rounds=3)
    found = {}

    def work(rank: int, reduce: Callable[[Tensor], Tensor]) -> None:
        mine = volumes[:30] if rank == 0 else volumes[30:]
        found[rank] = Centring.fit(in_batches(mine), BOX, 4.0, "cpu", rounds=3, reduce=reduce)

    lockstep(2, work)
    for rank in (0, 1):
        difference = (found[rank].template - alone.template).norm() / alone.template.norm()
        assert float(difference) < 0.02
        assert found[rank].spread == pytest.approx(alone.spread, rel=0.01)


@pytest.mark.parametrize("box", [7, 8])
def test_moving_by_whole_voxels_rolls(box: int) -> None:
    volumes = torch.randn(2, box, box, box, generator=generator(5))
    moved = translate(volumes, torch.tensor([[1.0, -2.0, 3.0], [0.0, 0.0, 0.0]]))
    torch.testing.assert_close(
        moved[0], volumes[0].roll((1, -2, 3), (0, 1, 2)), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(moved[1], volumes[1], rtol=1e-4, atol=1e-5)


def test_moving_to_and_fro_changes_nothing() -> None:
    line = torch.arange(12) - 6
    blob = torch.exp(
        -(line[:, None, None] ** 2 + line[None, :, None] ** 2 + line[None, None, :] ** 2) / 5.0
    )[None]
    shift = torch.tensor([[0.3, -1.4, 0.7]])
    moved = translate(blob, shift)
    centre = torch.stack(
        [(moved[0].sum([a for a in range(3) if a != b]) * line).sum() for b in range(3)]
    )
    torch.testing.assert_close(centre / moved.sum(), shift[0], rtol=0, atol=0.02)
    torch.testing.assert_close(translate(moved, -shift), blob, rtol=0, atol=1e-3)


def bump(size: int, centre: tuple[float, float, float], width: float = 2.0) -> Tensor:
    """A log-likelihood map with its top at ``centre``, zero shift at voxel 0, periodic."""
    line = torch.fft.fftfreq(size) * size
    away = [(((line - c + size / 2) % size) - size / 2) ** 2 for c in centre]
    return -(away[0][:, None, None] + away[1][None, :, None] + away[2][None, None, :])[None] / (
        2 * width**2
    )


@pytest.mark.parametrize("centre", [(0.0, 0.0, 0.0), (1.3, -2.4, 0.2), (-3.0, 3.4, -0.4)])
def test_peak_is_found_between_voxels(centre: tuple[float, float, float]) -> None:
    found = peak(bump(16, centre), reach=6.0, spread=1e3)
    torch.testing.assert_close(found[0], torch.tensor(centre), rtol=0, atol=1e-3)
    torch.testing.assert_close(
        peak(bump(16, centre), 12.0, 1e3, voxel=2.0)[0], 2 * torch.tensor(centre), rtol=0, atol=2e-3
    )


def test_peak_obeys_reach_and_prior() -> None:
    far = bump(16, (6.0, 0.0, 0.0))
    assert float(peak(far, 3.0, 1e3).norm()) <= 3.5
    # bump and prior are both Gaussian: the most probable shift is the precision-weighted mean
    found = peak(bump(16, (4.0, 0.0, 0.0), width=2.0), 8.0, spread=2.0)
    torch.testing.assert_close(found[0], torch.tensor([2.0, 0.0, 0.0]), rtol=0, atol=1e-3)
    # a shift of 1 has been applied already: the whole shift is 1 + delta, pulled towards 0
    found = peak(
        bump(16, (3.0, 0.0, 0.0), width=2.0), 8.0, 2.0, origin=torch.tensor([[1.0, 0.0, 0.0]])
    )
    torch.testing.assert_close(found[0], torch.tensor([1.0, 0.0, 0.0]), rtol=0, atol=1e-3)
    assert torch.equal(peak(torch.zeros(1, 8, 8, 8), 0.0, 1.0), torch.zeros(1, 3))


@pytest.mark.parametrize("size", [9, 12])
def test_soft_sphere(size: int) -> None:
    sphere = soft_sphere(size, 3.0)
    middle = size // 2
    assert float(sphere[middle, middle, middle]) > 0.99
    assert float(sphere[middle + 3, middle, middle]) == pytest.approx(0.5)
    assert float(sphere[0, 0, 0]) < 1e-3
