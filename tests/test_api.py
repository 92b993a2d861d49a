"""The door, ``import cryoet_core as cryoet``: what a notebook user writes works as it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cryoet_core as cryoet


@pytest.fixture(scope="module")
def particles(tmp_path_factory):
    out = tmp_path_factory.mktemp("api") / "particles.h5"
    return cryoet.simulate.subtomograms(
        out, phantoms=3, per_class=20, box=24, voxel_size=12, snr=1.0, seed=0
    )


@pytest.fixture(scope="module")
def result(particles):
    return cryoet.run("invariants", data=particles, k_max=5, seed=0, quiet=True)


def test_the_import_is_quick_and_brings_no_torch():
    code = (
        "import sys, time; start = time.perf_counter(); import cryoet_core; "
        "print(time.perf_counter() - start, 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1:] == ["False", "False"]


def test_every_name_of_the_door_is_there():
    for name in cryoet.__all__:
        assert getattr(cryoet, name) is not None
    assert callable(cryoet.methods)
    assert callable(cryoet.simulate.subtomograms)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cryoet.nothing


def test_opening_gives_one_line(particles):
    path = particles.paths[0]
    opened = cryoet.open(str(path))
    assert repr(opened).startswith("Subtomograms(n=60, box=24, voxel_size=12 Å, contrast=bright")
    assert len(cryoet.open([path, path])) == 120


def test_a_run_has_labels_and_predicts(particles, result, tmp_path):
    n, k = len(particles), len(result.class_names)
    assert result.labels.shape == (n,)
    assert result.probabilities.shape == (n, k)
    assert np.allclose(result.probabilities.sum(1), 1, atol=1e-4)
    assert set(result.averages) == set(result.class_names)
    assert result.metrics["matched_accuracy"] > 0.6
    assert result.poses is None
    assert result.folder.is_dir()
    assert result.report.is_file()
    assert "invariants" in repr(result)
    assert "\n" not in repr(result)
    page = result._repr_html_()
    assert page.count("<img") == k
    again = result.predict(str(particles.paths[0]), quiet=True)
    assert (again.labels == result.labels).all()
    kept = result.save(tmp_path / "kept")
    assert (cryoet.open_run(kept).labels == result.labels).all()
    with pytest.raises(cryoet.UserError, match="exists already"):
        result.save(kept)


def test_an_array_is_data(particles, result):
    volumes = np.stack([particles[i] for i in range(len(particles))])
    data = cryoet.Subtomograms.from_array(
        volumes, voxel_size=12.0, contrast="bright", tilt_range=(-60, 60)
    )
    assert data.tilt_range == (-60.0, 60.0)
    assert (result.predict(data, quiet=True).labels == result.labels).all()
    run = cryoet.run(
        "invariants", data=-volumes, voxel_size=12.0, contrast="dark", k_max=5, quiet=True
    )
    assert (run.labels == result.labels).mean() > 0.9
    with pytest.raises(cryoet.UserError, match="`voxel_size`"):
        cryoet.run("invariants", data=volumes, contrast="dark", quiet=True)


def test_picks_from_a_tomogram_to_particles(tmp_path):
    pytest.importorskip("pandas")
    volume = cryoet.simulate.tomogram(
        tmp_path / "tomo.h5", phantoms=2, shape=(48, 96, 96), copies=6, snr=2.0, seed=1
    )
    assert repr(volume).startswith("Tomograms(n=1: ")
    assert [repr(volume[0])] == [repr(each) for each in volume]
    found = cryoet.run("dog", data=volume, diameter=250, quiet=True).picks
    assert len(found)
    assert "\n" not in repr(found)
    table = found.to_dataframe()
    assert list(table.columns[:6]) == ["tomogram", "class", "x", "y", "z", "score"]
    for name in ("picks.star", "picks.csv"):
        found.save(tmp_path / name)
        again = cryoet.read_picks(tmp_path / name, data=volume)
        order = np.lexsort(again.positions.T), np.lexsort(found.positions.T)
        assert np.allclose(again.positions[order[0]], found.positions[order[1]], atol=1e-3)
    cut = cryoet.extract(found, volume, box=16)
    assert cut.box == 16
    assert 0 < len(cut) <= len(found)


def test_what_is_wrong_names_the_argument(particles):
    with pytest.raises(cryoet.UserError, match="`k_mox`: invariants has no such option") as caught:
        cryoet.run("invariants", data=particles, k_mox=3)
    assert caught.value.argument == "k_mox"
    with pytest.raises(cryoet.UserError, match="`data`: missing"):
        cryoet.run("invariants", quiet=True)
    with pytest.raises(cryoet.UserError, match="a part of a data set"):
        cryoet.run("invariants", data=particles.subset(np.arange(5)), quiet=True)
    with pytest.raises(cryoet.UserError, match="expected a path"):
        cryoet.open(3)


def test_methods_and_options():
    assert "disca" in cryoet.methods()
    assert cryoet.options("disca")["k_max"].help


def test_paths_may_be_texts(particles, monkeypatch):
    monkeypatch.chdir(Path(particles.paths[0]).parent)
    assert len(cryoet.open("particles.h5")) == 60


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        ({"tilt_range": (3,)}, "tilt_range"),
        ({"tilt_range": (60, -60)}, "tilt_range"),
        ({"labels": [0, 1]}, "labels"),
        ({"labels": [0, 1, 2], "class_names": ["a", "b"]}, "labels"),
        ({"labels": [0, 1, 0]}, "labels"),
        ({"voxel_size": -1.0}, "voxel_size"),
        ({"contrast": "grey"}, "contrast"),
    ],
)
def test_an_array_that_is_described_wrongly_names_the_argument(
    given, argument, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    volumes = np.random.default_rng(0).normal(size=(3, 8, 8, 8))
    with pytest.raises(cryoet.UserError) as caught:
        cryoet.Subtomograms.from_array(
            volumes, **{"voxel_size": 10.0, "contrast": "bright", "class_names": None, **given}
        )
    assert caught.value.argument == argument
    assert not list(tmp_path.iterdir())


def test_what_a_run_says_names_options_on_the_command_line_alone(capsys):
    from cryoet_core.support.errors import arguments_as_options
    from cryoet_core.support.progress import Terminal

    Terminal().say("give `voxel_size`")
    with arguments_as_options():
        Terminal().say("give `voxel_size`")
    assert capsys.readouterr().out == "give `voxel_size`\ngive --voxel-size\n"
