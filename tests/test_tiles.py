"""Tiles: a function of a whole tomogram comes out the same however it is cut, and what was done is
not done again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cryoet_core.support.errors import RunError, UserError
from cryoet_core.support.progress import Terminal
from cryoet_core.tomograms import ArrayVolume, Tomogram, tilefile
from cryoet_core.tomograms.tiles import score_map


def tomogram(
    shape: tuple[int, int, int] = (19, 30, 41), seed: int = 0, name: str = "TS_01", sign: int = 1
) -> Tomogram:
    values = np.random.default_rng(seed).normal(5, 3, shape).astype(np.float32)
    return Tomogram(name, ArrayVolume(values), 10.0, sign)


def a_run(folder: Path, max_memory: int = 1 << 30) -> Any:
    terminal = Terminal(silent=True)
    return SimpleNamespace(
        scratch=folder / "scratch",
        device=torch.device("cpu"),
        max_memory=max_memory,
        progress=terminal.progress,
    )


def network(channels: int = 2) -> nn.Module:
    """Two convolutions, the first of stride (1, 2, 2); an output voxel sees 2 x 6 x 6 input voxels
    about it at most.
    """
    torch.manual_seed(0)
    first = nn.Conv3d(1, 3, 3, stride=(1, 2, 2), padding=1)
    return nn.Sequential(first, nn.ReLU(), nn.Conv3d(3, channels, 3, padding=1)).double().float()


def reference(
    found: Tomogram, function: Callable[[Tensor], Tensor], pad: int, mode: str
) -> np.ndarray:
    """The function of the whole tomogram, continued on all sides by ``pad``, in one piece."""
    mean, deviation = found.statistics()
    values = (found.read() - np.float32(mean)) / np.float32(deviation)
    sizes = [(pad, pad + (-n) % 2) for n in values.shape]
    padded = np.pad(values, sizes, mode=mode)  # type: ignore[call-overload]
    with torch.no_grad():
        answer = function(torch.from_numpy(padded)[None, None])[0].numpy()
    d, h, w = values.shape
    y, x = pad // 2, pad // 2
    part: np.ndarray = answer[:, pad : pad + d, y : y + -(-h // 2), x : x + -(-w // 2)]
    return part


@pytest.mark.parametrize(("edge", "mode"), [("reflect", "reflect"), ("zero", "constant")])
@pytest.mark.parametrize("memory", [1 << 30, 20_000_000, 4_000_000])
def test_tiled_equals_untiled(tmp_path: Path, edge: Any, mode: str, memory: int) -> None:
    found, function = tomogram(), network()
    calls: list[tuple[int, ...]] = []

    def counted(region: Tensor) -> Tensor:
        calls.append(tuple(region.shape[2:]))
        return function(region)

    scores = score_map(
        found,
        counted,
        margin=(2, 6, 6),
        run=a_run(tmp_path, memory),
        channels=2,
        stride=(1, 2, 2),
        edge=edge,
    )
    assert scores.shape == (2, 19, 15, 21)
    np.testing.assert_allclose(scores, reference(found, function, 8, mode), atol=1e-5)
    assert max(np.prod(call) for call in calls) * 1024 <= memory
    assert (len(calls) > 1) == (memory < 1 << 30)


def test_margins_larger_than_the_volume_and_odd_strides(tmp_path: Path) -> None:
    found = tomogram((5, 7, 11))

    def pooled(region: Tensor) -> Tensor:
        blurred = nn.functional.avg_pool3d(region, 7, stride=1, padding=3, count_include_pad=False)
        return blurred[:, :, ::3, ::2]

    whole = score_map(found, pooled, margin=(9, 9, 9), run=a_run(tmp_path / "a"), stride=(3, 2, 1))
    cut = score_map(found, pooled, margin=(9, 9, 9), run=a_run(tmp_path / "b", 1), stride=(3, 2, 1))
    assert whole.shape == (1, 2, 4, 11)
    np.testing.assert_allclose(cut, whole, atol=1e-5)


def test_values_are_standardised_and_protein_bright(tmp_path: Path) -> None:
    dark = tomogram((20, 20, 20), sign=-1)
    scores = score_map(dark, lambda region: region, margin=(0, 0, 0), run=a_run(tmp_path))
    assert abs(scores.mean()) < 0.02
    assert abs(scores.std() - 1) < 0.02
    stored = dark.volume.read((slice(None),) * 3)
    assert np.corrcoef(scores[0].ravel(), stored.ravel())[0, 1] < -0.999


def test_the_answer_can_be_changed_without_harm_to_the_file(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    scores = score_map(tomogram(), lambda region: region, margin=(0, 0, 0), run=run)
    before = (run.scratch / "scores.tiles").read_bytes()
    scores[:] = 0
    assert (run.scratch / "scores.tiles").read_bytes() == before


class Stop(Exception):
    pass


def interrupted(run: Any, after: int, found: Tomogram, **more: Any) -> list[int]:
    """Tiles computed, stopped by an exception after some."""
    calls: list[int] = []

    def function(region: Tensor) -> Tensor:
        if len(calls) == after:
            raise Stop
        calls.append(1)
        return 2 * region

    with pytest.raises(Stop):
        score_map(found, function, margin=(1, 1, 1), run=run, **more)
    return calls


def counting(run: Any, found: Tomogram, **more: Any) -> tuple[int, np.ndarray]:
    calls: list[int] = []

    def function(region: Tensor) -> Tensor:
        calls.append(1)
        return 2 * region

    scores = score_map(found, function, margin=(1, 1, 1), run=run, **more)
    return len(calls), np.array(scores)


def test_an_interrupted_map_computes_the_rest_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tilefile, "SYNC_SECONDS", 0.0)
    found, run = tomogram(), a_run(tmp_path, 4_000_000)
    total, whole = counting(a_run(tmp_path / "whole", 4_000_000), found)
    interrupted(run, 5, found)
    with (run.scratch / "scores.tiles.jsonl").open("a") as file:
        file.write('{"done": [[0, 3')  # a torn line
    calls, scores = counting(run, found)
    assert calls == total - 5
    np.testing.assert_array_equal(scores, whole)
    assert counting(run, found)[0] == 0
    (run.scratch / "scores.tiles.jsonl").write_text(
        "".join((run.scratch / "scores.tiles.jsonl").read_text().splitlines(keepends=True)[:-1])
    )
    smaller, again = counting(a_run(tmp_path, 1_000_000), found)
    assert 0 < smaller < counting(a_run(tmp_path / "small", 1_000_000), found)[0], (
        "what larger tiles cover is done"
    )
    np.testing.assert_array_equal(again, whole)


OTHERS: dict[str, Any] = {
    "another tomogram": lambda found: (tomogram(name="TS_02"), {}),
    "other values": lambda found: (tomogram(seed=1), {}),
    "another shape": lambda found: (tomogram((18, 30, 41)), {}),
    "another edge": lambda found: (found, {"edge": "zero"}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_belongs_to_something_else_is_not_taken(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tilefile, "SYNC_SECONDS", 0.0)
    found, run = tomogram(), a_run(tmp_path, 4_000_000)
    interrupted(run, 5, found)
    other, more = OTHERS[name](found)
    total, whole = counting(a_run(tmp_path / "whole", 4_000_000), other, **more)
    calls, scores = counting(run, other, **more)
    assert calls == total
    np.testing.assert_array_equal(scores, whole)


KILLED = """
import sys
sys.path.insert(0, {folder!r})
import test_tiles, time
from cryoet_core.tomograms import tilefile
tilefile.SYNC_SECONDS = 0.0
from pathlib import Path
def slow(region):
    time.sleep(0.05)
    print("tile", flush=True)
    return 2 * region
test_tiles.score_map(test_tiles.tomogram(), slow, margin=(1, 1, 1), run=test_tiles.a_run(Path({out!r}), 2_000_000))
"""


def test_a_killed_process_leaves_its_tiles(tmp_path: Path) -> None:
    code = KILLED.format(folder=str(Path(__file__).parent), out=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(6):
        assert process.stdout.readline() == "tile\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    found = tomogram()
    total, whole = counting(a_run(tmp_path / "whole", 2_000_000), found)
    calls, scores = counting(a_run(tmp_path, 2_000_000), found)
    assert total - 7 <= calls <= total - 5
    np.testing.assert_array_equal(scores, whole)


def test_few_tiles_are_synced_for_their_own_sake(tmp_path: Path) -> None:
    run = a_run(tmp_path, 4_000_000)
    started = time.monotonic()
    counting(run, tomogram())
    rows = [
        json.loads(line) for line in (run.scratch / "scores.tiles.jsonl").read_text().splitlines()
    ]
    assert time.monotonic() - started > tilefile.SYNC_SECONDS or len(rows) == 1


def test_wrong_answers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="answered"):
        score_map(tomogram(), lambda region: region[..., 1:], margin=(0, 0, 0), run=a_run(tmp_path))
    with pytest.raises(RunError, match="TS_01: scores is not finite"):
        score_map(tomogram(), lambda region: region / 0, margin=(0, 0, 0), run=a_run(tmp_path))
    constant = Tomogram("flat", ArrayVolume(np.ones((4, 4, 4), np.float32)), 10.0)
    with pytest.raises(UserError, match="constant"):
        score_map(constant, lambda region: region, margin=(0, 0, 0), run=a_run(tmp_path))


def test_a_gpu_that_runs_out_gets_smaller_tiles(tmp_path: Path) -> None:
    sizes: list[int] = []

    def hungry(region: Tensor) -> Tensor:
        sizes.append(region.numel())
        if region.numel() > 8000:
            raise torch.cuda.OutOfMemoryError
        return region

    scores = score_map(tomogram(), hungry, margin=(1, 1, 1), run=a_run(tmp_path))
    assert sizes[0] > 8000 >= sizes[-1]
    assert np.isfinite(scores).all()

    def never(region: Tensor) -> Tensor:
        raise torch.cuda.OutOfMemoryError

    with pytest.raises(torch.cuda.OutOfMemoryError):
        score_map(tomogram(name="other"), never, margin=(1, 1, 1), run=a_run(tmp_path))
