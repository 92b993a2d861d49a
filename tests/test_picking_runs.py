"""``cryoet run``, ``predict`` and ``evaluate`` of a picker, with a throw-away method on small
tomograms.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest

from cryoet_core.cli.main import spread
from cryoet_core.formats.picks.store_file import load_picks
from cryoet_core.testing.data import VOXEL_SIZE, write_tomograms
from cryoet_core.tomograms import open_tomograms

Command = Callable[..., Any]

SPOTS = '''
"""A picker of a page: smoothed bright spots."""
import os
import time

import numpy as np
import torch

from cryoet_core import hookimpl
from cryoet_core.plugins.config import Config, option
from cryoet_core.plugins.interfaces import InputSpec, Trainer
from cryoet_core.algorithms.peaks import find_peaks
from cryoet_core.picks import Picks
from cryoet_core.tomograms.tiles import score_map


class SpotsConfig(Config):
    diameter: float = option(96.0, "diameter, Å", gt=0)
    threshold: float = option(0.8, "lowest smoothed value", gt=-100)


class Spots(Trainer):
    name = "spots"
    summary = "Finds smoothed bright spots."
    task = "picking"
    inputs = {"data": InputSpec("Tomograms.", kind="tomograms", labels="never")}
    Config = SpotsConfig

    def fit(self, inputs, run):
        assert all(tomogram.picks is None for tomogram in inputs["data"])
        run.log(step=0)
        run.save("model", {}, {})
        return self.load(run)

    def load(self, run):
        return SpotsPicker(self.config)


class SpotsPicker:
    class_names = ("ball",)

    def __init__(self, config):
        self.config = config

    def pick(self, tomogram, run):
        assert tomogram.picks is None

        def smooth(region):
            time.sleep(float(os.environ.get("SPOTS_SECONDS", "0")))
            return torch.nn.functional.avg_pool3d(region, 5, 1, 2, count_include_pad=False)

        scores = score_map(tomogram, smooth, margin=(2, 2, 2), run=run)[0]
        width = self.config.diameter / tomogram.voxel_size / 2
        positions, values = find_peaks(scores, distance=width, threshold=self.config.threshold)
        positions = np.clip(positions * tomogram.voxel_size, 0, tomogram.extent)
        return Picks.of(positions, tomogram.name, scores=values, class_names=self.class_names)


@hookimpl
def cryoet_trainers():
    return [Spots]
'''


@pytest.fixture
def picker(here: Command, install: Callable[[str, str, str], None], tmp_path: Path) -> Command:
    """``here``, with the method installed and a finished run in ``run``; ``tomo.h5`` holds two
    tomograms.
    """
    install("cryoet-spots", "spots", SPOTS)
    write_tomograms(tmp_path / "tomo.h5")
    done = here("run", "spots", "--data", "tomo.h5", "--out", "run", "--no-report", "--json")
    assert done.returncode == 0, done.stderr
    return here


def write_mrc(path: Path, seed: int = 0, *, bad: bool = False) -> Path:
    """One of the kit's tomograms as a dark MRC file."""
    store = write_tomograms(path.with_suffix(".h5"), seed=seed)
    tomogram = open_tomograms([store]).tomograms[0]
    volume = -tomogram.read()
    if bad:
        volume[5] = np.nan
    with mrcfile.new(path, volume) as file:
        file.voxel_size = VOXEL_SIZE
    store.unlink()
    return path


def test_a_run_picks_in_its_own_tomograms_and_is_scored(picker: Command, tmp_path: Path) -> None:
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert [(row["name"], row["status"]) for row in status] == [
        ("first", "done"),
        ("second", "done"),
    ]
    assert sorted(path.name for path in (tmp_path / "run" / "picks").iterdir()) == [
        "first.star",
        "second.star",
    ]
    picks = load_picks(tmp_path / "run" / "picks.h5")
    assert sum(row["picks"] for row in status) == len(picks)
    facts = json.loads(picker("evaluate", "run", "--json").stdout)
    assert facts["n_truth"] == 24
    assert facts["f1"] > 0.9
    assert facts["radius"] == 48.0
    assert not (tmp_path / "run" / ".work").exists()


def test_the_closing_lines_say_what_came_of_it(picker: Command, tmp_path: Path) -> None:
    done = picker("run", "spots", "--data", "tomo.h5", "--out", "again", "--no-report")
    count = len(load_picks(tmp_path / "again" / "picks.h5"))
    assert f"spots: {count} picks in 2 tomograms" in done.stdout
    assert "average precision" in done.stdout
    assert "picks: again/picks" in done.stdout
    assert (
        f"first: {(load_picks(tmp_path / 'again' / 'picks.h5').tomograms == 'first').sum()} picks"
        in done.stdout
    )


def test_predict_finds_in_files_what_the_run_finds_in_the_store(
    picker: Command, tmp_path: Path
) -> None:
    write_mrc(tmp_path / "a.mrc"), write_mrc(tmp_path / "b.mrc", seed=1)
    done = picker(
        "predict",
        "run",
        "--data",
        "a.mrc",
        "b.mrc",
        "--contrast",
        "dark",
        "--out",
        "picks",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tomograms"] == 2
    assert {path.name for path in (tmp_path / "picks").iterdir()} == {
        "a.star", "b.star", "picks.h5", "status.json", "request.json",
    }  # fmt: skip
    own, new = (
        load_picks(tmp_path / "run" / "picks.h5").within("first"),
        load_picks(tmp_path / "picks" / "picks.h5"),
    )
    np.testing.assert_allclose(new.within("a").positions, own.positions, atol=0.5)
    refused = picker("predict", "run", "--data", "a.mrc", "--contrast", "dark", "--out", "picks")
    assert (refused.returncode, "exists already" in refused.stderr) == (2, True)


def test_a_bad_tomogram_gets_a_row_and_the_others_finish(picker: Command, tmp_path: Path) -> None:
    (
        write_mrc(tmp_path / "a.mrc"),
        write_mrc(tmp_path / "b.mrc", bad=True),
        write_mrc(tmp_path / "c.mrc", seed=2),
    )
    (tmp_path / "d.mrc").write_text("no tomogram")
    done = picker(
        "predict",
        "run",
        "--data",
        *(f"{x}.mrc" for x in "abcd"),
        "--contrast",
        "dark",
        "--out",
        "picks",
    )
    assert done.returncode == 1
    assert "2 of 4 tomograms failed" in done.stderr
    rows = {
        row["name"]: row for row in json.loads((tmp_path / "picks" / "status.json").read_text())
    }
    assert {name: row["status"] for name, row in rows.items()} == {
        "a": "done", "b": "failed", "c": "done", "d": "failed",
    }  # fmt: skip
    assert "NaN" in rows["b"]["message"]
    assert {path.stem for path in (tmp_path / "picks").glob("*.star")} == {"a", "c"}
    alone = picker("predict", "run", "--data", "b.mrc", "--contrast", "dark", "--out", "alone")
    assert (alone.returncode, "NaN" in alone.stderr, alone.stderr.count("\n")) == (2, True, 1)


def test_the_contrast_of_training_is_taken_where_no_one_says_it(
    picker: Command, tmp_path: Path
) -> None:
    write_mrc(tmp_path / "a.mrc")
    assert (
        picker(
            "run", "spots", "--data", "a.mrc", "--contrast", "dark", "--out", "dark", "--no-report"
        ).returncode
        == 0
    )
    assert picker("predict", "dark", "--data", "a.mrc", "--out", "new").returncode == 0
    own, new = (load_picks(tmp_path / folder / "picks.h5") for folder in ("dark", "new"))
    np.testing.assert_array_equal(own.positions, new.positions)
    unknown = picker("run", "spots", "--data", "a.mrc", "--out", "x")
    assert (unknown.returncode, "--contrast" in unknown.stderr) == (2, True)


def test_evaluate_of_other_tomograms_picks_once(picker: Command, tmp_path: Path) -> None:
    write_tomograms(tmp_path / "other.h5", seed=5)
    first = json.loads(
        picker("evaluate", "run", "--data", "other.h5", "--radius", "40", "--json").stdout
    )
    assert (first["n_truth"], first["radius"]) == (24, 40.0)
    assert first["f1"] > 0.9
    made = (tmp_path / "run" / "predictions" / "other" / "picks.h5").stat().st_mtime_ns
    again = json.loads(
        picker("evaluate", "run", "--data", "other.h5", "--radius", "10", "--json").stdout
    )
    assert again["f1"] <= first["f1"]
    assert (tmp_path / "run" / "predictions" / "other" / "picks.h5").stat().st_mtime_ns == made


def test_what_a_method_measures_itself_is_shown(
    here: Command, install: Callable[[str, str, str], None], tmp_path: Path
) -> None:
    """Beside the scores of the picks; from the folder where it left them."""
    measure = """
    def measure(self, truth, folder):
        assert len(truth.picks) == 24
        return {"stars_found": float(len(list(folder.rglob("*.star")))) / 10}

    def pick(self"""
    install("cryoet-spots", "spots", SPOTS.replace("\n    def pick(self", measure))
    write_tomograms(tmp_path / "tomo.h5")
    assert "stars found 0.200" in here("run", "spots", "--data", "tomo.h5", "--out", "run").stdout
    assert json.loads(here("evaluate", "run", "--json").stdout)["measured"] == {"stars_found": 0.2}
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["measured"] == {
        "stars_found": 0.2
    }
    assert (
        "Measured by the method itself: stars found 0.200."
        in (tmp_path / "run" / "report.html").read_text()
    )
    write_tomograms(tmp_path / "other.h5", seed=5)
    said = here("evaluate", "run", "--data", "other.h5").stdout
    assert "F1" in said
    assert "stars found 0.200" in said


def test_every_rule_scores_a_simulated_store(picker: Command, tmp_path: Path) -> None:
    simulated = (
        "simulate",
        "tomogram",
        "--phantoms",
        "2",
        "--shape",
        "40",
        "80",
        "80",
        "--voxel-size",
        "10",
    )
    assert picker(*simulated, "--copies", "3", "--snr", "2", "--out", "cell.h5").returncode == 0
    found = {}
    for rule in ("optimal", "greedy", "r1.5", "shrec"):
        words = ("--radius", "60", "--rule", rule, "--particle", "double-ring-c7", "--json")
        done = picker("evaluate", "run", "--data", "cell.h5", *words)
        assert done.returncode == 0, done.stderr
        found[rule] = json.loads(done.stdout)
    assert {facts["rule"] for facts in found.values()} == set(found)
    assert found["greedy"]["hits"] <= found["optimal"]["hits"]
    assert (tmp_path / "run" / "predictions" / "cell" / "evaluation.json").exists()
    refused = picker("evaluate", "run", "--rule", "shrec")
    assert (refused.returncode, "no mask" in refused.stderr) == (2, True)


def test_wrong_use_gets_one_line(picker: Command, tmp_path: Path) -> None:
    write_mrc(tmp_path / "a.mrc")
    for words, said in (
        (("evaluate", "run", "--data", "a.mrc", "--contrast", "dark"), "give --picks"),
        (("evaluate", "run", "--radius", "-3"), "--radius"),
        (("evaluate", "run", "--rule", "nothing"), "nothing"),
        (("run", "spots", "--data", "tomo.h5", "--picks", "none.star"), "none.star"),
        (("predict", "run", "--data", "a.mrc", "--contrast", "grey"), "grey"),
    ):
        done = picker(*words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), (words, done.stderr)
        assert said in done.stderr


def test_files_of_a_shell_are_spread_only_after_the_commands_own_arguments() -> None:
    assert spread(["predict", "RUN", "--data", "a", "b", "--out", "c"]) == [
        "predict", "RUN", "--data", "a", "--data", "b", "--out", "c",
    ]  # fmt: skip
    for words in (["predict", "--data", "a", "RUN"], ["data", "convert", "a", "b", "--out", "c"]):
        assert spread(words) == words
    assert spread(["run", "x", "--data", "a", "b", "--picks", "p", "q"])[2:] == [
        "--data", "a", "--data", "b", "--picks", "p", "--picks", "q",
    ]  # fmt: skip


@pytest.mark.parametrize("moment", range(2))
def test_a_killed_predict_goes_on_and_ends_as_if_nothing_had_been(
    picker: Command, site: Path, tmp_path: Path, moment: int
) -> None:
    names = [write_mrc(tmp_path / f"{x}.mrc", seed=number).name for number, x in enumerate("abc")]
    words = ("predict", "run", "--data", *names, "--contrast", "dark")
    assert picker(*words, "--out", "whole").returncode == 0
    environment = {**os.environ, "PYTHONPATH": str(site), "SPOTS_SECONDS": "0.3"}
    command = [sys.executable, "-m", "cryoet_core.cli.main", *words, "--out", "killed", "--quiet"]
    generator = random.Random(moment)
    for _ in range(2):
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
        )
        began = time.monotonic()
        while process.poll() is None and not (tmp_path / "killed" / "request.json").exists():
            time.sleep(0.02)
            assert time.monotonic() - began < 120
        time.sleep(generator.uniform(0, 1.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        for star in (tmp_path / "killed").glob("*.star"):
            assert star.read_bytes() == (tmp_path / "whole" / star.name).read_bytes()
    if not (tmp_path / "killed" / "picks.h5").exists():
        done = picker(*words, "--out", "killed")
        assert done.returncode == 0, done.stderr
    ours, theirs = (load_picks(tmp_path / folder / "picks.h5") for folder in ("killed", "whole"))
    np.testing.assert_array_equal(ours.positions, theirs.positions)
    np.testing.assert_array_equal(ours.scores, theirs.scores)
    for name in "abc":
        assert (tmp_path / "killed" / f"{name}.star").read_bytes() == (
            tmp_path / "whole" / f"{name}.star"
        ).read_bytes()
    assert not (tmp_path / "killed" / ".work").exists()


def test_the_folder_of_another_request_is_left_alone(picker: Command, tmp_path: Path) -> None:
    write_mrc(tmp_path / "a.mrc"), write_mrc(tmp_path / "b.mrc", seed=1, bad=True)
    picker("predict", "run", "--data", "b.mrc", "--contrast", "dark", "--out", "begun")
    assert (tmp_path / "begun" / "request.json").exists()
    done = picker("predict", "run", "--data", "a.mrc", "--contrast", "dark", "--out", "begun")
    assert (done.returncode, "another request" in done.stderr) == (2, True)
