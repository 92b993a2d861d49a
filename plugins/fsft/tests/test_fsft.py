"""The methods as wholes: what a stage may change, what adaptation brings, what a run leaves,
resuming by stages.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryoet_fsft import labeller as models
from cryoet_fsft.labeller import DomainLabeller
from cryoet_fsft.scoring import fitted_temperature
from cryoet_fsft.trainer import DomainTrainer

from cryoet_core.plugins.discovery import load_trainer
from cryoet_core.runs.inputs import open_inputs
from cryoet_core.runs.run import Run
from cryoet_core.store import open_subtomograms
from cryoet_core.support.errors import RunError, UserError

Write = Callable[..., Path]
SMALL: dict[str, Any] = {
    "width": 4,
    "channels": 16,
    "batch_size": 12,
    "source_epochs": 8,
    "shots": 2,
}
ALIGN = {"align_epochs": 6, "align_batch": 24}
PAIRS = {"discriminator_epochs": 10, "adapt_epochs": 12}


def fitted(
    method: str, source: Path, target: Path, out: Path, seed: int = 0, **options: Any
) -> tuple[DomainLabeller, Run, Any]:
    trainer = load_trainer(method)
    known = {
        name: value
        for name, value in (SMALL | ALIGN | PAIRS).items()
        if name in trainer.Config.model_fields
    }
    config = trainer.Config.from_layers("fast", {}, known | options)
    paths = {"source": [source], "target": [target]}
    run = Run.create(method, config, paths, out, seed=seed, device="cpu", quiet=True)
    data = open_inputs(trainer, paths)
    made = trainer(config)
    assert isinstance(made, DomainTrainer)
    return made.fit(data, run), run, data["target"]


def stage(run: Run, name: str, part: str) -> dict[str, torch.Tensor]:
    saved = run.load(name)
    assert saved is not None
    return {key: value for key, value in saved[0].items() if key.startswith(part)}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture
def pair(write: Write) -> tuple[Path, Path]:
    return write("source", per_class=12), write(
        "target", per_class=10, target=True, seed=9, noise=0.6
    )


def test_each_stage_changes_what_it_should(pair: tuple[Path, Path], tmp_path: Path) -> None:
    _, run, _ = fitted(
        "fsft", *pair, tmp_path / "run", calibrate=False, source_epochs=2, adapt_epochs=2
    )
    first, aligned, told, last = (
        stage(run, name, "networks.") for name in ("source", "align", "discriminate", "adapt")
    )
    fronts = [
        {k.removeprefix(f"networks.{side}."): v for k, v in first.items() if f".{side}." in k}
        for side in ("source", "target")
    ]
    weights = [name for name in fronts[0] if name.endswith("weight")]
    assert all(torch.equal(fronts[0][name], fronts[1][name]) for name in weights)
    moved = [
        name
        for name in weights
        if not torch.equal(aligned[f"networks.target.{name}"], fronts[1][name])
    ]
    apart = [
        name
        for name in weights
        if not torch.equal(aligned[f"networks.target.{name}"], aligned[f"networks.source.{name}"])
    ]
    assert moved == apart == weights
    assert same(aligned, told)
    assert not same(told, last)
    assert same(stage(run, "discriminate", "discriminator."), stage(run, "adapt", "discriminator."))


def test_adversarial_training_moves_the_discriminator(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    options = {
        "adversarial": True,
        "coral": False,
        "conv_discriminator": False,
        "calibrate": False,
        "adapt_epochs": 2,
    }
    options |= {"source_epochs": 1, "discriminator_epochs": 2}
    _, run, _ = fitted("fsft", *pair, tmp_path / "run", **options)
    assert not same(
        stage(run, "discriminate", "discriminator."), stage(run, "adapt", "discriminator.")
    )
    assert run.load("align") is None
    assert not any("blocks" in name for name in stage(run, "adapt", "discriminator."))


def test_adaptation_beats_fine_tuning_beats_the_source_alone(write: Write, tmp_path: Path) -> None:
    """With one shot of each class; mean of two seeds, for 57 volumes are few."""
    pair = write("source"), write("target", per_class=20, target=True, seed=9, noise=0.9)
    found = dict.fromkeys(("fsft", "finetune", "source_only"), 0.0)
    for method in found:
        more = {"align_epochs": 10, "align_batch": 12} if method == "fsft" else {}
        for seed in (0, 1):
            out, common = (
                tmp_path / f"{method}{seed}",
                {"source_epochs": 25, "channels": 128, "shots": 1},
            )
            labeller, run, target = fitted(
                method, *pair, out, seed, **common, **more, calibrate=False
            )
            labels = labeller.label(target, run)
            rows = labels.extra["split"] == 2
            assert rows.sum() == 57
            found[method] += float((labels.labels == target.labels)[rows].mean()) / 2
    assert found["fsft"] > found["finetune"] > found["source_only"], found


def test_a_run_leaves_its_stages_maps_and_notes(pair: tuple[Path, Path], tmp_path: Path) -> None:
    labeller, run, target = fitted(
        "fsft", *pair, tmp_path / "run", adapt_epochs=2, source_epochs=2, align_epochs=2
    )
    table = json.loads((run.dir / "tables.json").read_text())[0]
    titles = ["1: source", "2.1: CORAL", "2.2: discriminator", "3: confusion"]
    assert [row[0] for row in table["rows"]] == titles
    assert table["rows"][1][3] == table["rows"][2][3]
    assert "protocol held-out" in table["note"]
    panels = json.loads((run.dir / "scatters.json").read_text())[0]["panels"]
    assert [panel["title"] for panel in panels] == [
        f"{moment}, by {what}"
        for moment in ("After stage 1", "At the end")
        for what in ("domain", "class")
    ]
    assert [group["name"] for group in panels[0]["groups"]] == ["source", "target"]
    assert len(panels[2]["groups"][1]["x"]) == len(target)
    notes = json.loads((run.dir / "notes.json").read_text())
    assert any("transductive" in note for note in notes)
    assert any("fitted on 3 held-out" in note for note in notes)
    assert labeller.temperature != 1.0
    phases = {row["phase"] for row in run.metrics()}
    assert phases == {"source", "align", "discriminate", "adapt", "calibrate"}


def test_the_papers_protocol_counts_shots_and_says_so(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    labeller, run, target = fitted(
        "fsft",
        *pair,
        tmp_path / "run",
        protocol="paper",
        calibrate=False,
        source_epochs=2,
        adapt_epochs=4,
    )
    table = json.loads((run.dir / "tables.json").read_text())[0]
    assert "protocol paper: accuracy on all 30" in table["note"]
    labels = labeller.label(target, run)
    assert (labels.extra["split"] == 2).all()
    accuracy = float((labels.labels == target.labels).mean())
    assert accuracy == pytest.approx(table["rows"][-1][3])
    curve = [row["accuracy"] for row in run.metrics() if row["phase"] == "adapt"]
    assert accuracy == pytest.approx(max(curve))
    alone = labeller.label(target.subset(np.array([3])), run)
    assert len(alone) == 1


def test_stage_1_can_be_taken_from_another_run(pair: tuple[Path, Path], tmp_path: Path) -> None:
    _, first, _ = fitted("source_only", *pair, tmp_path / "one", source_epochs=1)
    _, second, _ = fitted(
        "deep_coral", *pair, tmp_path / "two", start=str(tmp_path / "one"), align_epochs=1
    )
    assert same(stage(first, "source", "networks."), stage(second, "source", "networks."))
    assert "source" not in {row["phase"] for row in second.metrics()}
    with pytest.raises(UserError, match=r"`start` .*one: its encoder is .*expected"):
        fitted("swd", *pair, tmp_path / "three", start=str(tmp_path / "one"), width=5)
    with pytest.raises(UserError, match="no such run folder"):
        fitted("swd", *pair, tmp_path / "four", start=str(tmp_path / "nothing"))


def test_stage_2_1_is_taken_over_too_where_it_would_be_the_same(
    pair: tuple[Path, Path], write: Write, tmp_path: Path
) -> None:
    """And the accuracies in the table are those of this run's target, not of the other's."""
    options = {
        "source_epochs": 2,
        "align_epochs": 2,
        "align_batch": 12,
        "adapt_epochs": 1,
        "calibrate": False,
    }
    _, first, _ = fitted("fsft", *pair, tmp_path / "one", **options)
    again = options | {"start": str(tmp_path / "one")}
    _, second, _ = fitted("fsft", *pair, tmp_path / "two", **again)
    assert {row["phase"] for row in second.metrics()} == {"discriminate", "adapt"}
    assert table_of(second) == table_of(first)
    assert same(stage(first, "adapt", "networks."), stage(second, "adapt", "networks."))
    _, third, _ = fitted("fsft", *pair, tmp_path / "three", **again | {"alpha": 1.0})
    assert "align" in {row["phase"] for row in third.metrics()}
    other = pair[0], write("another", target=True, seed=21)
    _, fourth, _ = fitted("fsft", *other, tmp_path / "four", **again)
    _, alone, _ = fitted("fsft", *other, tmp_path / "five", **options)
    assert table_of(fourth) == table_of(alone)


def table_of(run: Run) -> list[tuple[str, float]]:
    """Stage and accuracy."""
    rows = json.loads((run.dir / "tables.json").read_text())[0]["rows"]
    return [(row[0], row[3]) for row in rows]


@pytest.mark.parametrize(
    ("method", "options"),
    [("fsft", {"adversarial": True, "protocol": "paper", "coral": False}), ("swd", {})],
    ids=["fsft", "swd"],
)
def test_a_stage_goes_on_in_its_middle(
    method: str,
    options: dict[str, Any],
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With optimisers, the best epoch so far and the epochs that are done."""
    monkeypatch.setattr("cryoet_fsft.training.SAVE_SECONDS", -1.0)
    pair = write("source"), write("target", target=True, seed=9)
    short = {
        "source_epochs": 3,
        "align_epochs": 3,
        "discriminator_epochs": 1,
        "adapt_epochs": 3,
        "calibrate": False,
    }
    short = {
        name: value
        for name, value in short.items()
        if name in load_trainer(method).Config.model_fields
    } | options
    whole, run, target = fitted(method, *pair, tmp_path / "whole", **short)
    expected, rows = whole.label(target, run), run.metrics()
    for name in ("source", "adapt" if method == "fsft" else "align"):
        with monkeypatch.context() as patch:
            patch.setattr("cryoet_core.runs.run.Run.save", _interrupted(name, Run.save))
            with pytest.raises(KeyboardInterrupt):
                fitted(method, *pair, tmp_path / name, **short)
        run = Run.resume(tmp_path / name, quiet=True)
        again = load_trainer(method)(run.config).fit(
            open_inputs(load_trainer(method), run.inputs), run
        )
        np.testing.assert_array_equal(
            again.label(target, run).probabilities, expected.probabilities
        )
        assert run.metrics() == rows


def _interrupted(name: str, save: Callable[..., None]) -> Callable[..., None]:
    """``Run.save`` that stops the run once the stage ``name`` has saved two of its epochs."""

    def call(self: Run, what: str, tensors: Any, state: Any = None) -> None:
        save(self, what, tensors, state)
        if what == name and state["done"] == 2:
            self.fail("stopped by the test")
            raise KeyboardInterrupt

    return call


def test_predict_takes_other_files_and_refuses_other_boxes(
    pair: tuple[Path, Path], tmp_path: Path, write: Write
) -> None:
    labeller, run, _ = fitted(
        "deep_coral", *pair, tmp_path / "run", source_epochs=1, align_epochs=1
    )
    other = open_subtomograms(write("other", per_class=2, target=True, seed=4)).without_labels()
    labels = labeller.label(other, run)
    assert not labels.extra
    loaded = models.load(run)
    assert loaded is not None
    np.testing.assert_array_equal(loaded.label(other, run).probabilities, labels.probabilities)
    with pytest.raises(
        UserError, match=r"wide\.h5: boxes of 20 voxels, but the run was trained on 16"
    ):
        labeller.label(open_subtomograms(write("wide", per_class=1, box=20)), run)


def test_cropped_cubes_are_the_same_held_or_read(
    pair: tuple[Path, Path], tmp_path: Path, write: Write
) -> None:
    from cryoet_fsft.cubes import Cubes

    _, run, _ = fitted("source_only", *pair, tmp_path / "run", source_epochs=1)
    data, rows = open_subtomograms(write("large", per_class=2, box=24)), torch.tensor([4, 0, 3])
    held = Cubes(data, run, 16)
    run.options["max_memory"] = 0
    del run.max_memory
    assert torch.equal(held[rows], Cubes(data, run, 16)[rows])


def test_a_loss_that_is_no_number_ends_the_run(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "cryoet_fsft.methods.sliced_wasserstein", lambda x, *others: x.mean() * float("nan")
    )
    with pytest.raises(
        RunError, match=r"stage sliced Wasserstein: the loss is nan in epoch 1; lower its"
    ):
        fitted("swd", *pair, tmp_path / "run", source_epochs=1)


def test_the_temperature_undoes_a_known_sharpening() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    assert fitted_temperature(4 * logits, labels) == pytest.approx(4, rel=0.1)
    certain = 5 * torch.eye(5)
    assert fitted_temperature(certain, torch.arange(5)) == pytest.approx(0.5, rel=0.1)
