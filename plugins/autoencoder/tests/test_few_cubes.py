"""A segmentation network learns its labels from few cubes too, and where it does not, that is
said.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cryoet_autoencoder.edss3d import Edss3dTrainer
from cryoet_autoencoder.fitting import Schedule, fit
from cryoet_autoencoder.overlap import LEAST_DICE, Overlap, unlearnt

from cryoet_core.plugins.config import Config
from cryoet_core.runs.run import Run
from cryoet_core.tasks.session import run_method
from cryoet_core.testing import data as kit_data

QUIET = {"quiet": True, "device": "cpu", "report": False}


class Alone:
    """What ``Overlap`` and ``unlearnt`` use of a run."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.said: list[str] = []
        self.say = self.said.append

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor


def test_overlap_counts_foreground_over_batches_and_begins_anew() -> None:
    overlap = Overlap(Alone())  # type: ignore[arg-type]
    labels = torch.tensor([0, 1, 2, 2, 0, 0, 1, 0]).view(2, 1, 2, 2)
    found = torch.tensor([0, 2, 2, 0, 1, 0, 1, 0]).view(2, 1, 2, 2)  # 3 of 4 wanted voxels, 4 found
    logits = torch.nn.functional.one_hot(found, 3).movedim(-1, 1).float()
    for part in (slice(0, 1), slice(1, 2)):
        overlap.add(logits[part], labels[part])
    assert overlap.dice() == pytest.approx(2 * 3 / 8)
    overlap.add(logits[:1, [0, 1, 2]] * 0, labels[:1])  # all equal: class 0, background
    assert overlap.dice() == 0
    assert overlap.dice() == 1  # nothing at all


def test_a_network_that_learnt_nothing_is_warned_of() -> None:
    run = Alone()
    assert unlearnt(LEAST_DICE, run) == []  # type: ignore[arg-type]
    [note] = unlearnt(0.07, run)  # type: ignore[arg-type]
    assert "foreground Dice 0.07" in note
    assert "`least_updates`" in note
    assert run.said == [f"warning: {note}"]


@pytest.mark.parametrize(("least", "updates"), [(1, 2), (2, 2), (3, 4), (5, 6)])
def test_an_epoch_of_few_volumes_is_several_passes(
    tmp_path: Path, least: int, updates: int
) -> None:
    run = Run.create("autoencoder", Config(), {}, tmp_path / "run", device="cpu", quiet=True)
    model, seen = torch.nn.Linear(1, 1), []

    def loss(rows: torch.Tensor, random: Any) -> torch.Tensor:
        if random is not None:
            seen.append(rows)
        return model(rows[:, None].float() / 9).square().mean()

    fit(model, 9, loss, Schedule(2, 2, 4, 1e-3, least_updates=least), run, "toy")
    run.finish()
    assert len(seen) == 2 * updates
    assert torch.cat(seen).bincount().tolist() == [2 * updates // 2] * 9
    assert (run.load("toy") or ({}, {}))[1]["updates"] == 2 * updates


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Twelve cubes, and tomograms."""
    folder = tmp_path_factory.mktemp("few")
    kit_data.write_subtomograms(folder / "cubes.h5", 16, per_class=4)
    kit_data.write_tomograms(folder / "tomograms.h5")
    inputs = {"subtomograms": [folder / "cubes.h5"], "data": [folder / "tomograms.h5"]}
    return SimpleNamespace(folder=folder, inputs=inputs)


@pytest.mark.parametrize(("least", "learnt"), [(1, False), (24, True)])
def test_few_cubes(place: SimpleNamespace, least: int, learnt: bool) -> None:
    options = Edss3dTrainer.tiny | {
        "epochs": 5,
        "patience": 5,
        "least_updates": least,
        "keep": "1-3",
    }
    options |= {"least_volume": 0.02}
    out = place.folder / f"run{least}"
    run_method("edss3d", place.inputs, options, out=out, **QUIET)
    run = Run.open(out)
    rows = [row for row in run.metrics() if row["phase"] == "segmentation"]
    assert (rows[-1]["dice"] > 0.5) == learnt
    assert (
        any(
            "labels the subtomograms that it learnt from badly" in note
            for note in run.read_json("notes.json")
        )
        != learnt
    )
