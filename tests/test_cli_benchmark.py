"""``cryoet benchmark`` and ``cryoet new-plugin`` from their command lines."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cryoet_core.cli.main import main

ROOT = Path(__file__).parent.parent
Command = Callable[..., Any]

SUITE = """
name = "mine"
title = "a table of the throw-away plugin"

[data.cubes]
simulate = "subtomograms"
phantoms = 2
options = { per-class = 4, box = 12, voxel-size = 30, snr = "{snr}", seed = "{seed}" }

[[table]]
id = "T"
title = "matched accuracy"
inputs = { data = "cubes" }
axes = { snr = ["1", "0.5"] }
at.smoke = { snr = ["1"] }
metrics = ["matched_accuracy"]

[[table.entry]]
label = "two"
method = "toy"
published = { matched_accuracy = [0.75, 0.5] }

[[table.entry]]
label = "too many"
method = "toy"
options = { classes = 9 }

[[table.entry]]
label = "not here"
method = "gone"
"""


@pytest.fixture
def bench(here: Command, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """``bench("--scale", "smoke")``: the suite above, in this process; its cells find the plugin too."""
    monkeypatch.setenv("PYTHONPATH", str(site))
    (tmp_path / "mine.toml").write_text(SUITE)
    return lambda *more: here(
        "benchmark", "--suite", "mine.toml", "--scale", "smoke", "--out", "b", "--jobs", "2", *more
    )


def test_a_benchmark_from_nothing_to_the_leaderboard_and_on_after_a_kill(bench: Command, here: Command, tmp_path: Path):
    done = bench()
    assert done.returncode == 1, done.stderr  # one entry fails, and says why
    folder = tmp_path / "b"
    lines = {len(row["command"]): row for row in map(json.loads, (folder / "results.jsonl").open())}
    good, bad = (lines[length] for length in sorted(lines))
    assert (bad["status"], bad["reason"]) == ("failed", "run: --classes 9: more than the 8 volumes")
    assert good["metrics"]["matched_accuracy"] > 0
    assert good["metrics"]["fit_seconds"] < good["metrics"]["wall_seconds"] < 100
    assert good["metrics"]["peak_memory"] > 2**24
    assert good["config"]["classes"] == 2
    assert good["provenance"]["plugins"]["toy"] == "cryoet-toy 1.0"
    assert re.fullmatch(r"subtomograms-[0-9a-f]{10}\.h5", *good["data"])
    assert re.fullmatch("[0-9a-f]{64}", *good["data"].values())
    assert (folder / good["run"] / "report.html").exists()
    text = (folder / "leaderboard.md").read_text()
    assert f"| two | {good['metrics']['matched_accuracy']:.3f} (paper 0.75) | not run (paper 0.5) |" in text
    assert "| not here | not run | not run |" in text
    assert "the method gone is not installed" in text
    assert "--suite mine.toml --method toy --scale paper" in text
    assert good["run"] in (folder / "leaderboard.html").read_text()
    assert f"[1/3] data {next(iter(good['data']))}: done" in done.stdout

    # as a kill leaves it: data made, the run begun, nothing noted
    (folder / "results.jsonl").write_text("")
    cell = folder / Path(good["run"]).parent
    for path in (*cell.glob("step-*.json"), cell / "outcome.json"):
        path.unlink()
    facts = json.loads((cell / "run" / "run.json").read_text()) | {"status": "running"}
    (cell / "run" / "run.json").write_text(json.dumps(facts))
    assert bench().returncode == 1
    again = next(row for row in map(json.loads, (folder / "results.jsonl").open()) if row["key"] == good["key"])
    assert again["resumed"]
    assert again["metrics"]["matched_accuracy"] == good["metrics"]["matched_accuracy"]
    date = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")
    assert date.sub("", (folder / "leaderboard.md").read_text()) == date.sub("", text)

    compared = here("benchmark", "--compare", "b", "b")
    assert compared.stdout.strip() == "1 figures compared, 0 changed beyond the interval"


WRONG = {
    "nothing to do": ([], "say what to measure: --all, --suite NAME or --method NAME"),
    "scale": (["--all", "--scale", "huge"], "--scale huge: expected smoke, small, paper"),
    "suite": (["--suite", "paper01"], "--suite paper01: no such suite; did you mean paper00"),
    "method": (["--method", "discaa"], "--method discaa: not installed; did you mean disca"),
    "task": (
        ["--suite", "paper004", "--method", "toy"],
        "--method toy: fits no table of the suites asked for, which take picking",
    ),
    "files": (["--all", "--files", "nobel=x.h5"], "--files nobel: no suite asks for it; did you mean noble"),
    "pair": (["--all", "--files", "x.h5"], "--files x.h5: expected NAME=VALUE"),
    "seeds": (["--all", "--seeds", "0"], "--seeds 0: expected 1 or more"),
    "executor": (["--all", "--executor", "pbs"], "--executor pbs: expected local or slurm"),
    "folder": (["--suite", "paper002", "--method", "toy", "--out", "full"], "is no benchmark's folder"),
    "compare": (["--compare", "x", "y"], "x: no such file; expected results.jsonl"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_gets_one_line(case: str, here: Command, tmp_path: Path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    words, reason = WRONG[case]
    done = here("benchmark", *words)
    assert done.returncode == 2
    assert reason in done.stderr
    assert done.stderr.strip().count("\n") == 0


def test_a_dry_run_lists_the_runs_and_writes_nothing(here: Command, tmp_path: Path):
    done = here("benchmark", "--suite", "paper002", "--method", "toy", "--scale", "smoke", "--out", "b", "--dry-run")
    assert done.returncode == 0, done.stderr
    command, last = done.stdout.strip().splitlines()
    assert command.startswith("cryoet run toy --data ")
    assert last == "1 runs at the scale smoke"
    assert not (tmp_path / "b").exists()


# ---- a new plugin ----------------------------------------------------------------------------------------------------


def test_the_new_plugin_is_the_example(here: Command, tmp_path: Path):
    done = here("new-plugin", "minimal")
    assert done.returncode == 0, done.stderr
    example = ROOT / "examples" / "cryoet-minimal"
    written = [path.relative_to(tmp_path / "cryoet-minimal") for path in (tmp_path / "cryoet-minimal").rglob("*.*")]
    assert len(written) == 4
    for path in written:
        assert (tmp_path / "cryoet-minimal" / path).read_text() == (example / path).read_text()


def test_a_new_plugin_has_the_name_that_is_given(here: Command, tmp_path: Path):
    facts = json.loads(here("new-plugin", "radial_2", "--json").stdout)
    folder = tmp_path / "cryoet-radial-2"
    assert facts["folder"] == "cryoet-radial-2"
    assert 'radial_2 = "cryoet_radial_2"' in (folder / "pyproject.toml").read_text()
    assert "class Radial2(Trainer):" in (folder / "cryoet_radial_2.py").read_text()
    assert not any("inimal" in path.read_text() for path in folder.rglob("*.*"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Upper", "no name for a method"),
        ("class", "no name for a method"),
        ("toy", "cryoet-toy has a method of this name"),
        ("taken", "cryoet-taken: exists already"),
    ],
)
def test_names_that_cannot_be(name: str, reason: str, here: Command, tmp_path: Path):
    (tmp_path / "cryoet-taken").mkdir()
    done = here("new-plugin", name)
    assert done.returncode == 2
    assert reason in done.stderr


def test_the_guide_runs_from_nothing_to_a_row_on_the_leaderboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Every command of sections 1 to 3 of docs/write-a-plugin.md, in order, as it stands there."""
    page = re.sub(r"^```.*?^```", "", (ROOT / "docs" / "write-a-plugin.md").read_text(), flags=re.M | re.S)
    commands = re.findall(r"^ {4}(\S.*)$", page[page.index("## 1.") : page.index("## 4.")], re.M)
    assert len(commands) == 7
    site = tmp_path / "site"
    monkeypatch.chdir(tmp_path)
    for command in commands:
        words = shlex.split(command)
        if words[:2] == ["pip", "install"]:
            # not editable, offline and beside the environment, so that it stays as it is
            pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
            subprocess.run([*pip, "--target", site, words[-1]], check=True)
            monkeypatch.syspath_prepend(str(site))
            monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        else:
            assert words[0] == "cryoet"
            code = main(words[1:])
            said = capsys.readouterr()
            assert code == 0, f"{command}\n{said.out}\n{said.err}"
    board = (tmp_path / "first" / "leaderboard.md").read_text()
    assert re.search(r"^\| minimal \| 0\.\d{3} ", board, re.M)
    assert (tmp_path / "runs" / "minimal" / "report.html").exists()
    sys.modules.pop("cryoet_minimal", None)
