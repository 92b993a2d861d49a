"""Run: the folder, options that are refused, random numbers, metrics, progress, resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoet_core.plugins.config import Config, option
from cryoet_core.runs import devices, runfolder
from cryoet_core.runs.run import Run
from cryoet_core.support import files, journal
from cryoet_core.support.errors import RunError, UserError
from cryoet_core.support.progress import Terminal


class Settings(Config):
    width: int = option(3, "channels", ge=1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(bytes(range(256)) * 1000)
    return path


def start(tmp_path: Path, data: Path | None = None, **options) -> Run:
    inputs = {"data": [data]} if data else {}
    return Run.create(
        "method", Settings(width=5), inputs, tmp_path / "run", **{"device": "cpu", **options}
    )


def test_a_finished_run_says_what_it_was(tmp_path: Path, data: Path) -> None:
    run = start(tmp_path, data, seed=7, preset="fast")
    with run.timer("wait"):
        pass
    run.finish(k=5)
    record = json.loads((run.dir / "config.json").read_text())
    assert record["config"] == {"width": 5}
    assert (record["seed"], record["preset"], record["inputs"]) == (
        7,
        "fast",
        {"data": [str(data)]},
    )
    facts = json.loads((run.dir / "run.json").read_text())
    assert facts["status"] == "done"
    assert facts["facts"] == {"k": 5}
    assert facts["peak_memory"]["host"] > 10_000_000
    assert set(facts["timings"]) == {"wait"}
    assert facts["provenance"]["packages"]["torch"] == torch.__version__
    assert facts["provenance"]["device"].startswith("cpu")
    assert facts["fingerprints"]["data"][0]["bytes"] == 256_000


def test_without_out_each_run_gets_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [Run.create("method", Settings(), {}, device="cpu").dir for _ in range(2)]
    assert folders[0] != folders[1]
    assert {folder.parent for folder in folders} == {tmp_path / "runs" / "method"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "cuda"}, "`device` cuda: no CUDA device"),
        ({"device": "tpu"}, "`device` tpu: unknown"),
        ({"device": "cuda:x"}, "`device` cuda:x: unknown"),
        ({"devices": 0}, "`devices` 0: out of range"),
        ({"devices": 4000}, "`devices` 4000: out of range"),
        ({"threads": 0}, "`threads` 0: out of range"),
        ({"precision": "16"}, "`precision` 16: unknown"),
    ],
)
def test_impossible_options_are_refused_before_a_folder_is_made(
    tmp_path: Path, options: dict, words: str
) -> None:
    if (
        "cuda" in str(options.get("device"))
        and torch.cuda.is_available()
        and "x" not in options["device"]
    ):
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match=words):
        start(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.resolve("auto") == torch.device("cuda", 0)
    assert devices.resolve("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UserError, match="this machine has 2 GPUs; expected cuda:0 to cuda:1"):
        devices.resolve("cuda:2")
    with pytest.raises(UserError, match=r"`devices` 3: out of range; this process sees 2 GPUs"):
        devices.layout(3, torch.device("cuda", 0))


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_an_existing_out_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "run"
    {"folder": out.mkdir, "file": out.touch, "link": lambda: out.symlink_to("nowhere")}[kind]()
    with pytest.raises(UserError, match="exists already"):
        start(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_out_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="a part of this path is a file"):
        Run.create("method", Settings(), {}, tmp_path / "file" / "run", device="cpu")


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start(tmp_path)

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"a\.safetensors: cannot be written: the disk is full"):
        run.save("a", {"x": torch.zeros(3)})
    with pytest.raises(UserError, match="the disk is full"):
        run.write_json("a.json", {})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "no such run folder"),
        (lambda path: path.touch(), "a file; expected a folder"),
        (lambda path: path.mkdir(), "not a run folder"),
        (lambda path: (path.with_name(".run.starting")).mkdir(), "ended while it started"),
        (
            lambda path: (path.mkdir(), (path / "config.json").write_text("{}")),
            "not written by `cryoet run`",
        ),
        (
            lambda path: (
                path.mkdir(),
                (path / "config.json").write_text('{"format": "cryoet run", "version": 9}'),
            ),
            "version 9; this program reads version 1",
        ),
    ],
)
@pytest.mark.parametrize("way", [Run.open, Run.resume])
def test_what_is_no_run_folder_is_one_clear_line(tmp_path: Path, make, words: str, way) -> None:
    make(tmp_path / "run")
    with pytest.raises(UserError, match=words) as caught:
        way(tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_the_parent_of_run_folders_names_one(tmp_path: Path) -> None:
    start(tmp_path)
    with pytest.raises(UserError, match=r"name one of them, such as .*run$"):
        Run.open(tmp_path)


def test_damaged_json_is_a_run_error(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.finish()
    (run.dir / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run\.json: cannot be read"):
        _ = Run.open(run.dir).facts


def test_generators_depend_on_seed_and_key_alone(tmp_path: Path) -> None:
    run = start(tmp_path, seed=3)
    again = Run.open(run.dir)

    def draw(run: Run, *key: str | int) -> list[float]:
        return torch.rand(4, generator=run.generator(*key)).tolist()

    draw(run, "other")
    assert draw(run, "rotate", 5) == draw(again, "rotate", 5)
    keys = [("rotate", 5), ("rotate", 6), ("rotate", "5"), ("rotate",), ("rotat", "e5")]
    assert len({tuple(draw(run, *key)) for key in keys}) == len(keys)
    other = Run.create("method", Settings(), {}, tmp_path / "other", seed=4, device="cpu")
    assert draw(other, "rotate", 5) != draw(run, "rotate", 5)


def test_reseed_repeats_the_global_numbers(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.reseed("epoch", 1)
    first = torch.nn.functional.dropout(torch.ones(100))
    torch.rand(17)
    run.reseed("epoch", 1)
    assert torch.equal(torch.nn.functional.dropout(torch.ones(100)), first)


def test_autocast_is_float32_on_a_cpu_unless_asked(tmp_path: Path) -> None:
    layer, x = torch.nn.Linear(4, 4), torch.rand(2, 4)
    run = start(tmp_path)
    with run.autocast():
        assert layer(x).dtype == torch.float32
    asked = Run.create("method", Settings(), {}, tmp_path / "b", device="cpu", precision="bf16")
    with asked.autocast():
        assert layer(x).dtype == torch.bfloat16


def test_memory_budget(tmp_path: Path) -> None:
    assert start(tmp_path, max_memory=12345).max_memory == 12345
    assert (1 << 26) < Run.open(tmp_path / "run").max_memory < devices.free_host_memory()


def test_log_turns_numpy_torch_and_nan_into_json(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.log(
        step=1,
        loss=float("nan"),
        k=np.int64(3),
        share=np.float32(0.5),
        shape=(1, 2),
        x=torch.tensor(2.0),
    )
    assert run.metrics() == [
        {"step": 1, "loss": None, "k": 3, "share": 0.5, "shape": [1, 2], "x": 2.0}
    ]
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        run.log(step=2, what=object())
    assert len(run.metrics()) == 1


def test_resumed_log_replaces_what_is_done_again(tmp_path: Path) -> None:
    run = start(tmp_path)
    for step in range(5):
        run.log(step=step, first=True)
    run.fail("stopped")
    with (run.dir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "fir')  # torn by a crash
    assert len(run.metrics()) == 5
    again = Run.resume(run.dir)
    again.log(note="resumed")
    again.log(step=3, first=False)
    again.log(step=3, second=1)
    again.log(step=4, first=False)
    steps = [(row["step"], row.get("first")) for row in again.metrics()]
    assert steps == [(0, True), (1, True), (2, True), (3, False), (3, None), (4, False)]


def test_resumed_log_tells_phases_apart(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = journal.Journal(path)
    for phase in ("pretrain", "tune"):
        for step in range(3):
            first.append({"phase": phase, "step": step})
    journal.Journal(path).append({"phase": "tune", "step": 1})
    rows = [(row["phase"], row["step"]) for row in journal.read(path)]
    assert rows == [("pretrain", 0), ("pretrain", 1), ("pretrain", 2), ("tune", 0), ("tune", 1)]


@pytest.mark.parametrize("junk", [b"\xff\xfe", b"12\n", b'{"step": 1}', b"null\n{}\n"])
def test_a_journal_with_a_damaged_end_goes_on(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 0}\n' + junk)
    journal.Journal(path).append({"step": 1})
    assert journal.read(path) == [{"step": 0}, {"step": 1}]


def test_resume_remembers_time_options_and_status(tmp_path: Path, data: Path) -> None:
    run = start(tmp_path, data, max_memory=777)
    with run.timer("a"):
        pass
    run._timings["a"] = 5.0
    run._started -= 100
    run.fail("power cut")
    assert Run.open(run.dir).facts["status"] == "failed"
    assert Run.open(run.dir).facts["reason"] == "power cut"
    again = Run.resume(run.dir, threads=1)
    assert again.max_memory == 777
    assert again.facts["status"] == "running"
    again.finish()
    assert again.facts["wall_seconds"] >= 100
    assert again.facts["timings"]["a"] == 5.0
    assert again.facts["resumed"] == 1
    assert "reason" not in again.facts


def test_resume_refuses_changed_or_missing_data(tmp_path: Path, data: Path) -> None:
    start(tmp_path, data).fail("x")
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    with pytest.raises(UserError, match=r"data\.bin: changed since"):
        Run.resume(tmp_path / "run")
    data.unlink()
    with pytest.raises(UserError, match=r"data\.bin: no such file"):
        Run.resume(tmp_path / "run")


def test_two_processes_do_not_write_one_run(tmp_path: Path) -> None:
    run = start(tmp_path)
    with pytest.raises(UserError, match="another process is still writing"):
        Run.resume(run.dir)
    run.finish()
    Run.resume(run.dir).finish()


def test_small_files(tmp_path: Path) -> None:
    run = start(tmp_path)
    assert run.read_json("notes.json") is None
    run.write_json("notes.json", ["a", np.float64("inf")])
    assert run.read_json("notes.json") == ["a", None]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, 1)
    with pytest.raises(TypeError), files.replacing(path) as beside:
        beside.write_text(2)  # type: ignore[arg-type]
    assert files.read_json(path) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_kill_while_the_run_starts_leaves_something_that_resume_explains(tmp_path: Path) -> None:
    code = f"""
        import os, signal
        from pathlib import Path
        from cryoet_core.runs import runfolder
        os.rename = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
        runfolder.make(Path({str(tmp_path / "run")!r}), "m", {{}}, {{}})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(
        UserError, match="ended while it started, nothing was done yet; run it again"
    ):
        Run.resume(tmp_path / "run")
    assert start(tmp_path).dir.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_folder_is_locked_only_as_long_as_the_process_lives(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.finish()
    code = f"""
        import os
        from pathlib import Path
        from cryoet_core.runs import runfolder
        held = runfolder.lock(Path({str(run.dir)!r}))
        os.kill(os.getpid(), 9)
    """
    assert (
        subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False).returncode
        == -signal.SIGKILL
    )
    handle = runfolder.lock(run.dir)
    assert handle is not None
    handle.close()


def test_progress_yields_everything_with_and_without_a_terminal() -> None:
    for terminal in (Terminal(), Terminal(silent=True), _on_terminal()):
        outer = [(i, list(terminal.progress("ab", "inner"))) for i in terminal.progress(3, "outer")]
        assert outer == [(i, ["a", "b"]) for i in range(3)]
        for _ in terminal.progress(iter(range(9)), "left early"):
            break
        assert list(terminal.progress(iter(range(2)), "no length")) == [0, 1]


def _on_terminal() -> Terminal:
    from rich.console import Console

    terminal = Terminal()
    terminal.console = Console(file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    return terminal


def test_say_prints_brackets_long_lines_and_nothing_when_quiet(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    line = "a [bold] " * 40
    Terminal().say(line)
    Terminal(silent=True).say("silent")
    assert capsys.readouterr().out == f"{line}\n"
    Terminal(to_stderr=True).say("on the other")
    assert capsys.readouterr() == ("", "on the other\n")


def test_importing_run_does_not_import_torch() -> None:
    code = (
        "import sys, cryoet_core.runs.run; sys.exit('torch' in sys.modules or "
        "'lightning_fabric' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_volumes_that_live_together_share_the_budget(tmp_path: Path) -> None:
    from cryoet_core.store import open_subtomograms
    from cryoet_core.testing.data import write_subtomograms

    path = write_subtomograms(tmp_path / "a.h5", 12, per_class=2)
    one, other = open_subtomograms(path), open_subtomograms(path)
    size = 6 * 12**3 * 2
    run = start(tmp_path, path, max_memory=size + 10)
    first = run.volumes(one)
    assert first.held
    assert run.volumes(one) is first
    assert not run.volumes(other).held
    assert torch.equal(run.volumes(other)[:], first[:])
    del first
    assert run.volumes(other, np.arange(3)).held
