"""Class averages: the wedge weighting, poses undone, alignment found again, and the files."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from torch import Tensor

from cryoet_core.algorithms.alignment import (
    aligned_averages,
    aligned_to_each_other,
    make_band,
    search,
    shift_grid,
    spectra,
    turned_references,
)
from cryoet_core.algorithms.averages import class_averages, read_averages, write_averages
from cryoet_core.algorithms.fourier import apply_filter, lowpass, wedge_mask
from cryoet_core.algorithms.orientation import euler_to_matrix
from cryoet_core.algorithms.transforms import random_rotations, rotate, rotation_grid, standardise
from cryoet_core.support.errors import RunError

TILTS = (-60.0, 60.0)


class Held:
    """Volumes in memory that remember how many are asked for at once."""

    def __init__(self, volumes: Tensor) -> None:
        self.volumes, self.largest = volumes, 0

    @property
    def box(self) -> int:
        return self.volumes.shape[-1]

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, indices: Tensor) -> Tensor:
        self.largest = max(self.largest, len(indices))
        return self.volumes[indices]


def blobs(box: int, places: list[tuple[float, float, float]], sigma: float = 1.6) -> Tensor:
    """A body (1, 1, d, h, w) of Gaussian blobs at places (z, y, x) in voxels from the centre."""
    line = torch.arange(box) - box // 2
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    body = torch.zeros(box, box, box)
    for a, b, c in places:
        body += torch.exp(-((z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2) / (2 * sigma**2))
    return body[None, None]


BODY = [(0, 0, 0), (4, 0, 0), (-3, 3, 0), (0, -4, 3), (1, 2, 5)]
OTHER = [(0, 0, 5), (0, 0, -5), (0, 5, 0)]


def correlation(a: Tensor, b: Tensor) -> float:
    return float(np.corrcoef(a.flatten().numpy(), b.flatten().numpy())[0, 1])


def posed(
    body: Tensor, n: int, seed: int, snr: float = float("inf"), shift: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Particles (n, 1, d, h, w) in random poses behind a wedge, their rotations and shifts."""
    generator = torch.Generator().manual_seed(seed)
    rotations = random_rotations(n, generator)
    shifts = (torch.rand(n, 3, generator=generator) * 2 - 1) * shift
    volumes = rotate(body, rotations, shifts)
    noise = torch.randn(volumes.shape, generator=generator) * (volumes.std() / snr**0.5)
    return (
        standardise(apply_filter(volumes + noise, wedge_mask(body.shape[-1], TILTS))),
        rotations,
        shifts,
    )


def test_without_wedge_and_poses_it_is_the_mean():
    volumes = torch.randn(30, 1, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    labels = np.array([0, 1, 1, 2, -1] * 6)
    averages = class_averages(Held(volumes), labels, 4, batch_size=7)
    for name in range(3):
        torch.testing.assert_close(
            averages[name], volumes[labels == name, 0].mean(0), atol=1e-5, rtol=1e-4
        )
    assert averages.shape == (4, 12, 12, 12)
    assert not averages[3].any()


def test_posteriors_weigh_the_particles():
    volumes = torch.randn(9, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    posteriors = torch.rand(9, 3, generator=torch.Generator().manual_seed(2))
    averages = class_averages(Held(volumes), posteriors)
    expected = (
        torch.einsum("nk,nxyz->kxyz", posteriors, volumes[:, 0])
        / posteriors.sum(0)[:, None, None, None]
    )
    torch.testing.assert_close(averages, expected, atol=1e-5, rtol=1e-4)


def test_batches_bound_what_is_held_and_change_nothing():
    volumes = Held(torch.randn(50, 1, 8, 8, 8, generator=torch.Generator().manual_seed(3)))
    labels = np.arange(50) % 3
    few = class_averages(volumes, labels, batch_size=8, tilt_range=TILTS)
    assert volumes.largest == 8
    torch.testing.assert_close(
        few, class_averages(volumes, labels, tilt_range=TILTS), atol=1e-5, rtol=1e-4
    )


def test_what_no_particle_has_seen_stays_empty():
    volumes = torch.randn(20, 1, 16, 16, 16, generator=torch.Generator().manual_seed(4))
    average = class_averages(Held(volumes), np.zeros(20), tilt_range=TILTS)[0]
    spectrum = torch.fft.rfftn(average).abs()
    mask = wedge_mask(16, TILTS)
    assert float(spectrum[mask == 0].max()) < 1e-3
    assert float(spectrum[mask == 1].mean()) > 1.0


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_poses_are_undone_and_the_wedge_is_filled(shift):
    body = blobs(24, BODY)
    volumes, rotations, shifts = posed(body, 60, 5, shift=shift)
    aligned = class_averages(
        Held(volumes),
        np.zeros(60),
        tilt_range=TILTS,
        rotations=rotations,
        shifts=shifts if shift else None,
    )[0]
    plain = class_averages(Held(volumes), np.zeros(60), tilt_range=TILTS)[0]
    assert correlation(aligned, body[0, 0]) > 0.98
    assert correlation(plain, body[0, 0]) < 0.8


def test_wedge_weighting_beats_the_plain_mean_when_poses_are_unevenly_spread():
    """Nine particles of ten in one pose leave a streak along their beam in the plain mean, which
    the weights remove.
    """
    body = blobs(24, BODY)
    rotations = torch.cat(
        [torch.eye(3).repeat(45, 1, 1), random_rotations(5, torch.Generator().manual_seed(6))]
    )
    volumes = apply_filter(rotate(body, rotations), wedge_mask(24, TILTS))
    held, labels = Held(volumes), np.zeros(50)
    weighted = class_averages(held, labels, tilt_range=TILTS, rotations=rotations)[0]
    plain = class_averages(held, labels, rotations=rotations)[0]
    assert correlation(weighted, body[0, 0]) > correlation(plain, body[0, 0]) + 0.02


def test_shifts_alone_are_undone():
    body = blobs(20, BODY)
    shifts = torch.tensor([[1.0, -2.0, 0.0], [0.0, 3.0, -1.0]])
    volumes = rotate(body, torch.eye(3)[None].repeat(2, 1, 1), shifts)
    assert (
        correlation(class_averages(Held(volumes), np.zeros(2), shifts=shifts)[0], body[0, 0]) > 0.99
    )


def test_weights_of_the_wrong_length_are_refused():
    with pytest.raises(ValueError, match=r"expected labels \(4,\)"):
        class_averages(Held(torch.zeros(4, 1, 8, 8, 8)), np.zeros(5))


def test_turning_the_spectrum_is_turning_the_volume():
    body = blobs(24, BODY)
    band = make_band(24, 6, None)
    rotations = random_rotations(8, torch.Generator().manual_seed(7))
    table = turned_references(body[0, 0], rotations, band)
    places = torch.einsum("nij,pj->npi", rotations, torch.tensor(BODY, dtype=torch.float32))
    exact = spectra(torch.cat([blobs(24, some.tolist()) for some in places]), band)
    exact = exact / exact.abs().square().sum(1, keepdim=True).sqrt()
    assert float((table * exact.conj()).sum(1).real.min()) > 0.99


def test_search_finds_a_planted_pose():
    body = blobs(24, BODY)
    band = make_band(24, 6, TILTS)
    grid = rotation_grid(20.0)
    rows = torch.tensor([3, 77, 500])
    planted = torch.tensor([[2.0, 0.0, -2.0], [0.0, 0.0, 0.0], [-2.0, 2.0, 0.0]])
    particles = apply_filter(rotate(body, grid[rows], planted), wedge_mask(24, TILTS))
    table = turned_references(body[0, 0], grid, band)
    candidates = shift_grid(4.0, 2.0).expand(3, -1, 3)
    _, found, shifts = search(spectra(particles, band), table, band, 24, candidates)
    assert found.tolist() == rows.tolist()
    torch.testing.assert_close(shifts, planted)


def test_shift_grid_starts_at_zero_inside_the_ball():
    grid = shift_grid(3.0, 1.5)
    assert grid[0].tolist() == [0.0, 0.0, 0.0]
    assert float(grid.norm(dim=1).max()) <= 3.0
    assert len(grid) == len({tuple(row) for row in grid.tolist()}) == 33


def test_alignment_recovers_two_bodies_from_noisy_particles():
    """Up to the frame of the class, which is free."""
    bodies = [blobs(20, BODY), blobs(20, OTHER)]
    parts = [posed(body, 60, seed, snr=0.3, shift=1.0)[0] for seed, body in enumerate(bodies)]
    volumes, labels = Held(torch.cat(parts)), np.repeat([0, 1], 60)
    lines: list[str] = []
    averages, poses = aligned_averages(
        volumes, labels, tilt_range=TILTS, iterations=5, step_degrees=22, max_shift=2.0,
        generator=torch.Generator().manual_seed(0), report=lines.append,
    )  # fmt: skip
    assert len(lines) == 5
    assert float(poses.shifts.norm(dim=1).max()) <= 2.0 * 3**0.5
    plain = class_averages(volumes, labels, tilt_range=TILTS)
    for body, found, before in zip(bodies, averages, plain, strict=True):
        reached, start = (resemblance(body[0, 0], x) for x in (found, before))
        assert reached > 0.9
        assert reached > start + 0.1


def resemblance(body: Tensor, other: Tensor) -> float:
    """Correlation up to a rotation and a shift, at low resolution."""
    band = make_band(body.shape[-1], 5, None)
    table = turned_references(body, rotation_grid(14.0), band)
    spectrum = spectra(other[None, None], band)
    score, _, _ = search(
        spectrum, table, band, body.shape[-1], shift_grid(3.0, 1.0).expand(1, -1, 3)
    )
    return float(score / spectrum.abs().square().sum().sqrt())


def test_alignment_averages_no_more_than_max_particles():
    volumes = Held(posed(blobs(12, BODY[:3], 1.2), 12, 8)[0])
    _, poses = aligned_averages(
        volumes, np.zeros(12), iterations=1, step_degrees=60, max_particles=5, tilt_range=TILTS
    )
    assert int((poses.scores != 0).sum()) == 5


def test_class_averages_are_turned_towards_each_other():
    body = blobs(20, BODY)
    turned = rotate(body, random_rotations(2, torch.Generator().manual_seed(9)))
    together = aligned_to_each_other(torch.cat([body, turned])[:, 0], step_degrees=15)
    torch.testing.assert_close(together[0], body[0, 0], atol=1e-4, rtol=1e-3)
    for before, after in zip(turned[:, 0], together[1:], strict=True):
        assert correlation(after, body[0, 0]) > max(0.9, correlation(before, body[0, 0]) + 0.05)


def test_files_carry_the_voxel_size_and_the_class_name(tmp_path):
    averages = torch.randn(2, 8, 8, 8)
    paths = write_averages(tmp_path / "averages", averages, ["cluster 1", "a/b"], 12.5)
    assert [path.name for path in paths] == ["cluster 1.mrc", "a_b.mrc"]
    assert all(mrcfile.validate(path) for path in paths)
    (tmp_path / "averages" / "note.mrc").write_text("no map")
    back = read_averages(tmp_path / "averages")
    assert sorted(back) == ["a_b", "cluster 1"]
    volume, size = back["cluster 1"]
    np.testing.assert_array_equal(volume, averages[0].numpy())
    assert size == pytest.approx(12.5)
    assert not list((tmp_path / "averages").glob("*.partial"))


def test_names_that_clash_as_file_names_are_refused(tmp_path):
    with pytest.raises(RunError, match="rename the classes"):
        write_averages(tmp_path, np.zeros((2, 4, 4, 4)), ["a/b", "a:b"], 10.0)


def test_real_ribosomes_average_to_the_known_map_with_the_given_angles():
    """Twenty particles of EMPIAR-10499 and RELION's reconstruction of their set, below 45 Å."""
    real = Path(__file__).parents[2] / "shared" / "data" / "real"
    particles = real / "EMPIAR-10499_subtomograms_20x32_12A.npz"
    if not particles.exists():
        pytest.skip(f"{particles} is not on this machine")
    with np.load(particles) as file:
        volumes = standardise(torch.from_numpy(file["subtomograms"].astype(np.float32))[:, None])
        rotations = torch.from_numpy(euler_to_matrix(file["angles_rot_tilt_psi"])).float()
    known = torch.from_numpy(
        mrcfile.read(real / "EMPIAR-10499" / "warptools_reconstruct_32_12A.mrc").astype(np.float32)
    )
    smooth = lowpass(32, 12.0, 45.0)
    held, labels = Held(volumes), np.zeros(20)
    aligned = class_averages(held, labels, rotations=rotations)[0]
    plain = class_averages(held, labels)[0]
    reached, start = (
        correlation(apply_filter(x, smooth), apply_filter(known, smooth)) for x in (aligned, plain)
    )
    assert reached > 0.55
    assert reached > start + 0.1
