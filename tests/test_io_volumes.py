"""MRC and EM files of every kind: read right, or refused with one line."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import warnings
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mrcfile.dtypes import HEADER_DTYPE

from cryoet_core.exchange.facts import identify
from cryoet_core.formats.sniff import describe, kind_of
from cryoet_core.formats.source import VolumeSource, cube_problem
from cryoet_core.formats.volumes import open_volumes
from cryoet_core.support.errors import UserError

QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def volume(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) % 100).astype(dtype)


def write_mrc(path: Path, data: np.ndarray, voxel_size: float = 10.0, **header: Any) -> Path:
    with mrcfile.new(path, data, overwrite=True) as mrc:
        mrc.voxel_size = voxel_size
        for name, value in header.items():
            mrc.header[name] = value
    return path


def write_em(path: Path, data: np.ndarray, machine: int = 6, code: int = 5) -> Path:
    order = ">" if machine in (0, 3, 5) else "<"
    header = bytearray(512)
    header[0], header[3] = machine, code
    header[4:16] = np.array(data.shape[::-1], order + "i4").tobytes()
    path.write_bytes(bytes(header) + data.astype(data.dtype.newbyteorder(order)).tobytes())
    return path


@pytest.mark.parametrize("dtype", ["i1", "i2", "f4", "u2", "f2"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_mode_and_byte_order(tmp_path: Path, dtype: str, order: str) -> None:
    data = volume(4, 4, 4, dtype=dtype)
    path = write_mrc(tmp_path / "a.mrc", data)
    if order == ">":
        raw = path.read_bytes()
        header = np.frombuffer(raw[:1024], HEADER_DTYPE).byteswap().copy()
        header["machst"] = (0x11, 0x11, 0, 0)
        path.write_bytes(header.tobytes() + data.astype(data.dtype.newbyteorder(">")).tobytes())
    stack = open_volumes(path)
    np.testing.assert_array_equal(stack.read(np.array([0]))[0], data)
    assert stack.read(np.array([0])).dtype == np.dtype(dtype)
    assert stack.voxel_size == pytest.approx((10, 10, 10))


@pytest.mark.parametrize("mode", [3, 4, 16, 101])
def test_other_modes_are_refused(tmp_path: Path, mode: int) -> None:
    path = write_mrc(tmp_path / "a.mrc", volume(4, 4, 4), mode=mode)
    with pytest.raises(UserError, match=f"mode {mode}"):
        open_volumes(path)


@pytest.mark.parametrize("axes", [(1, 2, 3), (2, 1, 3), (3, 1, 2), (3, 2, 1), (1, 3, 2), (2, 3, 1)])
def test_axes_in_any_order_become_zyx(tmp_path: Path, axes: tuple[int, int, int]) -> None:
    right = volume(3, 4, 5)  # z, y, x
    order = [3 - axis for axis in reversed(axes)]  # sections, rows, columns
    path = write_mrc(tmp_path / "a.mrc", right.transpose(order))
    with mrcfile.open(path, "r+") as mrc:
        mrc.header.mapc, mrc.header.mapr, mrc.header.maps = axes
        mrc.header.mx, mrc.header.my, mrc.header.mz = 5, 4, 3
        mrc.header.cella = (5 * 1.5, 4 * 2.5, 3 * 3.5)
    stack = open_volumes(path)
    np.testing.assert_array_equal(stack.read(np.array([0]))[0], right)
    assert stack.voxel_size == pytest.approx((3.5, 2.5, 1.5))


@pytest.mark.parametrize("axes", [(10, 11, 12), (1, 1, 2), (0, 1, 2), (-1, 2, 3)])
def test_impossible_axes_are_refused(tmp_path: Path, axes: tuple[int, int, int]) -> None:
    path = write_mrc(tmp_path / "a.mrc", volume(4, 4, 4), mapc=axes[0], mapr=axes[1], maps=axes[2])
    with pytest.raises(UserError, match="axis order"):
        open_volumes(path)


@pytest.mark.parametrize(
    ("name", "pack"), [("a.mrc.gz", gzip.compress), ("a.mrc.bz2", bz2.compress)]
)
def test_packed_files_are_read_and_damaged_ones_refused(
    tmp_path: Path, name: str, pack: Any
) -> None:
    data = volume(4, 4, 4)
    raw = pack(write_mrc(tmp_path / "a.mrc", data).read_bytes())
    path = tmp_path / name
    path.write_bytes(raw)
    np.testing.assert_array_equal(open_volumes(path).read(np.array([0]))[0], data)
    path.write_bytes(raw[:-20])
    with pytest.raises(UserError, match="damaged or truncated"):
        open_volumes(path)


def test_an_extended_header_is_skipped(tmp_path: Path) -> None:
    data = volume(4, 4, 4)
    with mrcfile.new(tmp_path / "a.mrc", data) as mrc:
        mrc.set_extended_header(np.arange(512, dtype="f4"))
    np.testing.assert_array_equal(open_volumes(tmp_path / "a.mrc").read(np.array([0]))[0], data)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("marked", [True, False])
def test_stacks_of_subtomograms(tmp_path: Path, count: int, marked: bool) -> None:
    data = volume(count, 4, 4, 4)
    path = write_mrc(tmp_path / "a.mrcs", data if marked else data.reshape(-1, 4, 4))
    stack = open_volumes(path)
    assert len(stack) == count
    np.testing.assert_array_equal(stack.read(np.arange(count)), data)
    np.testing.assert_array_equal(stack.read(np.array([count - 1, 0])), data[[count - 1, 0]])
    assert VolumeSource.of_stacks([stack]).voxel_size == 10


def test_bytes_are_signed_unless_the_header_says_otherwise(tmp_path: Path) -> None:
    data = np.full((4, 4, 4), 200, np.uint8)
    path = write_mrc(tmp_path / "a.mrc", data.view(np.int8))
    assert open_volumes(path).read(np.array([0])).max() == -56
    for changes in ({"dmin": 0, "dmax": 200}, {"imod": 0}):
        write_mrc(path, data.view(np.int8))
        raw = bytearray(path.read_bytes())
        if "imod" in changes:
            raw[152:160] = np.array([1146047817, 0], "<i4").tobytes()
        else:
            raw[76:84] = np.array([0, 200], "<f4").tobytes()
        path.write_bytes(raw)
        stack = open_volumes(path)
        assert stack.read(np.array([0])).max() == 200
        assert any("unsigned" in note for note in stack.notes)


@pytest.mark.parametrize("keep", [0, 100, 1023, 1024, 1025, 1024 + 255])
def test_a_truncated_mrc_is_refused(tmp_path: Path, keep: int) -> None:
    path = write_mrc(tmp_path / "a.mrc", volume(4, 4, 4))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=str(path)):
        open_volumes(path)
    if keep:
        assert kind_of(path) in ("volumes", "unknown", "damaged")


def test_a_file_longer_than_its_header_says_is_refused(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrc", volume(4, 4, 4))
    path.write_bytes(path.read_bytes() + bytes(64))
    with pytest.raises(UserError, match="disagree"):
        open_volumes(path)


@pytest.mark.parametrize(
    ("size", "words"),
    [(0.0, "0"), (1.0, "1 Å"), (0.05, "nm")],
)
def test_a_doubtful_voxel_size_is_not_taken(tmp_path: Path, size: float, words: str) -> None:
    source = VolumeSource.of_stacks(
        [open_volumes(write_mrc(tmp_path / "a.mrc", volume(4, 4, 4), size))]
    )
    assert source.voxel_size is None
    assert words in source.voxel_reason


def test_an_anisotropic_voxel_size_is_not_taken(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrc", volume(4, 4, 4), (10.0, 10.0, 20.0))  # type: ignore[arg-type]
    source = VolumeSource.of_stacks([open_volumes(path)])
    assert source.voxel_size is None
    assert "10, 10, 20" in source.voxel_reason


@pytest.mark.parametrize("machine", [6, 3])
@pytest.mark.parametrize(("code", "dtype"), [(1, "i1"), (2, "i2"), (4, "i4"), (5, "f4"), (9, "f8")])
def test_em_files(tmp_path: Path, machine: int, code: int, dtype: str) -> None:
    data = volume(3, 4, 5, dtype=dtype)
    path = write_em(tmp_path / "a.em", data, machine, code)
    stack = open_volumes(path)
    assert (stack.format, stack.voxel_size) == ("EM", None)
    np.testing.assert_array_equal(stack.read(np.array([0]))[0], data)
    assert describe(path) == "an EM file"


def test_em_files_that_are_no_volumes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="motive list of 7 particles"):
        open_volumes(write_em(tmp_path / "motl.em", volume(1, 7, 20)))
    with pytest.raises(UserError, match="complex"):
        open_volumes(write_em(tmp_path / "c.em", volume(2, 2, 2, dtype="c8"), code=8))
    path = write_em(tmp_path / "short.em", volume(4, 4, 4))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="truncated EM"):
        open_volumes(path)
    assert "truncated EM" in describe(path)


def test_shapes_that_are_no_subtomograms() -> None:
    assert cube_problem((8, 8, 8)) is None
    for shape, words in (
        ((1, 8, 8), "2-D image"),
        ((37, 8, 8), "tilt images"),
        ((8, 9, 10), "not a cube"),
    ):
        problem = cube_problem(shape)
        assert problem is not None
        assert words in problem


@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
@given(
    where=st.integers(0, 1023), values=st.binary(min_size=1, max_size=16), cut=st.integers(0, 1300)
)
def test_damaged_headers_never_give_a_traceback(
    tmp_path: Path, where: int, values: bytes, cut: int
) -> None:
    good = tmp_path / "good.mrc"
    if not good.exists():
        write_mrc(good, volume(4, 4, 4))
    raw = bytearray(good.read_bytes())
    raw[where : where + len(values)] = values
    bad = tmp_path / "bad.mrc"
    bad.write_bytes(raw[: max(1, cut)] if cut < 1280 else raw)
    assert identify(bad)["what"]
    with contextlib.suppress(UserError), warnings.catch_warnings():
        open_volumes(bad).read(np.array([0]))


@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
@given(
    start=st.sampled_from(
        [
            b"",
            b"\x1f\x8b",
            b"BZh9",
            b"\x93NUMPY",
            b"PK\x03\x04",
            b"\x89HDF\r\n\x1a\n",
            b"data_\nloop_\n_a\n",
            b"\x80\x04",
        ]
    ),
    rest=st.binary(min_size=1, max_size=2000),
)
def test_any_bytes_are_something(tmp_path: Path, start: bytes, rest: bytes) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(start + rest)
    with contextlib.suppress(UserError):
        assert identify(path)["kind"]
    with contextlib.suppress(UserError):
        open_volumes(path)
