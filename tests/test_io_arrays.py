"""numpy files: taken by their names, never unpickled."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryoet_core.algorithms.orientation import euler_to_matrix
from cryoet_core.exchange.facts import identify
from cryoet_core.formats.arrays import open_arrays
from cryoet_core.formats.sniff import describe
from cryoet_core.support.errors import UserError


def volumes(count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 6, 6, 6)).astype(np.float32)


def test_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", volumes()[:, None])
    source = open_arrays(tmp_path / "a.npy")
    assert (len(source), source.shape, source.voxel_size, source.sign) == (4, (6, 6, 6), None, None)
    np.testing.assert_array_equal(source.read(np.array([2, 0])), volumes()[[2, 0]])


def test_npz_with_everything(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    angles, coordinates = np.arange(12.0).reshape(4, 3), np.arange(12.0).reshape(4, 3) + 100
    np.savez(
        path,
        subtomograms=volumes(),
        voxel_size=12.0,
        contrast="dark",
        labels=[1, 0, -1, 1],
        class_names=["a", "b"],
        angles_rot_tilt_psi=angles,
        coords_xyz_12A_voxels=coordinates,
        tomogram=["t1", "t1", "007", "t2"],
        score=np.arange(4.0),
        weights=np.zeros((4, 6, 6, 6)),
        remark=np.zeros(2),
    )
    source = open_arrays(path)
    assert (source.voxel_size, source.sign) == (12, -1)
    assert list(source.labels) == ["b", "a", "", "b"]
    assert list(source.tomogram) == ["t1", "t1", "007", "t2"]
    np.testing.assert_allclose(source.rotations, euler_to_matrix(angles))
    np.testing.assert_allclose(source.positions, coordinates[:, ::-1] * 12)
    assert set(source.extras) == {"score", "weights"}
    assert source.notes == ["not taken over: remark (2,)"]
    assert identify(path)["volumes"] == 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("coords_zyx_angstrom", [[1, 2, 3]]),
        ("coordinates_xyz_voxels", [[6, 4, 2]]),
        ("coords_xyz_2.5A_voxels", [[7.5, 5, 2.5]]),
    ],
)
def test_coordinates_by_name(tmp_path: Path, name: str, expected: list[list[float]]) -> None:
    np.savez(
        tmp_path / "a.npz", **{"x": volumes(1), "voxel_size": 2.0, name: np.array([[1.0, 2, 3]])}
    )
    np.testing.assert_allclose(open_arrays(tmp_path / "a.npz").positions, expected)


def test_the_array_of_the_volumes_may_have_to_be_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", first=volumes(), second=volumes())
    with pytest.raises(UserError, match="`key`"):
        open_arrays(tmp_path / "a.npz")
    assert len(open_arrays(tmp_path / "a.npz", "second")) == 4
    with pytest.raises(UserError, match="has no such array"):
        open_arrays(tmp_path / "a.npz", "third")


class Harmful:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemError('the pickle was opened')",))


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    for name, write in (
        (
            "a.npy",
            lambda path: np.save(path, np.array([Harmful()], dtype=object), allow_pickle=True),
        ),
        ("a.npz", lambda path: np.savez(path, volumes=np.array([Harmful()], dtype=object))),
        ("a.pkl", lambda path: path.write_bytes(pickle.dumps(Harmful()))),
    ):
        write(tmp_path / name)
        with pytest.raises(UserError, match=r"pickle|no numpy file"):
            open_arrays(tmp_path / name)
        identify(tmp_path / name)
    assert "pickle" in describe(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 4), "f4"), "shape"),
        (np.zeros((2, 3, 3, 3), "c8"), "complex64"),
        (np.array([["a"]]), "shape"),
        (np.zeros((0, 3, 3, 3), "f4"), "shape"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray, words: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=words):
        open_arrays(tmp_path / "a.npy")


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    where=st.integers(0, 900), values=st.binary(min_size=1, max_size=20), cut=st.integers(1, 4000)
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_damaged_files_never_give_a_traceback(
    tmp_path: Path, suffix: str, where: int, values: bytes, cut: int
) -> None:
    good = tmp_path / f"good.{suffix}"
    if not good.exists():
        np.save(good, volumes()) if suffix == "npy" else np.savez(
            good, volumes=volumes(), voxel_size=3.0
        )
    raw = bytearray(good.read_bytes())
    raw[where : where + len(values)] = values
    bad = tmp_path / f"bad.{suffix}"
    bad.write_bytes(raw[:cut])
    with contextlib.suppress(UserError):
        open_arrays(bad)
    with contextlib.suppress(UserError):
        identify(bad)
