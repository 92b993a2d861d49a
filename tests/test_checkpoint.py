"""Checkpoints: what goes in comes out, nothing is pickled, and no kill leaves less than the last
good one.
"""

from __future__ import annotations

import math
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoet_core.runs import checkpoint
from cryoet_core.support.errors import RunError


def test_round_trip_of_every_kind_of_tensor(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "a.safetensors"
    path.parent.mkdir()
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "view": base.T,
        "same memory": base[1:],
        "scalar": torch.tensor(3, dtype=torch.int64),
        "empty": torch.zeros(0, 5),
        "flags": torch.tensor([True, False]),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "parameter": torch.nn.Parameter(base),
        "volume": torch.zeros(1, 1, 2, 2, 2).contiguous(memory_format=torch.channels_last_3d),
    }
    state = {
        "step": np.int64(4),
        "k": [1, 2],
        "best": math.inf,
        "bad": math.nan,
        "none": None,
        "text": "Å [x]",
    }
    checkpoint.save(path, tensors, state)
    found = checkpoint.load(path)
    assert found is not None
    loaded, loaded_state = found
    assert set(loaded) == set(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor.detach())
    assert math.isnan(loaded_state.pop("bad"))
    assert loaded_state == {"step": 4, "k": [1, 2], "best": math.inf, "none": None, "text": "Å [x]"}


def test_what_was_loaded_survives_the_next_save(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, {"x": torch.ones(1000)}, {})
    old, _ = checkpoint.load(path) or ({}, {})
    checkpoint.save(path, {"x": torch.zeros(1000)}, {})
    assert old["x"].sum() == 1000


def test_absent_is_none(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "a.safetensors") is None


class Bomb:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize(
    "damage", ["empty", "cut header", "cut data", "noise", "foreign", "pickle", "folder"]
)
def test_damage_is_one_line_and_runs_nothing(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save

    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, {"x": torch.rand(100)}, {"step": 1})
    good = path.read_bytes()
    path.unlink()
    broken = {
        "empty": b"",
        "cut header": good[:20],
        "cut data": good[:-1],
        "noise": random.Random(0).randbytes(500),
        "foreign": save({"x": torch.zeros(1)}),
        "pickle": pickle.dumps(Bomb()),
    }
    path.write_bytes(broken[damage]) if damage in broken else path.mkdir()
    with pytest.raises(RunError, match=r"a\.safetensors: this checkpoint is damaged") as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "exploded").exists()


def test_what_json_cannot_hold_is_refused_and_the_old_checkpoint_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, {"x": torch.ones(1)}, {"step": 1})
    with pytest.raises(TypeError, match="state holds a object"):
        checkpoint.save(path, {}, {"what": object()})
    found = checkpoint.load(path)
    assert found is not None
    assert found[1] == {"step": 1}


def test_kill_9_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "a.safetensors"
    code = f"""
        import sys, torch
        from pathlib import Path
        from cryoet_core.runs import checkpoint
        print("ready", flush=True)
        step = 0
        while True:
            step += 1
            checkpoint.save(Path({str(path)!r}), {{"x": torch.full((200_000,), float(step))}}, {{"step": step}})
            print(step, flush=True)
    """
    moments = random.Random(1)
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert process.stdout.readline() == "1\n"
        time.sleep(moments.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        done = [int(line) for line in process.stdout.read().split("\n")[:-1]]
        process.wait()
        found = checkpoint.load(path)
        assert found is not None
        tensors, state = found
        assert state["step"] >= max(done, default=1)
        assert torch.equal(tensors["x"], torch.full((200_000,), float(state["step"])))
