"""Several processes in one run: started by ``devices=2``, by torchrun and (its environment
imitated) by srun.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from cryoet_core.runs import devices
from cryoet_core.runs.devices import Layout
from cryoet_core.runs.distributed import Processes
from cryoet_core.support.errors import UserError

SCRIPT = """
import json, os, sys, time
from pathlib import Path
import torch
from cryoet_core.cli.guard import guarded
from cryoet_core.plugins.config import Config, option
from cryoet_core.runs.run import Run

class Settings(Config):
    width: int = option(3, "channels")

out, count, what = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

def collectives(run):
    whole = torch.arange(7.0).reshape(7, 1)
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(model.weight)
    model(whole[run.shard(7)]).sum().backward()
    run.average_gradients(model.parameters())
    run.log(step=1, rank=run.rank)
    run.say(f"rank {run.rank} says")
    run.save("last", {"x": torch.ones(2)}, {"rank": run.rank})
    loaded = run.load("last")
    found = {
        "rank": run.rank, "world_size": run.world_size, "dir": str(run.dir), "device": str(run.device),
        "gathered": run.all_gather(whole[run.shard(7)]).flatten().tolist(),
        "flags": run.all_gather(torch.ones(3 * run.rank, dtype=torch.bool)).tolist(),
        "view": run.all_reduce(torch.ones(2, 3).T * (run.rank + 1)).tolist(),
        "sum": run.all_reduce(torch.tensor([1.5, float(run.rank)], dtype=torch.float64)).tolist(),
        "sent": run.broadcast({"from": run.rank, "what": (1, Path("a"))})["from"],
        "gradient": model.weight.grad.item(),
        "saved by": loaded[1]["rank"],
        "same numbers": torch.rand(1, generator=run.generator("a")).item(),
        "own numbers": torch.rand(1).item(),
    }
    Path(f"{out}-rank{run.rank}.json").write_text(json.dumps(found))
    run.finish(k=3)

def main():
    if what == "resume":
        return collectives(Run.resume(out))
    run = Run.create("m", Settings(), {}, out, device="cpu", devices=count, threads=1)
    Path(f"{out}-pid{run.rank}").write_text(str(os.getpid()))
    if what == "collectives":
        return collectives(run)
    if what == "stop":
        return run.fail("stopped")
    run.all_reduce(torch.zeros(1))  # none fails before all have written their pid
    if what == f"fail{run.rank}":
        try:
            raise RuntimeError("boom")
        except RuntimeError as error:
            run.fail(str(error))
            raise
    run.all_reduce(torch.zeros(1))
    time.sleep(60)

sys.exit(guarded(lambda: main() or 0))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def environment(**more: str) -> dict[str, str]:
    dropped = (
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
        "TORCHELASTIC_RUN_ID",
    )
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith("SLURM")
    }
    return kept | {"OMP_NUM_THREADS": "1"} | more


def call(command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment(**env), check=False
    )


def check_both_ranks(out: Path) -> None:
    ranks = [json.loads(Path(f"{out}-rank{rank}.json").read_text()) for rank in range(2)]
    for rank, found in enumerate(ranks):
        assert (found["rank"], found["world_size"], found["dir"], found["device"]) == (
            rank,
            2,
            str(out),
            "cpu",
        )
        assert found["gathered"] == [0, 1, 2, 3, 4, 5, 6]
        assert found["flags"] == [True] * 3
        assert found["view"] == [[3, 3], [3, 3], [3, 3]]
        assert found["sum"] == [3.0, 1.0]
        assert found["sent"] == found["saved by"] == 0
        assert found["gradient"] == (0 + 1 + 2 + 3 + 4 + 5 + 6) / 2
    assert ranks[0]["same numbers"] == ranks[1]["same numbers"]
    assert ranks[0]["own numbers"] != ranks[1]["own numbers"]
    assert (out / "metrics.jsonl").read_text() == '{"step": 1, "rank": 0}\n'
    facts = json.loads((out / "run.json").read_text())
    assert (facts["status"], facts["processes"]) == ("done", 2)


def test_two_processes_that_the_run_starts_itself(tmp_path: Path, script: Path) -> None:
    out = tmp_path / "run"
    done = call([sys.executable, str(script), str(out), "2", "collectives"])
    assert (done.returncode, done.stdout) == (0, "rank 0 says\n"), done.stderr
    check_both_ranks(out)


def test_resume_starts_as_many_again(tmp_path: Path, script: Path) -> None:
    out = tmp_path / "run"
    assert call([sys.executable, str(script), str(out), "2", "stop"]).returncode == 0
    done = call([sys.executable, str(script), str(out), "2", "resume"])
    assert done.returncode == 0, done.stderr
    check_both_ranks(out)


def test_torchrun(tmp_path: Path, script: Path) -> None:
    out = tmp_path / "run"
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        f"--master-port={free_port()}",
    ]
    done = call([*launcher, str(script), str(out), "1", "collectives"])
    assert done.returncode == 0, done.stderr
    check_both_ranks(out)


@pytest.mark.parametrize("out_exists", [False, True])
def test_srun(tmp_path: Path, script: Path, out_exists: bool) -> None:
    out = tmp_path / "run"
    if out_exists:
        out.mkdir()
    job = {
        "SLURM_JOB_NAME": "cryoet",
        "SLURM_JOB_ID": "1",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_TASKS": "2",
    }
    job |= {"SLURM_STEP_NUM_NODES": "1", "SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1"}
    job |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    tasks = [
        subprocess.Popen(
            [sys.executable, str(script), str(out), "1", "collectives"],
            env=environment(**job, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank)),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [task.communicate(timeout=120)[1] for task in tasks]
    if out_exists:
        assert [task.returncode for task in tasks] == [2, 2]
        assert "exists already" in said[0]
        assert said[1] == ""
    else:
        assert [task.returncode for task in tasks] == [0, 0], said
        check_both_ranks(out)


def test_a_wrong_out_is_said_once_and_no_process_is_started(tmp_path: Path, script: Path) -> None:
    done = call([sys.executable, str(script), str(tmp_path), "2", "collectives"])
    assert done.returncode == 2
    assert done.stderr.count("exists already") == 1
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("failing", [0, 1])
def test_when_one_process_fails_none_is_left(tmp_path: Path, script: Path, failing: int) -> None:
    out = tmp_path / "run"
    done = call([sys.executable, str(script), str(out), "2", f"fail{failing}"])
    assert done.returncode not in (0, 2)
    assert "boom" in done.stderr
    pids = [int(Path(f"{out}-pid{rank}").read_text()) for rank in range(2)]
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in pids)
    if failing == 0:
        assert json.loads((out / "run.json").read_text())["reason"] == "boom"


def test_without_a_command_line_to_run_again_it_is_refused(tmp_path: Path) -> None:
    code = SCRIPT.replace("sys.argv[", "['', 'run', 2, 'collectives'][")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 2
    assert "--devices 2: the other processes run this command line again" in done.stderr
    assert list(tmp_path.iterdir()) == []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("env", "wanted", "expected"),
    [
        ({}, 1, Layout("none")),
        ({}, 2, Layout("self", 2)),
        (
            {"TORCHELASTIC_RUN_ID": "a", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"},
            1,
            Layout("torchrun", 2, 3),
        ),
        (
            {"TORCHELASTIC_RUN_ID": "a", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"},
            2,
            Layout("torchrun", 2),
        ),
        (
            {"TORCHELASTIC_RUN_ID": "a", "LOCAL_WORLD_SIZE": "1", "WORLD_SIZE": "1"},
            1,
            Layout("none"),
        ),
        # one task of srun may start its own two processes; a batch script without srun is one
        # process
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, 2, Layout("self", 2)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_NAME": "script"}, 1, Layout("none")),
        (
            {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2"},
            1,
            Layout("srun", 2, 2),
        ),
        (
            {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_NAME": "bash"},
            1,
            Layout("none"),
        ),
    ],
)
def test_layouts(
    env: dict[str, str], wanted: int, expected: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean(monkeypatch, env)
    assert devices.layout(wanted, torch.device("cpu")) == expected


@pytest.mark.parametrize(
    ("env", "wanted", "words"),
    [
        (
            {"TORCHELASTIC_RUN_ID": "a", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"},
            3,
            "torchrun started 2 processes",
        ),
        (
            {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_NUM_NODES": "2"},
            1,
            "spread unevenly",
        ),
    ],
)
def test_layouts_that_cannot_be(
    env: dict[str, str], wanted: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean(monkeypatch, env)
    with pytest.raises(UserError, match=words):
        devices.layout(wanted, torch.device("cpu"))


def test_who_is_the_main_process(monkeypatch: pytest.MonkeyPatch) -> None:
    clean(monkeypatch, {})
    assert devices.is_main_process()
    clean(monkeypatch, {"LOCAL_RANK": "1"})
    assert not devices.is_main_process()
    job = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_LOCALID": "0"}
    clean(monkeypatch, job | {"SLURM_PROCID": "2"})
    assert not devices.is_main_process()
    clean(
        monkeypatch,
        {"TORCHELASTIC_RUN_ID": "a", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4", "RANK": "2"},
    )
    assert not devices.is_main_process()


def clean(monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> None:
    for name in os.environ:
        if name.startswith(("SLURM", "TORCHELASTIC")) or name in ("RANK", "LOCAL_RANK"):
            monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)


def test_one_process_starts_nothing_and_imports_no_fabric() -> None:
    code = """
        import sys, torch
        from cryoet_core.runs.devices import Layout
        from cryoet_core.runs.distributed import Processes
        alone = Processes(Layout("none"), torch.device("cpu"))
        alone.barrier(); alone.all_reduce(torch.ones(1)); alone.leave(kill=True)
        sys.exit("lightning_fabric" in sys.modules)
    """
    assert (
        subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False).returncode == 0
    )


@pytest.mark.parametrize("n", [0, 1, 7, 100])
@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_shards_cover_everything_evenly_in_order(n: int, world_size: int) -> None:
    team = Processes(Layout("none"), torch.device("cpu"))
    team.world_size = world_size
    sizes, items = [], []
    for team.rank in range(world_size):
        part = list(range(n))[team.shard(n)]
        sizes.append(len(part))
        items += part
    assert items == list(range(n))
    assert max(sizes) - min(sizes) <= 1
