"""``cryoet benchmark`` and ``cryoet new-plugin`` from their command lines."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
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
label = "not here"
method = "gone"
published = { matched_accuracy = [0.75, 0.5] }
"""


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which every command of sections 1 to 3 of docs/write-a-plugin.md was run, as it
    stands there.
    """
    page = re.sub(
        r"^```.*?^```", "", (ROOT / "docs" / "write-a-plugin.md").read_text(), flags=re.M | re.S
    )
    commands = re.findall(r"^ {4}(\S.*)$", page[page.index("## 1.") : page.index("## 4.")], re.M)
    assert len(commands) == 7
    folder = tmp_path_factory.mktemp("guide")
    site = folder / "site"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in commands:
            words = shlex.split(command)
            if words[:2] == ["pip", "install"]:
                # not editable, offline and beside the environment, so that it stays as it is
                pip = [
                    sys.executable,
                    "-m",
                    "pip",
                    "install",
                    "-q",
                    "--no-deps",
                    "--no-build-isolation",
                    "--no-index",
                ]
                subprocess.run([*pip, "--target", site, words[-1]], check=True)
                patch.syspath_prepend(str(site))
                patch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
            else:
                assert words[0] == "cryoet"
                assert main(words[1:]) == 0, command
        yield folder
    sys.modules.pop("cryoet_minimal", None)


def test_the_guide_leads_from_nothing_to_a_row_on_the_leaderboard(guided: Path):
    board = (guided / "first" / "leaderboard.md").read_text()
    assert re.search(r"^\| minimal \| [01]\.\d{3} \|", board, re.M)
    assert "| DISCA | not run (paper 0.912) |" in board
    assert "    cryoet benchmark --suite paper002 --method minimal --scale paper" in board
    assert (guided / "runs" / "minimal" / "report.html").exists()


def test_a_result_has_what_is_needed_to_believe_it(guided: Path):
    (line,) = map(json.loads, (guided / "first" / "results.jsonl").open())
    assert line["status"] == "ok"
    assert line["metrics"]["fit_seconds"] < line["metrics"]["wall_seconds"]
    assert line["metrics"]["peak_memory"] > 2**24
    assert line["config"]["clusters"] == 3
    assert line["provenance"]["plugins"]["minimal"] == "cryoet-minimal 0.1.0"
    assert re.fullmatch(r"subtomograms-[0-9a-f]{10}\.h5", *line["data"])
    assert re.fullmatch("[0-9a-f]{64}", *line["data"].values())
    assert (guided / "first" / line["run"] / "report.html").exists()
    assert f"{line['run']}/report.html" in (guided / "first" / "leaderboard.html").read_text()


def test_a_run_that_was_cut_off_is_gone_on_with_to_the_same_table(
    guided: Path, capsys: pytest.CaptureFixture[str]
):
    """As a kill leaves it: data made, the run begun, nothing noted."""
    folder = guided / "first"
    text = (folder / "leaderboard.md").read_text()
    (line,) = map(json.loads, (folder / "results.jsonl").open())
    (folder / "results.jsonl").write_text("")
    cell = folder / Path(line["run"]).parent
    for path in (*cell.glob("step-*.json"), cell / "outcome.json"):
        path.unlink()
    facts = json.loads((cell / "run" / "run.json").read_text()) | {"status": "running"}
    (cell / "run" / "run.json").write_text(json.dumps(facts))
    words = [
        "benchmark",
        "--suite",
        "paper002",
        "--method",
        "minimal",
        "--scale",
        "smoke",
        "--out",
        "first",
    ]
    capsys.readouterr()
    assert main(words) == 0
    assert capsys.readouterr().out.startswith(
        "1 runs; results in first\n[1/1] paper002 T1 clustering minimal, snr 100"
    )
    (again,) = map(json.loads, (folder / "results.jsonl").open())
    assert again["resumed"]
    assert again["metrics"]["matched_accuracy"] == line["metrics"]["matched_accuracy"]
    date = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")
    assert date.sub("", (folder / "leaderboard.md").read_text()) == date.sub("", text)

    assert main(words) == 0
    assert "1 of them are measured already" in capsys.readouterr().out
    assert main(["benchmark", "--compare", "first", "first"]) == 0
    assert capsys.readouterr().out == "1 figure compared, 0 changed beyond the interval\n"


def test_a_broken_plugin_stops_nothing_and_is_told(here: Command, install: Command, tmp_path: Path):
    install("cryoet-bad", "bad", "raise RuntimeError('no licence')\n")
    (tmp_path / "mine.toml").write_text(SUITE)
    done = here("benchmark", "--suite", "mine.toml", "--out", "b", "--scale", "smoke", "--json")
    assert done.returncode == 1
    facts = json.loads(done.stdout)
    assert (facts["measured"], facts["failed"]) == (0, 1)
    assert "importing cryoet_bad failed: RuntimeError: no licence" in facts["failures"]["bad"]
    text = (tmp_path / "b" / "leaderboard.md").read_text()
    assert "| not here | not run (paper 0.75) | not run (paper 0.5) |" in text
    assert "the method gone is not installed" in text
    assert "    cryoet benchmark --suite mine.toml --method gone --scale paper" in text


WRONG = {
    "nothing to do": ([], "say what to measure: --all, --suite NAME or --method NAME"),
    "scale": (["--all", "--scale", "huge"], "--scale huge: expected smoke, small, paper"),
    "suite": (["--suite", "paper01"], "--suite paper01: no such suite; did you mean paper00"),
    "method": (["--method", "discaa"], "--method discaa: not installed; did you mean disca"),
    "task": (
        ["--suite", "paper004", "--method", "toy"],
        "--method toy: fits no table of the suites asked for, which take picking",
    ),
    "files": (
        ["--all", "--files", "nobel=x.h5"],
        "--files nobel: no suite asks for it; did you mean noble",
    ),
    "pair": (["--all", "--files", "x.h5"], "--files x.h5: expected NAME=VALUE"),
    "seeds": (["--all", "--seeds", "0"], "--seeds 0: expected 1 or more"),
    "executor": (["--all", "--executor", "pbs"], "--executor pbs: expected local or slurm"),
    "folder": (
        ["--suite", "paper002", "--method", "toy", "--out", "full"],
        "is no folder of a benchmark",
    ),
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
    done = here(
        "benchmark",
        "--suite",
        "paper002",
        "--method",
        "toy",
        "--scale",
        "smoke",
        "--out",
        "b",
        "--dry-run",
    )
    assert done.returncode == 0, done.stderr
    command, last = done.stdout.strip().splitlines()
    assert command.startswith("cryoet run toy --data ")
    assert last == "1 run at the scale smoke"
    assert not (tmp_path / "b").exists()


# ---- a new plugin --------------------------------------------------------------------------------


def test_the_new_plugin_is_the_example(guided: Path):
    from cryoet_core.plugins.template import FILES

    for name in FILES:
        example = ROOT / "examples" / "cryoet-minimal" / name
        assert (guided / "cryoet-minimal" / name).read_text() == example.read_text()
    folder = ROOT / "examples" / "cryoet-minimal"
    own = {
        path.relative_to(folder)
        for path in folder.rglob("*.*")
        if path.suffix in (".py", ".toml", ".md")
    }
    assert {str(path) for path in own if path.parts[0] != "build"} == set(
        FILES
    )  # build: what pip leaves


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
