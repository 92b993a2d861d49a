"""Cells: commands in processes of their own, measured, ended with their parent, gone on with after
a kill.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cryoet_core.benchmark import cell
from cryoet_core.benchmark.engine import CellProcess, Local, work_through
from cryoet_core.benchmark.slurm import Slurm, in_queue
from cryoet_core.support.errors import RunError, UserError


def make_cell(folder: Path, *steps: list[str], limit: float = 60) -> Path:
    folder.mkdir(parents=True)
    spec = {
        "steps": [{"name": f"s{i}", "words": words} for i, words in enumerate(steps)],
        "limit": limit,
    }
    (folder / cell.SPEC).write_text(json.dumps(spec))
    return folder


def template(folder: Path, name: str = "y-shaped") -> list[str]:
    return ["prepare", "template", name, "--out", str(folder / "map.mrc")]


def test_a_cell_measures_its_steps_and_skips_those_that_are_done(tmp_path: Path):
    folder = make_cell(
        tmp_path / "a", template(tmp_path), ["cryoet", "run", "nosuch", "--data", "x.h5"]
    )
    outcome = cell.run_cell(str(folder))
    assert outcome["status"] == "failed"
    assert outcome["reason"].startswith("s1: no method 'nosuch'")
    first = outcome["steps"][0]
    assert first["cpu_seconds"] > 0
    assert 0 < first["wall_seconds"] < 60
    assert 2**24 < first["peak_memory"] < 2**33
    assert outcome["facts"]["s0"]["voxels"][0] > 10
    (tmp_path / "map.mrc").unlink()
    again = cell.run_cell(str(folder))
    assert again["steps"][0] == first
    assert not (tmp_path / "map.mrc").exists()
    assert json.loads((folder / cell.OUTCOME).read_text()) == again


def test_a_step_that_takes_too_long_is_ended(tmp_path: Path):
    outcome = cell.run_cell(str(make_cell(tmp_path / "a", template(tmp_path), limit=0.006)))
    assert "took longer than 0.0001 minutes" in outcome["reason"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_what_a_cell_started_ends_with_it(tmp_path: Path):
    folder = make_cell(tmp_path / "a", template(tmp_path))
    process = subprocess.Popen([sys.executable, "-m", "cryoet_core.benchmark.cell", str(folder)])
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 20
    while not (started := children.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while Path(f"/proc/{started[0]}").exists() and time.monotonic() < deadline:
        if "Z" in Path(f"/proc/{started[0]}/stat").read_text().split(")")[1].split()[0]:
            break
        time.sleep(0.01)
    assert time.monotonic() < deadline
    assert cell.run_cell(str(folder))["status"] == "ok"


# ---- the order of jobs ---------------------------------------------------------------------------


class Fake:
    """Ends each job at the third look; the jobs in ``bad`` fail, those in ``dead`` leave
    nothing.
    """

    def __init__(self, slots: int, bad: tuple[str, ...] = (), dead: tuple[str, ...] = ()) -> None:
        self.slots, self.bad, self.dead = slots, bad, dead
        self.running: set[str] = set()
        self.most = 0

    def start(self, job: CellProcess, slot: int, /) -> FakeRunning:
        self.running.add(job.label)
        self.most = max(self.most, len(self.running))
        return FakeRunning(self, job)


class FakeRunning:
    def __init__(self, fake: Fake, job: CellProcess) -> None:
        self.fake, self.job, self.looks = fake, job, 0

    def ended(self) -> bool:
        self.looks += 1
        if self.looks < 3:
            return False
        self.fake.running.discard(self.job.label)
        if self.job.label in self.fake.dead:
            return True
        status = "failed" if self.job.label in self.fake.bad else "ok"
        if self.job.makes is not None and status == "ok":
            self.job.makes.write_text("made")
        outcome = {
            "status": status,
            "reason": f"{self.job.label} is bad" * (status != "ok"),
            "steps": [],
            "facts": {},
        }
        (self.job.folder / cell.OUTCOME).write_text(json.dumps(outcome))
        return True

    def kill(self) -> None:
        self.fake.running.discard(self.job.label)


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[CellProcess]:
    monkeypatch.setattr("cryoet_core.benchmark.engine._PAUSE", 0.0)
    data, picks = tmp_path / "data.h5", tmp_path / "picks.csv"
    plan = [
        ("data", data, ()),
        ("picks", picks, (data,)),
        ("a", None, (data, picks)),
        ("b", None, (data,)),
        ("c", None, ()),
    ]
    for label, _, _ in plan:
        (tmp_path / label).mkdir()
    return [CellProcess(tmp_path / label, label, makes, needs) for label, makes, needs in plan]


def done(jobs: list[CellProcess], fake: Fake) -> dict[str, str]:
    ended: dict[str, str] = {}
    work_through(
        jobs,
        fake,
        lambda job: None,
        lambda job, outcome: ended.update({job.label: outcome["reason"]}),
    )
    return ended


def test_jobs_wait_for_what_they_need_and_no_more_run_than_there_are_slots(jobs: list[CellProcess]):
    fake = Fake(2)
    ended = done(jobs, fake)
    assert set(ended.values()) == {""}
    order = list(ended)
    assert order.index("data") < order.index("picks") < order.index("a")
    assert order.index("data") < order.index("b")
    assert fake.most == 2


def test_a_failure_is_told_to_what_builds_on_it_and_stops_no_other(jobs: list[CellProcess]):
    ended = done(jobs, Fake(2, bad=("picks",), dead=("b",)))
    assert ended["a"] == "its data could not be made: picks is bad"
    assert "ended without a word" in ended["b"]
    assert ended["c"] == ended["data"] == ""


def test_a_file_that_nobody_makes_ends_the_work_and_kills_what_runs(jobs: list[CellProcess]):
    with pytest.raises(RunError, match=r"data\.h5: gone"):
        done(jobs[1:], Fake(3))


@pytest.mark.parametrize(
    ("gpus", "seen", "expected"), [(2, "", ["0", "1", "0"]), (2, "4,7", ["4", "7", "4"])]
)
def test_processes_share_cores_and_gpus(
    gpus: int, seen: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found: list[dict[str, str]] = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(subprocess, "Popen", lambda command, *, env, **_: found.append(env))
    here = Local(3, gpus)
    for slot in range(3):
        here.start(CellProcess(tmp_path, "x"), slot)
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in found] == expected
    assert found[0]["MKL_NUM_THREADS"] == "3"


def test_the_same_cells_run_as_jobs_of_submitit(tmp_path: Path):
    pytest.importorskip("submitit")
    folder = make_cell(tmp_path / "a", template(tmp_path))
    queue = Slurm(tmp_path / "queue", 1, 0, {}, minutes=2, cluster="local")
    outcomes: list[dict[str, object]] = []
    work_through(
        [CellProcess(folder, "a")],
        queue,
        lambda job: None,
        lambda job, outcome: outcomes.append(outcome),
    )
    assert outcomes[0]["status"] == "ok"
    assert (tmp_path / "map.mrc").exists()


def test_slurm_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no sbatch on this machine"):
        Slurm(tmp_path / "queue", 1, 0, {}, minutes=2)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("echo RUNNING", True),
        ("echo FAILED", False),
        ("true", False),
        ("echo slurm_load_jobs error: Invalid job id specified >&2; exit 1", False),
        ("echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1", True),
    ],
)
def test_what_the_queue_says(
    answer: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "squeue").write_text(f"#!/bin/sh\n{answer}\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert in_queue("7") is expected


def test_labels_are_a_share_of_the_known_centres(tmp_path: Path):
    from cryoet_core.formats.picks import read_picks
    from cryoet_core.testing.data import write_tomograms

    tomograms = write_tomograms(tmp_path / "tomograms.h5")
    words = [
        "prepare",
        "labels",
        str(tomograms),
        "--share",
        "0.25",
        "--seed",
        "3",
        "--out",
        str(tmp_path / "labels.csv"),
    ]
    outcome = cell.run_cell(str(make_cell(tmp_path / "a", words)))
    assert outcome["facts"]["s0"] == {"out": words[-1], "labels": 6, "of": 24}
    picks = read_picks(tmp_path / "labels.csv").picks
    assert len({tuple(position) for position in picks.positions.tolist()}) == 6
    assert set(picks.class_names) == {"ball"}
    assert os.path.exists(words[-1])


# ---- what is told --------------------------------------------------------------------------------


def test_the_expected_end_is_what_the_methods_took_so_far(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from cryoet_core.benchmark.plan import Cell
    from cryoet_core.benchmark.results import Results
    from cryoet_core.benchmark.show import Show

    def made(method: str) -> Cell:
        return Cell(method, method, 0, "small", (), (), ())

    queue = [CellProcess(tmp_path / str(i), f"job {i}") for i in range(4)]
    cells = {
        job.folder: made(name)
        for job, name in zip(queue, ("slow", "slow", "fast", "new"), strict=True)
    }
    results = Results(tmp_path)
    results.add({"key": "x", "method": "fast", "status": "ok", "metrics": {"wall_seconds": 10.0}})
    show = Show()
    with show.running(queue, cells, results, 2):
        show.started(queue[0])
        outcome = {
            "status": "ok",
            "reason": "",
            "steps": [{"wall_seconds": 100.0}],
            "facts": {"run": {"f1": 0.25}},
        }
        show.ended(queue[0], outcome)
        assert (
            show.expected_seconds() == (100 + 10 + 55) / 2
        )  # slow, fast, and the mean of all for the new one
        failed = {"status": "failed", "reason": "run: it broke", "steps": [], "facts": {}}
        show.ended(queue[1], failed)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(
        "[1/4] job 0: f1 0.250, 1 min 40 s; 3 left, about 1 min 22 s, ends at "
    )
    assert said[1].startswith("[2/4] job 1: failed: run: it broke")
