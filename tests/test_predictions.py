"""predictions.h5 and predictions.star: written whole or not at all, read back, refused when
something else.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from gemmi import cif

from cryoet_core.plugins.interfaces import Labels
from cryoet_core.runs.predictions import read_predictions, write_predictions
from cryoet_core.support.errors import RunError, UserError

N = 5


def made_data(**more: Any) -> Any:
    """What predictions need of a data set: two files, the volumes in an order of their own."""
    facts = {"positions": None, "tomogram": None, "voxel_size": 12.0, "box": 24} | more
    return _Data(
        paths=(Path("/data/a.h5"), Path("/data/my b.h5")),
        source_file=np.array([0, 1, 0, 1, 1]),
        source_row=np.array([3, 0, 1, 2, 1]),
        **facts,
    )


class _Data(SimpleNamespace):
    def __len__(self) -> int:
        return N


def made_labels(**more: Any) -> Labels:
    probabilities = np.eye(3, dtype=np.float32)[[0, 2, 1, 1, 0]] * 0.7 + 0.1
    facts: dict[str, Any] = {
        "labels": np.array([0, 2, 1, -1, 0]),
        "probabilities": probabilities,
        "classes": ("20S proteasome", "b", "Å'\" #x"),
        "embedding": np.arange(10, dtype=np.float32).reshape(N, 2),
        "extra": {"energy": np.arange(N) / 2},
    }
    return Labels(**facts | more)


@pytest.fixture
def run(tmp_path: Path) -> Any:
    return SimpleNamespace(dir=tmp_path, rank=0, method="disca")


def test_round_trip(run: Any) -> None:
    labels = made_labels()
    path = write_predictions(run, labels, made_data())
    assert path == run.dir / "predictions.h5"
    for where in (path, run.dir):
        found = read_predictions(where)
        assert (len(found), found.method, found.labels.classes) == (N, "disca", labels.classes)
        assert np.array_equal(found.labels.labels, labels.labels)
        assert np.allclose(found.labels.probabilities, labels.probabilities)
        assert np.array_equal(found.labels.embedding, labels.embedding)
        assert np.array_equal(found.labels.extra["energy"], labels.extra["energy"])
        assert found.files == ("/data/a.h5", "/data/my b.h5")
        assert found.file.tolist() == [0, 1, 0, 1, 1]
        assert found.rows.tolist() == [3, 0, 1, 2, 1]


def test_without_embedding_and_extras(run: Any) -> None:
    found = read_predictions(
        write_predictions(run, made_labels(embedding=None, extra={}), made_data())
    )
    assert found.labels.embedding is None
    assert found.labels.extra == {}


def test_another_folder_is_made(run: Any) -> None:
    path = write_predictions(run, made_labels(), made_data(), run.dir / "new" / "one")
    assert sorted(p.name for p in path.parent.iterdir()) == ["predictions.h5", "predictions.star"]
    assert list(run.dir.iterdir()) == [run.dir / "new"]


def test_only_rank_0_writes(run: Any) -> None:
    run.rank = 1
    assert not write_predictions(run, made_labels(), made_data()).exists()


def particles(folder: Path) -> dict[str, list[str]]:
    block = cif.read(str(folder / "predictions.star")).find_block("particles")
    loop = block[0].loop
    return {tag: [cif.as_string(value) for value in block.find_loop(tag)] for tag in loop.tags}


def test_star(run: Any) -> None:
    positions = np.array([[12.0, 24, 36]] * N)
    tomogram = np.array(["007", "t b", "1", "1", "1"], dtype=object)
    write_predictions(run, made_labels(), made_data(positions=positions, tomogram=tomogram))
    table = particles(run.dir)
    assert table["_rlnImageName"][:2] == ["000004@/data/a.h5", "000001@/data/my b.h5"]
    assert table["_rlnClassNumber"] == ["1", "3", "2", "0", "1"]
    assert table["_cryoetClassName"] == ["20S proteasome", "Å'\" #x", "b", "none", "20S proteasome"]
    assert table["_rlnMaxValueProbDistribution"] == ["0.800000"] * N
    assert table["_rlnMicrographName"][:2] == ["007", "t b"]
    assert [table[f"_rlnCoordinate{axis}"][0] for axis in "XYZ"] == ["3.000", "2.000", "1.000"]
    optics = cif.read(str(run.dir / "predictions.star")).find_block("optics")
    assert list(optics.find_loop("_rlnImagePixelSize")) == ["12.000000"]
    assert set(table["_rlnOpticsGroup"]) == set(optics.find_loop("_rlnOpticsGroup")) == {"1"}


def test_star_with_poses(run: Any) -> None:
    """RELION reads the angles back as the same rotations, and coordinate minus origin as the
    particle's centre.
    """
    from cryoet_core.algorithms.orientation import euler_to_matrix
    from cryoet_core.algorithms.transforms import random_rotations

    rotations = random_rotations(N).numpy()
    shifts = np.arange(3 * N, dtype=np.float32).reshape(N, 3) / 10
    write_predictions(
        run, made_labels(extra={"rotations": rotations, "shifts": shifts}), made_data()
    )
    table = particles(run.dir)
    angles = np.array([table[f"_rlnAngle{name}"] for name in ("Rot", "Tilt", "Psi")], dtype=float).T
    np.testing.assert_allclose(euler_to_matrix(angles), rotations, atol=1e-4)
    origins = np.array([table[f"_rlnOrigin{axis}Angst"] for axis in "ZYX"], dtype=float).T
    np.testing.assert_allclose(origins, -12.0 * shifts, atol=1e-3)


def test_star_without_coordinates(run: Any) -> None:
    write_predictions(run, made_labels(), made_data())
    assert not {"_rlnCoordinateX", "_rlnMicrographName"} & set(particles(run.dir))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"labels": np.zeros(4, int)}, r"labels of shape \(4,\); expected \(5,\)"),
        ({"labels": np.array([0, 1, 2, 3, 0])}, "labels 0 to 3; expected -1 to 2"),
        ({"labels": np.array([0, 1, 2, -2, 0])}, "labels -2 to 2; expected -1 to 2"),
        (
            {"probabilities": np.ones((5, 2), np.float32)},
            r"probabilities of shape \(5, 2\); expected \(5, 3\)",
        ),
        ({"probabilities": np.full((5, 3), np.nan, np.float32)}, "not finite"),
        ({"embedding": np.zeros((3, 2), np.float32)}, "3 rows of embedding; expected 5"),
        ({"extra": {"energy": np.zeros(6)}}, "6 rows of energy; expected 5"),
    ],
)
def test_labels_that_do_not_fit_are_the_methods_fault(
    run: Any, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(RunError, match=words):
        write_predictions(run, made_labels(**wrong), made_data())
    assert list(run.dir.iterdir()) == []


def test_a_second_writing_that_fails_keeps_the_first(run: Any) -> None:
    write_predictions(run, made_labels(), made_data())
    with pytest.raises(TypeError):
        write_predictions(run, made_labels(extra={"bad": np.array([object()] * N)}), made_data())
    assert "energy" in read_predictions(run.dir).labels.extra
    assert sorted(path.name for path in run.dir.iterdir()) == ["predictions.h5", "predictions.star"]


def test_what_is_no_predictions_file_is_one_line(tmp_path: Path) -> None:
    text, store, cut, old = (tmp_path / f"{name}.h5" for name in ("text", "store", "cut", "old"))
    text.write_text("hello")
    with h5py.File(store, "w") as file:
        file.attrs["format"], file.attrs["kind"] = "cryoet", "subtomograms"
    with h5py.File(old, "w") as file:
        file.attrs.update({"format": "cryoet", "kind": "predictions", "version": 7})
    run = SimpleNamespace(dir=tmp_path, rank=0, method="m")
    cut.write_bytes(
        write_predictions(run, made_labels(), made_data(), tmp_path / "whole").read_bytes()[:2000]
    )  # type: ignore[arg-type]
    cases = {
        tmp_path / "none.h5": "no such file",
        tmp_path: "no such file",
        text: "damaged or no HDF5 file",
        cut: "damaged or no HDF5 file",
        store: "holds no predictions",
        old: "version 7; this program reads version 1",
    }
    for path, words in cases.items():
        with pytest.raises(UserError, match=words) as caught:
            read_predictions(path)
        assert "\n" not in str(caught.value)


def test_with_a_real_run_and_store(tmp_path: Path) -> None:
    from cryoet_core.plugins.config import Config
    from cryoet_core.runs.run import Run
    from cryoet_core.store import open_subtomograms
    from cryoet_core.testing.data import write_subtomograms

    paths = [
        write_subtomograms(tmp_path / f"{name}.h5", 12, per_class=2, seed=i)
        for i, name in enumerate("ab")
    ]
    data = open_subtomograms(paths).subset(np.array([11, 0, 5]))
    run = Run.create("m", Config(), {"data": paths}, tmp_path / "run", device="cpu")
    labels = Labels(np.array([1, 0, 1]), np.eye(2, dtype=np.float32)[[1, 0, 1]], ("x", "y"))
    found = read_predictions(write_predictions(run, labels, data))
    assert [
        (Path(found.files[f]).name, int(r)) for f, r in zip(found.file, found.rows, strict=True)
    ] == [
        ("b.h5", 5),
        ("a.h5", 0),
        ("a.h5", 5),
    ]


def test_a_disk_that_refuses_is_one_line_and_no_crash(run: Any) -> None:
    resource = pytest.importorskip("resource")
    import signal

    before, handler = (
        resource.getrlimit(resource.RLIMIT_FSIZE),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(
            UserError, match=r"predictions\.h5: cannot be written: the file system allows no"
        ):
            write_predictions(run, made_labels(), made_data())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(run.dir.iterdir()) == []
