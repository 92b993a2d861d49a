"""``cryoet run`` and what follows it, with a throw-away method on a tiny store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryoet_core.runs.predictions import read_predictions
from cryoet_core.store import write_store

Command = Callable[..., Any]


@pytest.fixture
def run(here: Command, tiny_store: Path, tmp_path: Path) -> Path:
    """A finished run of the throw-away method on the tiny store."""
    assert (
        here(
            "run", "toy", "--data", tiny_store, "--out", tmp_path / "run", "--no-report"
        ).returncode
        == 0
    )
    return tmp_path / "run"


def test_run_closes_with_the_facts(here: Command, tiny_store: Path, tmp_path: Path) -> None:
    options = ("--no-report", "--seed", "3", "--sharpness", "20", "--no-centre", "--classes", "3")
    done = here("run", "toy", "--data", tiny_store, "--out", "here", "--json", *options)
    facts = json.loads(done.stdout)
    assert (facts["run"], facts["method"], facts["seed"], facts["preset"]) == (
        "here",
        "toy",
        3,
        "fast",
    )
    assert facts["n"] == 24
    assert facts["k"] == len([count for count in facts["counts"].values() if count])
    assert facts["majority"] == 0.5
    assert {
        "matched_accuracy",
        "balanced_accuracy",
        "ari",
        "nmi",
        "wall_seconds",
        "peak_memory",
    } <= set(facts)
    assert "preset fast (auto on cpu)" in done.stderr
    config = json.loads((tmp_path / "here" / "config.json").read_text())["config"]
    assert config == {"classes": 3, "sharpness": 20.0, "centre": False}
    assert len(list((tmp_path / "here" / "averages").glob("*.mrc"))) == 3
    assert json.loads((tmp_path / "here" / "run.json").read_text())["status"] == "done"


def test_run_prints_k_accuracy_and_where(here: Command, tiny_store: Path, tmp_path: Path) -> None:
    done = here("run", "toy", "--data", tiny_store, "--no-report", "--quiet")
    assert "toy: 24 subtomograms, K = 2 classes (12, 12)" in done.stdout
    assert "matched accuracy 1.000" in done.stdout
    assert (
        f"run: {next((tmp_path / 'runs' / 'toy').iterdir()).relative_to(tmp_path)}" in done.stdout
    )


def test_the_report_is_written_and_can_be_written_again(
    here: Command, tiny_store: Path, tmp_path: Path
) -> None:
    facts = json.loads(here("run", "toy", "--data", tiny_store, "--out", "here", "--json").stdout)
    report = tmp_path / "here" / "report.html"
    assert facts["report"] == "here/report.html"
    assert "<html" in report.read_text()
    report.unlink()
    assert here("report", "here").stdout == "here/report.html\n"
    assert report.exists()


def test_several_files_are_one_data_set(here: Command, tiny_store: Path, tmp_path: Path) -> None:
    arguments = (
        "--data",
        tiny_store,
        "--data",
        tiny_store,
        "--out",
        tmp_path / "two",
        "--json",
        "--no-report",
    )
    assert json.loads(here("run", "toy", *arguments).stdout)["n"] == 48


def test_config_file_then_command_line(here: Command, tiny_store: Path, tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text("classes = 4\nsharpness = 5\n")
    arguments = ("--config", tmp_path / "toy.toml", "--preset", "paper", "--sharpness", "7")
    done = here(
        "run", "toy", "--data", tiny_store, "--out", tmp_path / "run", "--no-report", *arguments
    )
    assert done.returncode == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert config == {"classes": 4, "sharpness": 7.0, "centre": True}


def test_the_python_way_is_the_same(
    run: Path, site: Path, tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cryoet_core.tasks.session import evaluate_run, run_method

    monkeypatch.syspath_prepend(str(site))
    facts = run_method(
        "toy", {"data": [tiny_store]}, out=tmp_path / "again", report=False, quiet=True
    )
    assert facts["matched_accuracy"] == 1.0
    first, second = read_predictions(run).labels, read_predictions(tmp_path / "again").labels
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.probabilities, second.probabilities)
    assert evaluate_run(tmp_path / "again")["nmi"] == 1.0


def test_evaluate(here: Command, run: Path, tiny_store: Path) -> None:
    facts = json.loads(here("evaluate", run, "--json").stdout)
    assert {"n", "k", "matched_accuracy", "balanced_accuracy", "ari", "nmi", "majority"} <= set(
        facts
    )
    assert (facts["n"], facts["k"], facts["matched_accuracy"], facts["majority"]) == (
        24,
        2,
        1.0,
        0.5,
    )
    other = json.loads(here("evaluate", run, "--data", tiny_store, "--json").stdout)
    assert other == facts
    text = here("evaluate", run).stdout
    for word in ("matched accuracy 1.000", "ball", "shell", "recall"):
        assert word in text


def test_predict_writes_and_says(
    here: Command, run: Path, tiny_store: Path, tmp_path: Path
) -> None:
    done = here("predict", run, "--data", tiny_store, "--out", tmp_path / "new", "--json")
    facts = json.loads(done.stdout)
    assert (facts["n"], facts["k"], facts["matched_accuracy"]) == (24, 2, 1.0)
    assert (tmp_path / "new" / "predictions.star").exists()
    assert np.array_equal(
        read_predictions(tmp_path / "new").labels.labels, read_predictions(run).labels.labels
    )
    failed = here("predict", run, "--data", tiny_store, "--out", tmp_path / "new")
    assert "exists already" in failed.stderr


def test_predict_says_how_new_data_differs(here: Command, run: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    other = write_store(tmp_path / "other.h5", random.normal(size=(3, 20, 20, 20)), 13.0)
    done = here("predict", run, "--data", other)
    assert "voxel size 13.00 Å, but the run was trained on 10.00 Å" in done.stdout
    assert "box size 20, but the run was trained on box size 16" in done.stdout
    assert "matched accuracy" not in done.stdout
    failed = here("evaluate", run, "--data", other)
    assert "has no class labels" in failed.stderr


def test_an_unsupervised_method_sees_no_labels(
    cryoet: Command, site: Path, tiny_store: Path, tmp_path: Path
) -> None:
    """The throw-away method asserts it; a method that asks for labels gets them, or a clear
    line.
    """
    source = (site / "cryoet_toy.py").read_text()
    (site / "cryoet_toy.py").write_text(source.replace('labels="never"', 'labels="required"'))
    failed = cryoet(
        "run",
        "toy",
        "--data",
        tiny_store,
        "--out",
        tmp_path / "a",
        "--no-report",
        site=site,
        code=1,
    )
    assert "AssertionError" in failed.stderr
    unlabelled = write_store(
        tmp_path / "u.h5", np.random.default_rng(0).normal(size=(4, 16, 16, 16)), 10.0
    )
    failed = cryoet("run", "toy", "--data", unlabelled, "--out", tmp_path / "b", site=site, code=2)
    assert "has no class labels" in failed.stderr


def test_a_failure_is_one_line_and_noted_and_debug_shows_more(
    cryoet: Command, site: Path, tiny_store: Path, tmp_path: Path
) -> None:
    source = (site / "cryoet_toy.py").read_text()
    (site / "cryoet_toy.py").write_text(
        source.replace("        data = inputs", "        1 / 0\n        data = inputs")
    )
    arguments = ("run", "toy", "--data", tiny_store, "--no-report", "--quiet")
    failed = cryoet(*arguments, "--out", tmp_path / "a", site=site, code=1)
    assert failed.stderr == (
        "error: unexpected ZeroDivisionError: division by zero; run with --debug for the "
        "traceback\n"
    )
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert (record["status"], record["reason"]) == ("failed", "ZeroDivisionError: division by zero")
    failed = cryoet(*arguments, "--out", tmp_path / "b", "--debug", site=site, code=1)
    assert "Traceback" in failed.stderr
    assert "1 / 0" in failed.stderr
    failed = cryoet("evaluate", tmp_path / "a", site=site, code=2)
    assert "not finished (status failed)" in failed.stderr


def test_an_interruption_tells_how_to_go_on(
    cryoet: Command, site: Path, tiny_store: Path, tmp_path: Path
) -> None:
    source = (site / "cryoet_toy.py").read_text()
    slow = source.replace(
        "        if run.load",
        "        import os, pathlib, time\n"
        "        if os.environ.get('SLOW'):\n"
        "            pathlib.Path('ready').touch()\n"
        "            time.sleep(60)\n"
        "        if run.load",
    )
    (site / "cryoet_toy.py").write_text(slow)
    command = [
        sys.executable,
        "-m",
        "cryoet_core.cli.main",
        "run",
        "toy",
        "--data",
        str(tiny_store),
        "--out",
        "here",
    ]
    environment = {**os.environ, "PYTHONPATH": str(site), "SLOW": "1"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    for _ in range(600):
        if (tmp_path / "ready").exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 130
    assert words == "error: interrupted; resume it with: cryoet resume here\n"
    assert json.loads((tmp_path / "here" / "run.json").read_text())["status"] == "interrupted"
    done = cryoet("resume", "here", "--no-report", site=site, cwd=tmp_path)
    assert "matched accuracy 1.000" in done.stdout
    assert json.loads((tmp_path / "here" / "run.json").read_text())["status"] == "done"


def test_two_processes_print_once_and_label_alike(
    cryoet: Command, site: Path, run: Path, tiny_store: Path, tmp_path: Path
) -> None:
    arguments = (
        "run",
        "toy",
        "--data",
        tiny_store,
        "--no-report",
        "--device",
        "cpu",
        "--devices",
        "2",
    )
    done = cryoet(*arguments, "--out", tmp_path / "two", site=site)
    assert done.stdout.count("K = 2 classes") == 1
    assert np.array_equal(
        read_predictions(tmp_path / "two").labels.labels, read_predictions(run).labels.labels
    )
    failed = cryoet(*arguments, "--out", tmp_path / "two", site=site, code=2)
    assert failed.stderr.count("exists already") == 1


def test_a_run_of_another_version_of_the_method(here: Command, run: Path) -> None:
    record = json.loads((run / "config.json").read_text())
    record["config"]["softness"] = record["config"].pop("sharpness")
    (run / "config.json").write_text(json.dumps(record))
    done = here("predict", run, "--data", "x.h5")
    assert done.returncode == 2
    assert (
        "config.json: does not fit the installed method: --softness: no such option" in done.stderr
    )


def test_one_known_class_is_nothing_to_compare_with(here: Command, tmp_path: Path) -> None:
    """Extracted picks are all of one class; any clusters would agree with it."""
    volumes = np.random.default_rng(0).normal(size=(6, 8, 8, 8)).astype(np.float32)
    store = write_store(
        tmp_path / "picks.h5", volumes, 10.0, labels=np.zeros(6, int), class_names=("particle",)
    )
    done = here("run", "toy", "--data", store, "--out", tmp_path / "alone")
    assert done.returncode == 0
    assert "accuracy" not in done.stdout
    report = (tmp_path / "alone" / "report.html").read_text()
    assert "Class averages" in report
    assert "matched accuracy" not in report
    assert "Agreement with the known classes" not in report
    refused = here("evaluate", tmp_path / "alone")
    assert refused.returncode == 2
    assert "all labels are of one class" in refused.stderr
