"""Structures from maps and atomic models: mass, centre, orientation, resolution, and files that are
not any.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import gemmi
import mrcfile
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryoet_core.simulate.shapes.density import atoms_to_density, gaussian_width, resample, trim
from cryoet_core.simulate.shapes.structures import (
    find_structures,
    load_density,
    load_structure,
    read_atoms,
)
from cryoet_core.support.errors import UserError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
shared_only = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no shared data at {SHARED}")


def cloud(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positions = rng.normal(0, (12, 20, 30), (n, 3))
    weights = rng.choice([6.0, 7.0, 8.0, 16.0], n)
    return positions - (positions * weights[:, None]).sum(0) / weights.sum(), weights


def centre_of_mass(density: np.ndarray, voxel_size: float) -> np.ndarray:
    """In Å from voxel n // 2."""
    axes = np.indices(density.shape) - (np.array(density.shape) // 2)[:, None, None, None]
    return (axes * density).sum((1, 2, 3)) / density.sum() * voxel_size


def write_model(path: Path, positions_zyx: np.ndarray, elements: list[str]) -> Path:
    structure = gemmi.Structure()
    model = gemmi.Model("1")
    chain = gemmi.Chain("A")
    for number, (place, element) in enumerate(zip(positions_zyx, elements, strict=True)):
        residue = gemmi.Residue()
        residue.name, residue.seqid = "ALA", gemmi.SeqId(number + 1, " ")
        atom = gemmi.Atom()
        atom.name, atom.element = element, gemmi.Element(element)
        atom.pos = gemmi.Position(*place[::-1])
        residue.add_atom(atom)
        chain.add_residue(residue)
    model.add_chain(chain)
    structure.add_model(model)
    structure.setup_entities()
    if path.suffix == ".cif":
        structure.make_mmcif_document().write_file(str(path))
    else:
        structure.write_pdb(str(path))
    return path


def write_map(path: Path, data: np.ndarray, voxel_size: float) -> Path:
    with mrcfile.new(path) as file:
        file.set_data(data.astype(np.float32))
        file.voxel_size = voxel_size
    return path


@pytest.mark.parametrize("voxel_size", [4.0, 6.5, 10.0])
def test_atoms_keep_their_electrons_and_their_centre(voxel_size: float) -> None:
    positions, weights = cloud()
    offset = np.array([3.0, -7.7, 1.3])
    density = atoms_to_density(
        positions + offset, weights, voxel_size, width=max(5.0, voxel_size / 2)
    )
    assert density.sum() * voxel_size**3 == pytest.approx(weights.sum(), rel=1e-6)
    assert np.allclose(centre_of_mass(density, voxel_size), offset, atol=0.02)


def test_one_atom_is_a_gaussian_of_the_stated_width() -> None:
    at = np.array([[2.3, -1.1, 0.7]])
    density = atoms_to_density(at, np.array([8.0]), 2.0, width=5.0)
    axes = (np.indices(density.shape) - density.shape[0] // 2) * 2.0
    squares = ((axes - at[0][:, None, None, None]) ** 2).sum(0)
    expected = 8 * np.exp(-squares / 50) / (2 * np.pi * 25) ** 1.5
    assert np.abs(density - expected).max() < 0.01 * expected.max()


def test_width_conventions() -> None:
    assert gaussian_width(20) == pytest.approx(20 / (np.pi * np.sqrt(2)))
    assert gaussian_width(20, "2sigma") == 10
    with pytest.raises(ValueError, match="resolution"):
        gaussian_width(0)
    with pytest.raises(ValueError, match="convention"):
        gaussian_width(20, "fwhm")


def test_turning_atoms_is_turning_the_map() -> None:
    positions, weights = cloud()
    matrix = Rotation.from_euler("xyz", [30, 50, -70], degrees=True).as_matrix()
    size = 64

    def on_grid(p: np.ndarray) -> np.ndarray:
        density = atoms_to_density(p, weights, 5.0, 8.0)
        start = (len(density) - size) // 2
        return np.pad(density, 32)[start + 32 : start + 32 + size, start + 32 : start + 32 + size][
            ..., start + 32 : start + 32 + size
        ]

    centre = np.full(3, size // 2)
    turned = ndimage.affine_transform(
        on_grid(positions), matrix.T, centre - matrix.T @ centre, order=3
    )
    assert np.corrcoef(turned.ravel(), on_grid(positions @ matrix.T).ravel())[0, 1] > 0.9999


@pytest.mark.parametrize(("source", "target"), [(5.0, 5.0), (5.0, 10.0), (4.0, 6.3), (10.0, 6.0)])
def test_resampling_equals_drawing_at_that_voxel_size(source: float, target: float) -> None:
    positions, weights = cloud()
    width = 14.0  # smooth enough for either grid

    def draw(voxel_size: float) -> np.ndarray:
        n = 2 * int(np.ceil(200 / voxel_size))
        line = (np.arange(n) - n // 2) * voxel_size
        z, y, x = (np.exp(-((line[:, None] - p[None]) ** 2) / (2 * width**2)) for p in positions.T)
        return (
            np.einsum("ia,ja,ka,a->ijk", z, y, x, weights, optimize=True)
            / (2 * np.pi * width**2) ** 1.5
        )

    fine, direct = resample(draw(source), source, target), draw(target)
    n = min(len(fine), len(direct)) // 2 * 2
    a, b = (
        d[tuple(slice(len(d) // 2 - n // 2, len(d) // 2 + n // 2) for _ in range(3))]
        for d in (fine, direct)
    )
    assert np.abs(a - b).max() < 2e-3 * b.max()
    assert fine.sum() * target**3 == pytest.approx(weights.sum(), rel=2e-3)


def test_resampling_moves_the_centre_and_does_not_alias() -> None:
    positions, weights = cloud()
    shifted = atoms_to_density(positions + np.array([11.0, -4.0, 6.0]), weights, 4.0, 8.0)
    centre = np.array(shifted.shape) // 2 + np.array([11.0, -4.0, 6.0]) / 4
    moved = resample(shifted, 4.0, 8.0, centre)
    assert np.allclose(centre_of_mass(np.clip(moved, 0, None), 8.0), 0, atol=0.3)
    checkers = (
        np.indices((40, 40, 40)).sum(0) % 2
    ) * 2.0 - 1  # all power at the old Nyquist frequency
    assert np.abs(resample(checkers, 4.0, 10.0)).max() < 1e-9


def test_trim_keeps_the_centre() -> None:
    density = np.zeros((40, 40, 40))
    density[20, 23, 18] = 1
    small = trim(density, 0.5)
    assert np.argwhere(small > 0).tolist() == [
        [len(small) // 2, len(small) // 2 + 3, len(small) // 2 - 2]
    ]
    assert len(small) < 16


@pytest.mark.parametrize("suffix", [".mrc", ".map", ".mrc.gz"])
def test_maps_of_any_voxel_size_are_centred(tmp_path: Path, suffix: str) -> None:
    positions, weights = cloud()
    density = atoms_to_density(positions + np.array([20.0, -10.0, 5.0]), weights, 5.0, 8.0)
    path = write_map(tmp_path / "thing.mrc", density, 5.0)
    if suffix == ".mrc.gz":
        (tmp_path / "thing.mrc.gz").write_bytes(gzip.compress(path.read_bytes()))
    path = path.rename(tmp_path / "thing.map") if suffix == ".map" else tmp_path / f"thing{suffix}"
    loaded = load_density(path, 8.0)
    assert (
        np.abs(centre_of_mass(np.where(loaded > 0.05 * loaded.max(), loaded, 0), 8.0)).max() < 0.5
    )
    structure = load_structure(path, 8.0)
    assert structure.name == "thing"
    assert (structure.density.astype(float) ** 2).sum() / np.clip(
        structure.density, 0, None
    ).sum() == pytest.approx(1, rel=1e-3)
    assert structure.radius < structure.diameter <= 2 * structure.radius


@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_models_keep_axes_and_mass(tmp_path: Path, suffix: str) -> None:
    corners = np.array([[0, 0, 0], [60, 0, 0], [0, 30, 0], [0, 0, 90]], dtype=float)  # (z, y, x)
    path = write_model(tmp_path / f"four{suffix}", corners, ["C", "C", "C", "C"])
    positions, numbers = read_atoms(path)
    assert np.allclose(sorted(map(tuple, positions)), sorted(map(tuple, corners)), atol=1e-3)
    assert numbers.tolist() == [6, 6, 6, 6]
    density = load_density(path, 5.0, resolution=20.0)
    peaks = np.argwhere(density == ndimage.maximum_filter(density, 5))
    peaks = (peaks[density[tuple(peaks.T)] > 0.5 * density.max()] - len(density) // 2) * 5.0
    distances = np.abs(peaks[:, None] - (corners - corners.mean(0))[None]).max(-1)
    assert len(peaks) == 4
    assert distances.min(0).max() <= 5.0
    assert density.sum() * 125 == pytest.approx(24, rel=0.02)


def test_folders_and_duplicate_names(tmp_path: Path) -> None:
    for name in ("b.mrc", "a.mrc"):
        write_map(tmp_path / name, cloud_map(), 5.0)
    (tmp_path / "readme.txt").write_text("no structure")
    assert [p.name for p in find_structures([tmp_path])] == ["a.mrc", "b.mrc"]
    write_model(tmp_path / "a.pdb", np.eye(3) * 9, ["C"] * 3)
    with pytest.raises(UserError, match="second structure named a"):
        find_structures([tmp_path])
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="no structures in this folder"):
        find_structures([tmp_path / "none"])


def cloud_map() -> np.ndarray:
    positions, weights = cloud(100)
    return atoms_to_density(positions, weights, 5.0, 8.0)


def test_what_is_no_structure_is_refused_with_the_reason(tmp_path: Path) -> None:
    good = write_map(tmp_path / "good.mrc", cloud_map(), 5.0)
    bad: dict[str, str] = {}

    def case(name: str, content: bytes, reason: str) -> None:
        (tmp_path / name).write_bytes(content)
        bad[name] = reason

    case("empty.mrc", b"", "empty file")
    case("truncated.mrc", good.read_bytes()[:5000], "cannot be read as an MRC map")
    case("noise.cif", b"\x00\x01\x02 nothing", "cannot be read|no atoms")
    case("empty_model.pdb", b"REMARK nothing\nEND\n", "no atoms")
    case("thing.txt", b"text", "unknown kind")
    write_map(tmp_path / "no_voxel.mrc", cloud_map(), 0.0)
    bad["no_voxel.mrc"] = "voxel size"
    write_map(tmp_path / "dark.mrc", -cloud_map(), 5.0)
    bad["dark.mrc"] = "protein positive"
    write_map(tmp_path / "nan.mrc", np.where(cloud_map() > 1e9, 0, np.nan), 5.0)
    bad["nan.mrc"] = "NaN"
    write_map(tmp_path / "zero.mrc", np.zeros((16, 16, 16)), 5.0)
    bad["zero.mrc"] = "protein positive"
    bad["missing.mrc"] = "no such file"
    for name, reason in bad.items():
        with pytest.raises(UserError, match=reason):
            load_structure(tmp_path / name, 8.0)
    with pytest.raises(UserError, match="no assembly 7"):
        load_structure(write_model(tmp_path / "m.pdb", np.eye(3) * 9, ["C"] * 3), 8.0, assembly="7")


@shared_only
@pytest.mark.parametrize("name", ["1bxn__1bxn.pdb.gz", "1w6t__1W6T.cif.gz", "6w1z__6W1Z.pdb1.gz"])
def test_real_models_agree_with_their_maps(name: str) -> None:
    """Assemblies are built, axes are right: the model's density correlates with the map made
    elsewhere.
    """
    model = load_structure(SHARED / "models" / name, 6.0, 18.0).density
    reference = load_structure(SHARED / "structures" / "10A" / f"{name[:4]}.mrc", 6.0).density
    n = max(len(model), len(reference))
    a, b = (np.pad(d, (n - len(d)) // 2) for d in (model, reference))
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.93


@shared_only
def test_assembly_none_takes_the_atoms_as_deposited() -> None:
    path = SHARED / "models" / "1w6t__1W6T.cif.gz"
    assert len(read_atoms(path)[0]) == 4 * len(read_atoms(path, "none")[0])
    with pytest.raises(UserError, match="no atoms"):
        read_atoms(SHARED / "models" / "4v6x__4v6x.mmtf")
