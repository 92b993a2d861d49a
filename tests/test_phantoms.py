"""Built-in complexes: sizes, symmetry, and that they differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cryoet_core.algorithms.transforms import rotate
from cryoet_core.simulate.shapes.phantoms import (
    PHANTOMS,
    choose_phantoms,
    draw_phantom,
    load_phantom,
)
from cryoet_core.simulate.shapes.pointgroups import axis_rotation, point_group
from cryoet_core.support.errors import UserError

GROUPS = {
    "double-ring-c7": "C7",
    "stacked-rings-d7": "D7",
    "ring-c6": "C6",
    "double-ring-d6": "D6",
    "octahedral-cage": "O",
    "tetrahedral": "T",
    "icosahedral-shell": "I",
    "tetramer-d2": "D2",
    "spike-c3": "C3",
    "mushroom-c4": "C4",
    "y-shaped": "C2",
}


@pytest.mark.parametrize(
    ("name", "order"),
    [("C1", 1), ("C7", 7), ("D2", 4), ("D7", 14), ("T", 12), ("O", 24), ("I", 60)],
)
def test_point_groups_are_groups_of_rotations(name: str, order: int) -> None:
    group = point_group(name)
    assert group.shape == (order, 3, 3)
    assert np.allclose(group @ group.transpose(0, 2, 1), np.eye(3))
    assert np.allclose(np.linalg.det(group), 1)
    products = np.einsum("aij,bjk->abik", group, group).reshape(-1, 3, 3)
    nearest = np.abs(products[:, None] - group[None]).max((2, 3)).min(1)
    assert nearest.max() < 1e-6


def test_unknown_point_group_and_axis_direction() -> None:
    with pytest.raises(ValueError, match="point group"):
        point_group("X3")
    # A right-handed quarter turn about +z carries x onto y.
    assert np.allclose(axis_rotation((1, 0, 0), 90) @ [0, 0, 1], [0, 1, 0])


def test_there_are_enough_of_true_size() -> None:
    assert len(PHANTOMS) >= 12
    for name in PHANTOMS:
        structure = load_phantom(name, 6.0, 20.0)
        assert 80 <= structure.diameter <= 320, name
        density = structure.density
        axes = np.indices(density.shape) - density.shape[0] // 2
        assert np.abs((axes * density).sum((1, 2, 3)) / density.sum()).max() < 0.05, name  # voxels


@pytest.mark.parametrize("name", list(GROUPS))
def test_symmetry_is_the_stated_one_and_no_more(name: str) -> None:
    density = torch.tensor(draw_phantom(name, 6.0, 24.0), dtype=torch.float32)[None, None]
    group = torch.tensor(point_group(GROUPS[name]))
    turned = rotate(density, group, fill=0.0, mode="fourier").reshape(len(group), -1)
    for copy in turned:
        assert np.corrcoef(copy, density.ravel())[0, 1] > 0.99
    odd = torch.tensor(axis_rotation((1, 0.4, 0.2), 47.0))[None]
    assert np.corrcoef(rotate(density, odd, fill=0.0).ravel(), density.ravel())[0, 1] < 0.97


def test_no_two_look_alike_in_any_orientation() -> None:
    """Rotation-invariant radial profiles of mass and of the power spectrum tell every pair
    apart.
    """
    profiles = {}
    for name in PHANTOMS:
        density = draw_phantom(name, 8.0)
        n = 48
        start = (n - len(density)) // 2
        grid = np.zeros((n, n, n))
        cut = density if start >= 0 else density[tuple(slice(-start, -start + n) for _ in range(3))]
        at = max(start, 0)
        grid[tuple(slice(at, at + len(cut)) for _ in range(3))] = cut
        power = np.abs(np.fft.fftshift(np.fft.fftn(grid))) ** 2
        radius = np.sqrt(((np.indices((n, n, n)) - n // 2) ** 2).sum(0)).round().astype(int)
        shells = [np.bincount(radius.ravel(), v.ravel())[: n // 2] for v in (grid, np.sqrt(power))]
        profiles[name] = np.concatenate([s / np.linalg.norm(s) for s in shells])
    names = list(profiles)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            assert np.linalg.norm(profiles[first] - profiles[second]) > 0.05, (first, second)


def test_choosing() -> None:
    assert choose_phantoms(["3"]) == list(PHANTOMS)[:3]
    assert choose_phantoms(["filament", "ring-c6"]) == ["filament", "ring-c6"]
    assert choose_phantoms([]) == []
    for words, reason in (
        (["0"], "expected 1 to"),
        (["nix"], "no phantom 'nix'"),
        (["2", "ring-c6"], "no phantom '2'"),
    ):
        with pytest.raises(UserError, match=reason):
            choose_phantoms(words)
    with pytest.raises(UserError, match="no phantom"):
        draw_phantom("nix", 10.0)
    with pytest.raises(UserError, match="`voxel_size`"):
        draw_phantom("ring-c6", 0.0)
