"""Rotations and normalisation: exactness, direction, composition, uniformity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from scipy.spatial.transform import Rotation

from cryoet_core.algorithms.transforms import (
    oversample,
    quaternion_to_matrix,
    random_rotations,
    rotate,
    rotation_grid,
    standardise,
)


def blobs(
    n: int = 32, count: int = 6, seed: int = 0, width: float = 2.0, reach: float = 0.15
) -> torch.Tensor:
    """(1, 1, n, n, n): smooth, without symmetry, zero at the border."""
    rng = np.random.default_rng(seed)
    axes = np.indices((n, n, n)) - n // 2
    volume = sum(
        weight * np.exp(-((axes - centre[:, None, None, None]) ** 2).sum(0) / (2 * width**2))
        for weight, centre in zip(
            rng.uniform(0.5, 1, count), rng.normal(0, reach * n / 2, (count, 3)), strict=True
        )
    )
    return torch.tensor(volume, dtype=torch.float32)[None, None]


def quarter_turn(first: int, second: int) -> torch.Tensor:
    """Carries axis ``first`` onto axis ``second``."""
    matrix = torch.zeros(3, 3)
    third = 3 - first - second
    matrix[third, third] = matrix[second, first] = 1
    matrix[first, second] = -1
    return matrix


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(np.corrcoef(a.numpy().ravel(), b.numpy().ravel())[0, 1])


def test_standardise_gives_mean_zero_and_deviation_one_per_volume() -> None:
    volumes = torch.randn(3, 1, 8, 8, 8) * torch.tensor([1.0, 5.0, 0.1]).reshape(3, 1, 1, 1, 1) + 7
    done = standardise(volumes)
    assert torch.allclose(done.mean((1, 2, 3, 4)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(done.std((1, 2, 3, 4), correction=0), torch.ones(3), atol=1e-4)
    assert torch.equal(standardise(torch.full((1, 1, 4, 4, 4), 3.0)), torch.zeros(1, 1, 4, 4, 4))


@pytest.mark.parametrize(("mode", "tolerance"), [("trilinear", 1e-4), ("fourier", 0.06)])
@pytest.mark.parametrize("n", [16, 17])
def test_identity_and_quarter_turns_move_voxels_exactly(
    mode: str, tolerance: float, n: int
) -> None:
    exact = (
        mode == "trilinear"
    )  # the other mode is exact for smooth volumes, on the average over positions
    volume = (
        torch.randn(1, 1, n, n, n, generator=torch.Generator().manual_seed(1))
        if exact
        else blobs(n)
    )
    same = rotate(volume, torch.eye(3)[None], fill=0.0, mode=mode)  # type: ignore[arg-type]
    assert torch.allclose(same, volume, atol=tolerance)
    for first, second in ((0, 1), (1, 2), (2, 0), (1, 0)):
        turned = rotate(volume, quarter_turn(first, second)[None], fill=0.0, mode=mode)  # type: ignore[arg-type]
        # torch.rot90 turns the first axis onto the second about (n - 1) / 2: take an odd cube about
        # n // 2.
        odd = slice(1 - n % 2, None)
        expected = torch.rot90(volume[0, 0, odd, odd, odd], 1, (first, second))
        assert torch.allclose(turned[0, 0, odd, odd, odd], expected, atol=tolerance)


def test_rotation_is_active_and_shift_comes_after() -> None:
    point = torch.zeros(1, 1, 32, 32, 32)
    point[0, 0, 16, 16, 22] = 1  # 6 voxels along x
    turned = rotate(point, quarter_turn(2, 0)[None], torch.tensor([[0.0, 3.0, -2.0]]), fill=0.0)
    peak = torch.nonzero(turned[0, 0] > 0.9).tolist()
    assert peak == [[22, 19, 14]]  # x -> z, then (0, 3, -2)


def test_composition() -> None:
    volume = blobs()
    first, second = random_rotations(2, torch.Generator().manual_seed(3)).split(1)
    twice = rotate(
        rotate(volume, first, fill=0.0, mode="fourier"), second, fill=0.0, mode="fourier"
    )
    once = rotate(volume, second @ first, fill=0.0, mode="fourier")
    assert correlation(twice, once) > 0.9995
    assert correlation(rotate(rotate(volume, first), first.transpose(1, 2)), volume) > 0.99


@pytest.mark.parametrize(
    ("mode", "order", "tolerance"), [("trilinear", 1, 2e-4), ("fourier", 3, 0.02)]
)
def test_agrees_with_scipy(mode: str, order: int, tolerance: float) -> None:
    volume = blobs(seed=4)
    matrix = Rotation.from_euler("zyx", [20, -50, 130], degrees=True).as_matrix()
    shift = np.array([1.5, -0.5, 2.25])
    centre = np.full(3, 16.0)
    offset = centre - matrix.T @ (centre + shift)
    expected = ndimage.affine_transform(
        volume[0, 0].double().numpy(), matrix.T, offset, order=order
    )
    got = rotate(volume, torch.tensor(matrix)[None], torch.tensor(shift)[None], fill=0.0, mode=mode)  # type: ignore[arg-type]
    assert np.abs(got[0, 0].numpy() - expected).max() < tolerance * expected.max()


@pytest.mark.parametrize("n", [32, 31])
def test_modes_against_gaussians_at_their_turned_places(n: int) -> None:
    """Errors against the density itself, not an interpolation of it; blobs of 1.2 voxels reach far
    in frequency.
    """
    rng = np.random.default_rng(0)
    centres, matrix = (
        rng.normal(0, 2.5, (8, 3)),
        random_rotations(1, torch.Generator().manual_seed(5)),
    )
    axes = np.indices((n, n, n)) - n // 2

    def density(points: np.ndarray) -> np.ndarray:
        return sum(
            np.exp(-((axes - p[:, None, None, None]) ** 2).sum(0) / (2 * 1.2**2)) for p in points
        )  # type: ignore[return-value]

    truth = density(centres @ matrix[0].numpy().T)
    volume = torch.tensor(density(centres), dtype=torch.float32)[None, None]
    errors = {}
    for mode in ("trilinear", "fourier"):
        difference = rotate(volume, matrix, fill=0.0, mode=mode)[0, 0].numpy() - truth  # type: ignore[arg-type]
        errors[mode] = np.sqrt((difference**2).sum() / (truth**2).sum())
    assert errors["fourier"] < 0.012
    assert errors["trilinear"] < 0.15


@pytest.mark.parametrize(("n", "factor"), [(16, 2), (15, 2), (15, 3), (16, 3)])
def test_oversampling_keeps_the_values(n: int, factor: int) -> None:
    """Without the compensation the fine grid passes through the samples; with it, blurred samples
    do.
    """
    volume = blobs(n, width=1.5)
    fine = oversample(volume, factor)
    assert fine.shape[-3:] == (n * factor,) * 3
    offset = (n * factor) // 2 - factor * (n // 2)
    frequency = torch.fft.fftfreq(n * factor)
    blur = torch.sinc(frequency) ** 2
    response = blur[:, None, None] * blur[:, None] * blur
    plain = torch.fft.ifftn(torch.fft.fftn(fine, dim=(2, 3, 4)) * response, dim=(2, 3, 4)).real
    assert torch.allclose(
        plain[..., offset::factor, offset::factor, offset::factor], volume, atol=1e-5
    )


def test_batch_equals_single_and_one_volume_takes_many_rotations() -> None:
    volumes = torch.cat([blobs(seed=s) for s in range(3)])
    matrices = random_rotations(3, torch.Generator().manual_seed(0))
    batch = rotate(volumes, matrices)
    single = torch.cat([rotate(v[None], m[None]) for v, m in zip(volumes, matrices, strict=True)])
    assert torch.allclose(batch, single, atol=1e-6)
    many = rotate(volumes[:1], matrices)
    assert torch.allclose(many[1], rotate(volumes[:1], matrices[1:2])[0], atol=1e-6)
    assert torch.allclose(
        rotate(volumes, matrices[:1])[2], rotate(volumes[2:], matrices[:1])[0], atol=1e-6
    )


def test_box_sides_may_differ() -> None:
    volume = torch.zeros(1, 1, 16, 20, 25)
    volume[0, 0, 8 + 3, 10, 12] = 1
    turned = rotate(volume, quarter_turn(0, 2)[None], fill=0.0)
    assert torch.nonzero(turned[0, 0] > 0.9).tolist() == [[8, 10, 15]]


def test_fill() -> None:
    volume = torch.full((1, 1, 24, 24, 24), 5.0)
    turn = torch.tensor(
        Rotation.from_euler("x", 45, degrees=True).as_matrix(), dtype=torch.float32
    )[None]
    assert torch.allclose(rotate(volume, turn), volume, atol=1e-5)
    assert float(rotate(volume, turn, fill=0.0).min()) == 0.0
    noise = torch.randn(1, 1, 24, 24, 24, generator=torch.Generator().manual_seed(0)) * 3 + 5
    filled = rotate(noise, turn, fill="noise", generator=torch.Generator().manual_seed(1))
    again = rotate(noise, turn, fill="noise", generator=torch.Generator().manual_seed(1))
    assert torch.equal(filled, again)
    corner = filled[0, 0, :3, :3]
    assert 2.0 < float(corner.std()) < 4.0
    assert abs(float(corner.mean()) - 5) < 1.5


def test_gradient_passes() -> None:
    volume = blobs(16).requires_grad_()
    rotate(volume, random_rotations(1, torch.Generator().manual_seed(0))).square().sum().backward()
    assert volume.grad is not None
    assert bool(volume.grad.abs().sum() > 0)


@pytest.mark.parametrize(
    ("volume", "matrix"),
    [((2, 8, 8, 8), (2, 3, 3)), ((2, 1, 8, 8, 8), (3, 3)), ((2, 2, 8, 8, 8), (2, 3, 3))],
)
def test_wrong_shapes_are_named(volume: tuple[int, ...], matrix: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        rotate(torch.zeros(volume), torch.zeros(matrix))


def test_random_rotations_are_uniform() -> None:
    matrices = random_rotations(20000, torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(
        matrices @ matrices.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(20000, 3, 3)
    )
    assert torch.allclose(torch.linalg.det(matrices), torch.ones(20000, dtype=torch.float64))
    assert float(matrices.mean(0).abs().max()) < 0.02
    assert float((matrices**2).mean(0).sub(1 / 3).abs().max()) < 0.01
    for axis in range(3):
        assert stats.kstest(matrices[:, axis, 0].numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-3
    angles = torch.acos(((matrices.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)).numpy()
    assert stats.kstest(angles, lambda t: (t - np.sin(t)) / np.pi).pvalue > 1e-3  # Haar measure


def test_quaternions_agree_with_scipy() -> None:
    quaternions = torch.randn(
        10, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    expected = Rotation.from_quat(quaternions.roll(-1, 1).numpy()).as_matrix()
    assert np.allclose(quaternion_to_matrix(quaternions).numpy(), expected)


@pytest.mark.parametrize("step", [20.0, 40.0])
def test_rotation_grid_covers_evenly(step: float) -> None:
    grid = rotation_grid(step, dtype=torch.float64)
    assert torch.allclose(grid[0], torch.eye(3, dtype=torch.float64))
    assert len(grid) == round(8 * np.pi**2 / np.radians(step) ** 3)
    targets = random_rotations(500, torch.Generator().manual_seed(0), dtype=torch.float64)
    traces = torch.einsum("aij,bij->ab", targets, grid)
    nearest = torch.rad2deg(torch.acos(((traces.amax(1) - 1) / 2).clamp(-1, 1)))
    assert float(nearest.max()) < 1.1 * step
    assert float(nearest.mean()) < 0.65 * step
    with pytest.raises(ValueError, match="step"):
        rotation_grid(0)
