"""The store: what is written is read, and whatever is wrong is said."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from noise_cubes import cubes

from cryoet_core.store import (
    SPLITS,
    SubtomogramWriter,
    check_store,
    describe_store,
    open_subtomograms,
    save_split,
    split,
    write_store,
)
from cryoet_core.support.errors import UserError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "set.h5"


def rotation_z(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


@pytest.mark.parametrize("announced", [True, False])
def test_everything_comes_back(path: Path, announced: bool) -> None:
    volumes = cubes(25)
    header: dict[str, Any] = {
        "class_names": ("a", "b"),
        "tilt_range": (-60, 50),
        "optics": {"cs": 2.7},
        "snr": 0.1,
    }
    count = 25 if announced else None
    with SubtomogramWriter(
        path, 8, 12.5, -1, **header, provenance={"from": "a test"}, n=count
    ) as writer:
        for i in range(0, 25, 10):
            part = slice(i, min(i + 10, 25))
            size = part.stop - part.start
            writer.append(
                volumes[part],
                labels=np.arange(25)[part] % 3 - 1,
                positions=np.arange(75).reshape(25, 3)[part],
                rotations=np.repeat(rotation_z(30)[None], size, 0),
                tomogram=[f"00{k % 2}" for k in range(25)][part],
                split=["train"] * size,
                defocus=np.arange(25.0)[part],
                clean=volumes[part].astype(np.float32) * 2,
            )
        assert not path.exists()
    assert sorted(os.listdir(path.parent)) == ["set.h5"]
    data = open_subtomograms(path)
    assert (len(data), data.box, data.voxel_size, data.density_sign, data.kind) == (
        25,
        8,
        12.5,
        -1,
        "subtomograms",
    )
    assert (data.class_names, data.tilt_range, data.tilt_axis) == (("a", "b"), (-60.0, 50.0), "y")
    assert (data.optics, data.snr, data.provenance) == ({"cs": 2.7}, 0.1, ({"from": "a test"},))
    np.testing.assert_array_equal(data.read_stored(np.arange(25)), volumes)
    np.testing.assert_array_equal(data.read(slice(None)), -volumes.astype(np.float32))
    np.testing.assert_array_equal(data[-1], -volumes[24].astype(np.float32))
    np.testing.assert_array_equal(data.labels, np.arange(25) % 3 - 1)
    np.testing.assert_array_equal(data.positions, np.arange(75).reshape(25, 3))
    np.testing.assert_allclose(data.rotations, np.repeat(rotation_z(30)[None], 25, 0), atol=1e-6)
    assert list(data.tomogram[:3]) == ["000", "001", "000"]
    assert (data.split == SPLITS.index("train")).all()
    np.testing.assert_array_equal(data.extras["defocus"], np.arange(25.0))
    assert "clean" not in data.extras, "large extras stay on the disk until asked for"
    np.testing.assert_array_equal(
        data.read_extra("clean", np.array([7, 2])), volumes[[7, 2]].astype(np.float32) * 2
    )
    mean, std = data.statistics()
    np.testing.assert_allclose(mean, volumes.astype(np.float64).mean(axis=(1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(std, volumes.astype(np.float64).std(axis=(1, 2, 3)), rtol=1e-4)
    assert check_store(path) == []
    assert describe_store(data)["classes"] == {"a": 8, "b": 8}


def test_volumes_are_contiguous_and_plain_hdf5_reads_them(path: Path) -> None:
    volumes = cubes(5)
    write_store(path, volumes, 10.0)
    with h5py.File(path) as file:
        assert file["volumes"].chunks is None
        assert file["volumes"].id.get_offset() is not None
        np.testing.assert_array_equal(file["volumes"][:], volumes)
        assert file["volumes"].dtype == np.float16


def test_several_files_read_as_one_and_labels_go_by_name(tmp_path: Path) -> None:
    first, second = cubes(6, seed=1), cubes(4, seed=2)
    write_store(
        tmp_path / "a.h5", first, 10.0, np.arange(6) % 2, class_names=("x", "y"), density_sign=1
    )
    write_store(
        tmp_path / "b.h5",
        second,
        10.0,
        np.zeros(4),
        class_names=("y",),
        density_sign=-1,
        dtype="float32",
    )
    data = open_subtomograms([tmp_path / "a.h5", tmp_path / "b.h5"])
    assert data.class_names == ("x", "y")
    np.testing.assert_array_equal(data.labels, [0, 1, 0, 1, 0, 1, 1, 1, 1, 1])
    order = np.array([9, 0, 6, 3, 3, 7])
    expected = np.concatenate([first, -second]).astype(np.float32)[order]
    np.testing.assert_array_equal(data.read(order), expected)
    assert data.density_sign == 0, "the files differ"
    assert data.dtype == np.float32
    np.testing.assert_array_equal(data.source_file, [0] * 6 + [1] * 4)
    np.testing.assert_array_equal(data.source_row, [*range(6), *range(4)])
    part = data.subset(order)
    np.testing.assert_array_equal(part.read(np.arange(6)), expected)
    np.testing.assert_array_equal(part.labels, data.labels[order])
    assert part.sha256 != data.sha256


def test_labels_can_be_hidden(path: Path) -> None:
    write_store(
        path, cubes(4), 10.0, [0, 1, 0, 1], class_names=("x", "y"), extras={"truth": np.arange(4)}
    )
    data = open_subtomograms(path)
    hidden = data.without_labels()
    assert (hidden.labels == -1).all()
    assert hidden.class_names == ()
    assert dict(hidden.extras) == {}
    assert list(data.labels) == [0, 1, 0, 1], "the original keeps its own"
    np.testing.assert_array_equal(hidden.read(slice(None)), data.read(slice(None)))


def test_an_index_beyond_the_end_is_an_index_error(path: Path) -> None:
    write_store(path, cubes(3), 10.0)
    with pytest.raises(IndexError):
        open_subtomograms(path)[3]


# ---- split ---------------------------------------------------------------------------------------


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    labels=st.lists(st.integers(-1, 5), min_size=1, max_size=200),
    parts=st.sampled_from(
        [(0.8, 0.1, 0.1), (0.7, 0.3), (1, 0, 0), (0.34, 0.33, 0.33), (0, 0.5, 0.5)]
    ),
    seed=st.integers(0, 5),
)
@example(
    labels=[0, 1, 1, -1, 2, 3], parts=(0.34, 0.33, 0.33), seed=3
)  # hardly any class has one for each part
def test_a_split_shares_out_every_class(
    labels: list[int], parts: tuple[float, ...], seed: int
) -> None:
    from cryoet_core.store.split import stratified

    values = np.array(labels)
    codes = stratified(values, parts, seed)
    for most, group in [
        (1.0, np.ones(len(values), bool)),
        *((1.5, values == label) for label in set(labels)),
    ]:
        for code, share in enumerate([*parts, 0.0][:3]):
            assert abs((codes[group] == code).sum() - share * group.sum()) <= most
    np.testing.assert_array_equal(codes, stratified(values, parts, seed))


def test_a_split_is_saved_and_selects(path: Path) -> None:
    write_store(path, cubes(20), 10.0, np.arange(20) % 2, class_names=("x", "y"))
    data = open_subtomograms(path)
    save_split(path, split(data, (0.5, 0.25, 0.25), seed=1))
    again = open_subtomograms(path)
    assert [len(again.part(name)) for name in SPLITS] == [10, 5, 5]
    assert check_store(path) == []
    with pytest.raises(UserError, match="sum to 1"):
        split(data, (0.5, 0.1))
    with pytest.raises(UserError, match="no split 'dev'"):
        again.part("dev")


# ---- wrong input ---------------------------------------------------------------------------------


def test_a_missing_file_a_folder_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.h5").touch()
    for name, words in (("none.h5", "no such file"), ("", "folder"), ("empty.h5", "empty")):
        with pytest.raises(UserError, match=words):
            open_subtomograms(tmp_path / name)
    with pytest.raises(UserError, match="no data set"):
        open_subtomograms([])


def test_other_formats_are_named(tmp_path: Path) -> None:
    text, other = tmp_path / "notes.txt", tmp_path / "other.h5"
    text.write_text("some words that are no table of numbers at all\n")
    with h5py.File(other, "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(UserError, match="text file"):
        open_subtomograms(text)
    with pytest.raises(UserError, match="another program"):
        open_subtomograms(other)


def changed(path: Path, change: Any) -> Path:
    write_store(
        path,
        cubes(6),
        10.0,
        [0, 1, 2, 0, 1, 2],
        class_names=("a", "b", "c"),
        positions=np.zeros((6, 3)),
    )
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def replace(file: Any, name: str, values: Any) -> None:
    del file[name]
    file[name] = values


CHANGES: dict[str, tuple[Any, str]] = {
    "kind": (lambda f: f.attrs.__setitem__("kind", "tomograms"), "holds tomograms"),
    "version": (lambda f: f.attrs.__setitem__("version", 99), "version 99"),
    "unfinished": (lambda f: f.attrs.__setitem__("complete", False), "never finished"),
    "no volumes": (lambda f: f.__delitem__("volumes"), "no /volumes"),
    "not cubes": (lambda f: replace(f, "volumes", np.zeros((6, 2, 3, 2), "f4")), "shape"),
    "integers": (lambda f: replace(f, "volumes", np.zeros((6, 8, 8, 8), "i2")), "int16"),
    "short labels": (lambda f: replace(f, "labels", np.zeros(2, "i4")), "labels"),
    "voxel size": (lambda f: f.attrs.__delitem__("voxel_size"), "voxel_size"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_broken_store_is_refused_and_reported(path: Path, name: str) -> None:
    change, words = CHANGES[name]
    changed(path, change)
    with pytest.raises(UserError, match=str(path)):
        open_subtomograms(path)
    assert any(words in line for line in check_store(path)), check_store(path)


@pytest.mark.parametrize("name", ["volumes", "labels", "tomogram", "mean"])
@pytest.mark.parametrize("kind", ["group", "named type"])
def test_another_object_in_the_place_of_a_data_set_is_refused(
    path: Path, name: str, kind: str
) -> None:
    write_store(path, cubes(3), 10.0, [0, 1, 0], class_names=("a", "b"), tomogram=["t", "u", "v"])
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = (
            file.create_group("other")
            if kind == "group"
            else np.dtype("S4" if name == "tomogram" else "f4")
        )
    with pytest.raises(UserError, match=str(path)):
        open_subtomograms(path).read(slice(None))
    assert check_store(path)


def test_chunked_volumes_are_refused(path: Path) -> None:
    def chunk(file: Any) -> None:
        values = file["volumes"][:]
        del file["volumes"]
        file.create_dataset("volumes", data=values, chunks=(1, 8, 8, 8), compression="gzip")

    changed(path, chunk)
    assert "chunked or compressed" in check_store(path)[0]


def test_every_problem_is_reported_not_only_the_first(path: Path) -> None:
    def spoil(file: Any) -> None:
        file["volumes"][1] = np.nan
        file["volumes"][4] = 0.5
        file["labels"][2] = 7
        file["positions"][3] = np.inf
        file["rotations"] = np.repeat(np.diag([1.0, 1, -1])[None], 6, 0)
        file["surprise"] = 1
        file.attrs["density_sign"] = 3
        file.attrs["tilt_range"] = (60, -60)
        file.attrs["optics"] = "{"

    lines = "\n".join(check_store(changed(path, spoil)))
    for words in (
        *(
            "NaN or infinity in row 1",
            "constant in row 4",
            "/labels: out of range in row 2",
            "/positions: not finite",
        ),
        *(
            "/rotations: no rotation",
            "/surprise: no part of a store",
            "density_sign is 3",
            "tilt_range",
            "optics",
        ),
        *("/mean: not that of the volumes", "/std: not that of the volumes"),
    ):
        assert words in lines, f"{words!r} is missing in:\n{lines}"


def test_nan_and_constant_volumes_are_refused_before_a_run(path: Path) -> None:
    volumes = cubes(9)
    volumes[3, 0, 0, 0] = np.nan
    volumes[5] = 0.25
    write_store(path, volumes, 10.0)
    with pytest.raises(UserError, match=r"1 of 9 volumes \(row 3\) is not finite.*--drop-bad"):
        open_subtomograms(path)
    assert len(open_subtomograms(path, check_values=False)) == 9
    volumes[3] = volumes[0]
    write_store(path, volumes, 10.0)
    with pytest.raises(UserError, match=r"\(row 5\) is constant"):
        open_subtomograms(path)


def test_statistics_are_computed_where_a_file_has_none(path: Path) -> None:
    def drop(file: Any) -> None:
        del file["mean"], file["std"]

    data = open_subtomograms(changed(path, drop))
    np.testing.assert_allclose(
        data.statistics()[1], data.read(slice(None)).std(axis=(1, 2, 3)), rtol=1e-4
    )


def test_unequal_boxes_and_voxel_sizes_are_refused(tmp_path: Path) -> None:
    write_store(tmp_path / "a.h5", cubes(2), 10.0)
    write_store(tmp_path / "b.h5", cubes(2, box=6), 10.0)
    write_store(tmp_path / "c.h5", cubes(2), 12.0)
    with pytest.raises(UserError, match=r"box 6, but .* has 8"):
        open_subtomograms([tmp_path / "a.h5", tmp_path / "b.h5"])
    with pytest.raises(UserError, match=r"12 Å, but .* has 10 Å"):
        open_subtomograms([tmp_path / "a.h5", tmp_path / "c.h5"])


@pytest.mark.parametrize("keep", [0.0001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_store_is_refused(path: Path, keep: float) -> None:
    write_store(path, cubes(40), 10.0)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * keep)])
    with pytest.raises(UserError, match=str(path)):
        open_subtomograms(path)
    assert check_store(path)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(where=st.integers(0, 6000), values=st.binary(min_size=1, max_size=64))
@example(where=1153, values=b"\x01")  # a number of a type that is too small for it
def test_damaged_bytes_never_give_a_traceback(tmp_path: Path, where: int, values: bytes) -> None:
    good = tmp_path / "good.h5"
    if not good.exists():
        write_store(
            good, cubes(3), 10.0, [0, 1, 0], class_names=("a", "b"), tomogram=["t", "u", "v"]
        )
    raw = bytearray(good.read_bytes())
    raw[where : where + len(values)] = values
    bad = tmp_path / "bad.h5"
    bad.write_bytes(raw)
    assert all(isinstance(line, str) for line in check_store(bad))
    with contextlib.suppress(UserError):
        open_subtomograms(bad).read(slice(None))
