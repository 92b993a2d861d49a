"""Opening tomograms of every kind: what is understood is right, what is not is refused in one
line.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from tomogram_files import BRIGHT, SHAPE, a_store, noise, refusal, write_mrc, write_zarr

from cryoet_core.picks.table import Picks
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import TomogramOptions, open_tomograms
from cryoet_core.tomograms.sources import stem
from cryoet_core.tomograms.volume import ArrayVolume

zarr = pytest.importorskip("zarr")


# ---- MRC and EM ----------------------------------------------------------------------------------


def test_an_mrc_file_is_mapped_not_read(tmp_path: Path) -> None:
    data = open_tomograms(
        write_mrc(tmp_path / "TS_01.rec"), TomogramOptions(contrast="dark", tilt_range=(-50, 60))
    )
    (found,) = data
    assert (data.kind, len(data), found.name, found.shape, found.voxel_size) == (
        "tomograms",
        1,
        "TS_01",
        SHAPE,
        10.0,
    )
    assert (found.density_sign, found.tilt_range) == (-1, (-50, 60))
    np.testing.assert_array_equal(found.read(), -noise())
    assert isinstance(found.volume, ArrayVolume)
    assert isinstance(found.volume.array.base, (np.memmap, np.ndarray))
    assert isinstance(found.volume.array, np.memmap)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f2", "f4"])
def test_every_mode_and_byte_order(tmp_path: Path, order: str, dtype: str) -> None:
    values = (noise() * 20).astype(dtype) if dtype != "u2" else np.abs(noise() * 20).astype(dtype)
    with mrcfile.new(tmp_path / "a.mrc", values.astype(order + dtype)) as file:
        file.voxel_size = 7.5
    (found,) = open_tomograms(tmp_path / "a.mrc", BRIGHT)
    np.testing.assert_array_equal(found.read(), values.astype(np.float32))


def test_a_packed_file_and_the_axes_of_the_header(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrc")
    with mrcfile.open(path, "r+") as file:
        file.header.mapc, file.header.mapr, file.header.maps = 2, 1, 3
        file.header.cella = (
            100.0,
            80.0,
            60.0,
        )  # along x, y, z, which are rows, columns and sections here
        file.header.mx, file.header.my, file.header.mz = 8, 10, 6
        file.voxel_size = 10.0
    (tmp_path / "a.mrc.gz").write_bytes(gzip.compress(path.read_bytes()))
    for name in ("a.mrc", "a.mrc.gz"):
        (found,) = open_tomograms(tmp_path / name, BRIGHT)
        np.testing.assert_array_equal(found.read(), noise().transpose(0, 2, 1))
        assert found.name == "a"
        assert any("axes were permuted" in note for note in found.notes)


def test_axes_can_be_said(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrc")
    (found,) = open_tomograms(path, TomogramOptions(contrast="bright", axes="yzx"))
    np.testing.assert_array_equal(found.read(), noise().transpose(1, 0, 2))
    region = (slice(2, 5), slice(1, 3), slice(4, 10))
    np.testing.assert_array_equal(found.read(region), noise().transpose(1, 0, 2)[region])
    assert "`axes` zzx" in refusal(path, TomogramOptions(contrast="bright", axes="zzx"))


def test_a_tall_volume_is_one_tomogram_and_a_stack_is_none(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "tall.mrc", noise((16, 8, 8)))
    (found,) = open_tomograms(path, BRIGHT)
    np.testing.assert_array_equal(found.read(), noise((16, 8, 8)))
    with mrcfile.new(tmp_path / "stack.mrc", noise((2, 8, 8, 8))) as file:
        file.set_volume_stack() if not file.is_volume_stack() else None
        file.voxel_size = 10.0
    assert "a stack of 2 volumes" in refusal(tmp_path / "stack.mrc")


@pytest.mark.parametrize("said", [0.0, 1.0])
def test_a_voxel_size_that_nobody_says_is_refused(tmp_path: Path, said: float) -> None:
    path = write_mrc(tmp_path / "a.mrc", voxel_size=said)
    assert "give `voxel_size`" in refusal(path)
    (found,) = open_tomograms(path, TomogramOptions(contrast="bright", voxel_size=8.0))
    assert found.voxel_size == 8.0
    other = write_mrc(tmp_path / "b.mrc", voxel_size=9.0)
    data = open_tomograms(other, TomogramOptions(contrast="bright", voxel_size=8.0))
    assert data.notes == ("b: voxel size 8 Å as given; the file says 9 Å",)


def test_an_em_file(tmp_path: Path) -> None:
    header = bytes([6, 0, 0, 5]) + np.array(SHAPE[::-1], "<i4").tobytes() + bytes(512 - 16)
    (tmp_path / "a.em").write_bytes(header + noise().tobytes())
    assert "give `voxel_size`" in refusal(tmp_path / "a.em")
    (found,) = open_tomograms(tmp_path / "a.em", TomogramOptions(contrast="bright", voxel_size=9.0))
    np.testing.assert_array_equal(found.read(), noise())


def test_files_that_are_no_tomograms(tmp_path: Path) -> None:
    truncated = write_mrc(tmp_path / "cut.mrc")
    truncated.write_bytes(truncated.read_bytes()[:1500])
    (tmp_path / "notes.txt").write_text("some words that are no table of numbers at all\n")
    (tmp_path / "empty.mrc").touch()
    (tmp_path / "p.coords").write_text("1 2 3\n4 5 6\n")
    np.save(tmp_path / "a.npy", noise())
    (tmp_path / "folder").mkdir()
    cases = {
        "cut.mrc": "truncated",
        "notes.txt": "text file",
        "empty.mrc": "empty",
        "p.coords": "`picks`",
        "a.npy": "expected an MRC file",
        "folder": "give the files in it",
        "none.mrc": "no such file",
    }
    for name, words in cases.items():
        assert words in refusal(tmp_path / name), name
    assert "no tomogram is given" in refusal([])
    image = write_mrc(tmp_path / "image.mrc", noise((1, 8, 10)))
    assert "a 2-D image" in refusal(image)


def test_two_tomograms_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    paths = [write_mrc(tmp_path / "TS.mrc"), write_mrc(tmp_path / "b" / "TS.rec")]
    assert "two tomograms are named 'TS'" in refusal(paths)


def test_stems() -> None:
    for name in (
        "TS_01.mrc",
        "a/b/TS_01.mrc.gz",
        "TS_01.ome.zarr",
        "TS_01.tomostar",
        r"C:\x\TS_01.rec",
        "TS_01",
        "x/TS_01/",
    ):
        assert stem(name) == "TS_01"
    assert stem("TS_01_10.00Apx.mrc") == "TS_01_10.00Apx"
    assert stem(".mrc") == ".mrc"


# ---- OME-Zarr ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
def test_an_ome_zarr(tmp_path: Path, version: int) -> None:
    (found,) = open_tomograms(write_zarr(tmp_path / "TS_01.ome.zarr", version=version), BRIGHT)
    assert (found.name, found.shape, found.voxel_size, found.notes) == ("TS_01", SHAPE, 10.0, ())
    np.testing.assert_array_equal(found.read(), noise())
    region = (slice(1, 3), slice(0, 8), slice(5, 7))
    np.testing.assert_array_equal(found.read(region), noise()[region])


def test_axes_units_and_levels_of_an_ome_zarr(tmp_path: Path) -> None:
    turned = write_zarr(tmp_path / "xyz.zarr", noise().transpose(2, 1, 0), axes="xyz")
    (found,) = open_tomograms(turned, BRIGHT)
    np.testing.assert_array_equal(
        found.read((slice(1, 5), slice(2, 8), slice(3, 4))), noise()[1:5, 2:8, 3:4]
    )
    assert "permuted" in found.notes[0]
    (found,) = open_tomograms(
        write_zarr(tmp_path / "czyx.zarr", noise()[None], axes="czyx"), BRIGHT
    )
    np.testing.assert_array_equal(found.read(), noise())
    assert "2 along c" in refusal(
        write_zarr(tmp_path / "two.zarr", noise((2, *SHAPE)), axes="czyx")
    )
    (found,) = open_tomograms(
        write_zarr(tmp_path / "nm.zarr", scales=(1.3,), unit="nanometer"), BRIGHT
    )
    assert found.voxel_size == 13.0
    for unit in (None, "pixel"):
        assert "give `voxel_size`" in refusal(write_zarr(tmp_path / "u.zarr", unit=unit))
    levels = write_zarr(tmp_path / "levels.zarr", scales=(5.0, 10.0))
    for size, shape in ((None, SHAPE), (5.05, SHAPE), (10.0, (3, 4, 5))):
        (found,) = open_tomograms(levels, TomogramOptions(contrast="bright", voxel_size=size))
        assert found.shape == shape
    (found,) = open_tomograms(levels, TomogramOptions(contrast="bright", voxel_size=12.0))
    assert (found.shape, found.voxel_size) == (SHAPE, 12.0)
    assert "as given" in found.notes[0]


@pytest.mark.parametrize("version", [2, 3])
def test_a_missing_or_damaged_chunk_is_said(tmp_path: Path, version: int) -> None:
    path = write_zarr(tmp_path / "a.zarr", version=version)
    chunks = sorted(
        file
        for file in (path / "0").rglob("*")
        if file.is_file() and ".z" not in file.name and "zarr" not in file.name
    )
    assert len(chunks) == 12
    chunks[5].unlink()
    line = refusal(path)
    assert "1 of 12 chunks are missing (the first: 0/" in line
    chunks[5].write_bytes(b"nonsense")
    (found,) = open_tomograms(path, BRIGHT)
    with pytest.raises(UserError, match="cannot be read"):
        found.read()


def test_zarr_folders_that_are_no_images(tmp_path: Path) -> None:
    zarr.open_group(str(tmp_path / "plain.zarr"), mode="w", zarr_format=2)
    assert "without multiscales" in refusal(tmp_path / "plain.zarr")
    gone = write_zarr(tmp_path / "gone.zarr")
    (gone / "0" / ".zarray").unlink()
    assert "level '0' is missing" in refusal(gone)
    torn = write_zarr(tmp_path / "torn.zarr")
    (torn / ".zattrs").write_text("{")
    refusal(torn)
    bare = zarr.create_array(str(tmp_path / "bare.zarr"), data=noise(), zarr_format=2)
    assert bare.shape == SHAPE
    assert "give `voxel_size`" in refusal(tmp_path / "bare.zarr")
    (found,) = open_tomograms(
        tmp_path / "bare.zarr", TomogramOptions(contrast="bright", voxel_size=5.0)
    )
    np.testing.assert_array_equal(found.read(), noise())


# ---- our store -----------------------------------------------------------------------------------


def test_a_store_says_everything_itself(tmp_path: Path) -> None:
    picks = Picks.of(np.array([[10.0, 20, 30]]), "A")
    data = open_tomograms(a_store(tmp_path / "s.h5", picks=picks, tilt_range=(-60, 60)))
    assert [found.name for found in data] == ["A", "B"]
    assert [found.density_sign for found in data] == [1, -1]
    assert data.tomograms[0].tilt_range == (-60, 60)
    assert data.picks is not None
    assert "says that protein is dark, but `contrast` bright" in refusal(tmp_path / "s.h5")
    assert "but `voxel_size` says 12" in refusal(
        tmp_path / "s.h5", TomogramOptions(voxel_size=12.0)
    )
    assert "leave `axes` out" in refusal(tmp_path / "s.h5", TomogramOptions(axes="yzx"))
