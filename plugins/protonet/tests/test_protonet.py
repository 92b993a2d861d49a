"""``protonet`` as a whole: new classes are named from a few examples, and what goes wrong is
said.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryoet_protonet.labeller import ProtoLabeller
from cryoet_protonet.protonet import ProtoNet, ProtoNetCE

from cryoet_core.cli.main import main
from cryoet_core.plugins.interfaces import Labels
from cryoet_core.runs.encoders import pretrained_encoder
from cryoet_core.runs.inputs import open_inputs
from cryoet_core.runs.predictions import read_predictions
from cryoet_core.runs.run import Run
from cryoet_core.simulate.generation import write_subtomograms
from cryoet_core.simulate.settings import SimulationSettings
from cryoet_core.simulate.shapes.phantoms import load_phantom
from cryoet_core.store import Subtomograms, open_subtomograms
from cryoet_core.support.errors import UserError

TINY = {
    "query": 5,
    "epochs": 2,
    "episodes_per_epoch": 4,
    "episodes_per_step": 2,
    "pool": 16,
    "width": 8,
    "blocks": 3,
}
TINY |= {"evaluation_episodes": 100, "max_shift": 0}


def write(path: Path, names: tuple[str, ...], seed: int, per_class: int = 20) -> Path:
    settings = SimulationSettings(
        per_class=per_class, box=24, voxel_size=16.0, snr=1.0, ctf=False, seed=seed
    )
    write_subtomograms(path, [load_phantom(name, 16.0) for name in names], settings)
    return path


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("known") / "known.h5", phantoms()[:4], 0)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("others") / "others.h5", phantoms()[4:7], 1)


def phantoms() -> tuple[str, ...]:
    from cryoet_core.simulate.shapes.phantoms import PHANTOMS

    return tuple(sorted(PHANTOMS))


def start(
    path: Path, out: Path, method: type[ProtoNet] = ProtoNet, **options: Any
) -> tuple[ProtoNet, Run, Subtomograms]:
    config = method.Config.from_layers("fast", {}, TINY | options)
    run = Run.create(method.name, config, {"data": [path]}, out, seed=2, device="cpu", quiet=True)
    return method(config), run, open_inputs(method, {"data": [path]})["data"]


def fitted(
    path: Path, out: Path, method: type[ProtoNet] = ProtoNet, **options: Any
) -> tuple[ProtoLabeller, Run]:
    trainer, run, data = start(path, out, method, **options)
    labeller = trainer.fit({"data": data}, run)
    run.finish()
    return labeller, run


@pytest.fixture(scope="module")
def finished(known: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ProtoLabeller, Run]:
    return fitted(known, tmp_path_factory.mktemp("run") / "run", ProtoNetCE, attention_epochs=2)


def test_unseen_classes_are_told_apart(finished: tuple[ProtoLabeller, Run], known: Path) -> None:
    labeller, run = finished
    facts = run.read_json("episodes.json")
    assert len(facts["train_classes"]) == len(facts["unseen_classes"]) == 2
    rows = {(row["of"], row["embedding"], row["shot"]): row for row in facts["rows"]}
    assert rows["unseen classes", "", 5]["accuracy"] > 0.9
    assert rows["unseen classes", "", 5]["episodes"] == 100
    tables = {table["title"]: table for table in run.read_json("tables.json")}
    table = tables["Episodes of unseen classes"]
    assert table["rows"][0][0] == "1-shot"
    assert table["rows"][0][1] == pytest.approx(rows["unseen classes", "", 1]["accuracy"], abs=1e-4)
    assert all(name in table["note"] for name in (*facts["train_classes"], "seed 2"))
    data = open_subtomograms([known])
    labels = labeller.label(data.without_labels(), run)
    assert (labels.labels == data.labels).mean() > 0.85
    codes = labels.extra["split"]
    unseen = np.isin(np.array(data.class_names)[data.labels], facts["unseen_classes"])
    assert (codes[unseen] == 2).all()
    assert (codes[~unseen] == 1).sum() == 2 * 4
    assert (codes[~unseen] == 0).sum() == 2 * 16


def test_without_attention_protonet_ce_is_protonet(
    finished: tuple[ProtoLabeller, Run], known: Path, tmp_path: Path
) -> None:
    _, alone = fitted(known, tmp_path / "run")
    both = {
        (row["of"], row["embedding"], row["shot"]): row
        for row in finished[1].read_json("episodes.json")["rows"]
    }
    for row in alone.read_json("episodes.json")["rows"]:
        same = both[row["of"], row["embedding"] or "without attention", row["shot"]]
        assert row["accuracy"] == same["accuracy"]


def few(path: Path, count: int, names: tuple[str, ...] = ()) -> tuple[Subtomograms, np.ndarray]:
    """``count`` examples of each class (of ``names``), and the rows that are left."""
    data = open_subtomograms([path])
    rows = [
        np.flatnonzero(data.labels == i)[:count]
        for i, n in enumerate(data.class_names)
        if not names or n in names
    ]
    return data.subset(np.concatenate(rows)), np.setdiff1d(
        np.arange(len(data)), np.concatenate(rows)
    )


@pytest.mark.parametrize("count", [1, 5])
def test_a_support_set_names_classes_that_the_run_never_saw(
    finished: tuple[ProtoLabeller, Run], others: Path, count: int
) -> None:
    labeller, run = finished
    support, rest = few(others, count)
    data = open_subtomograms([others]).subset(rest)
    new = labeller.with_support(support, run)
    assert new.classes == data.class_names
    labels = new.label(data.without_labels(), run)
    named = labels.probabilities.argmax(1)
    assert (named == data.labels).mean() > (0.7 if count == 1 else 0.85)
    np.testing.assert_allclose(labels.probabilities.sum(1), 1, atol=1e-5)
    assert "split" not in labels.extra
    assert labeller.classes != new.classes  # the run's own is as it was


def test_predict_with_a_support_file(
    finished: tuple[ProtoLabeller, Run],
    others: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, run = finished
    examples = write(tmp_path / "examples.h5", phantoms()[4:7], 7, per_class=3)
    monkeypatch.chdir(tmp_path)
    words = [
        "predict",
        str(run.dir),
        "--support",
        str(examples),
        "--data",
        str(others),
        "--out",
        "named",
    ]
    assert main([*words, "--device", "cpu", "--quiet"]) == 0
    found, data = read_predictions(tmp_path / "named").labels, open_subtomograms([others])
    assert found.classes == data.class_names
    assert (found.probabilities.argmax(1) == data.labels).mean() > 0.8
    assert found.extra["distance"].shape == (60,)


def test_strangers_are_none_of_these(
    finished: tuple[ProtoLabeller, Run], others: Path, known: Path
) -> None:
    labeller, run = finished
    facts = run.read_json("episodes.json")
    support, _ = few(known, 5, tuple(facts["unseen_classes"]))
    new = labeller.with_support(support, run)
    strangers = new.label(open_subtomograms([others]).without_labels(), run)
    data = open_subtomograms([known])
    members = new.label(
        data.subset(np.isin(np.array(data.class_names)[data.labels], facts["unseen_classes"])), run
    )
    assert (strangers.labels == -1).mean() > (members.labels == -1).mean() + 0.3
    assert np.median(strangers.extra["distance"]) > np.median(members.extra["distance"])


def test_an_example_is_compared_with_the_others_of_its_class(
    finished: tuple[ProtoLabeller, Run], others: Path, tmp_path: Path
) -> None:
    labeller, run = finished
    support, _ = few(others, 3)
    new = labeller.with_support(support, run)
    alone = new.label(support.without_labels(), run)
    points = torch.from_numpy(alone.embedding).double()
    left = points[1:3].mean(0)
    expected = float((points[0] - left).square().sum() / (labeller.scales.variance * 1.5))
    centres = points.view(3, 3, -1).mean(1)[1:]
    other = float(
        (points[0] - centres).square().sum(1).min() / (labeller.scales.variance * (1 + 1 / 3))
    )
    assert alone.extra["distance"][0] == pytest.approx(min(expected, other), rel=1e-3)
    # a copy of the file is known by its content
    copy = tmp_path / "copy.h5"
    copy.write_bytes(others.read_bytes())
    same = new.label(few(copy, 3)[0], run)
    np.testing.assert_allclose(same.extra["distance"], alone.extra["distance"], rtol=1e-6)


def test_a_single_example_of_each_class_is_not_its_own_prototype(
    finished: tuple[ProtoLabeller, Run], others: Path
) -> None:
    labeller, run = finished
    support, _ = few(others, 1)
    new = labeller.with_support(support, run)
    labels = new.label(support.without_labels(), run)
    assert np.isfinite(new.threshold)
    assert (labels.probabilities[np.arange(3), np.arange(3)] == 0).all()
    assert (labels.extra["distance"] > 0).all()


def test_reject_0_never_says_none(finished: tuple[ProtoLabeller, Run], others: Path) -> None:
    labeller, run = finished
    support, _ = few(others, 2, phantoms()[4:5])
    bold = ProtoLabeller(
        labeller.space, labeller.support, labeller.scales, 0.0, labeller.facts, labeller.attention
    )
    data = open_subtomograms([others]).without_labels()
    assert (bold.with_support(support, run).label(data, run).labels == 0).all()
    assert (labeller.with_support(support, run).label(data, run).labels == -1).any()


def test_support_without_labels_or_of_another_box(
    finished: tuple[ProtoLabeller, Run], others: Path, tmp_path: Path
) -> None:
    labeller, run = finished
    with pytest.raises(UserError, match=r"`support` .*others.h5: has no class labels"):
        labeller.with_support(open_subtomograms([others]).without_labels(), run)
    from cryoet_core.testing.data import write_subtomograms as kit

    small = open_subtomograms([kit(tmp_path / "small.h5", 16, per_class=2)])
    with pytest.raises(UserError, match="subtomograms of 16 voxels, but the run was trained on 24"):
        labeller.with_support(small, run)


def test_the_encoder_serves_other_runs(
    finished: tuple[ProtoLabeller, Run], known: Path, tmp_path: Path
) -> None:
    labeller, run = finished
    module, record = pretrained_encoder(run.dir, box=24)
    assert record["name"] == "protonet.protonet3d"
    volumes = torch.randn(2, 1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(module.eval()(volumes), labeller.space.encoder(volumes))
    options = {"weights": str(run.dir), "learning_rate": 1e-12, "width": 4}
    again, _ = fitted(known, tmp_path / "again", **options)
    with torch.no_grad():
        for one, other in zip(again.space.encoder.parameters(), module.parameters(), strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_the_network_alone(known: Path, tmp_path: Path) -> None:
    """As in the paper preset: raw features, and a second stage that goes on training the
    encoder.
    """
    options = {"join_invariants": False, "freeze_encoder": False, "attention_epochs": 2}
    labeller, run = fitted(known, tmp_path / "run", ProtoNetCE, **options)
    assert labeller.space.descriptors is None
    assert labeller.space.dim == labeller.space.encoder.dim
    first = run.load("encoder")[0]["best.encoder.blocks.0.0.weight"]
    assert not torch.equal(first, labeller.space.encoder.blocks[0][0].weight.cpu())
    labels = labeller.label(open_subtomograms([known]).without_labels(), run)
    assert isinstance(labels, Labels)
    assert labels.embedding.shape == (80, labeller.space.dim)
    kinds = {row["embedding"] for row in run.read_json("episodes.json")["rows"]}
    assert kinds == {"", "without attention"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_classes": ["nothing"]}, "`train_classes` nothing: the data set has no such class"),
        ({"unseen": 3}, "`way` 2: episodes have 1 classes to draw from"),
        ({"shot": 16}, "16 shots and 1 queries need 17 volumes of a class, .* has 16"),
        ({"evaluation_shots": [30]}, "30 shots and 1 queries need 31 volumes of a class"),
        ({"encoder": "protonet.nothing"}, "plugin 'protonet' has no encoder 'nothing'"),
    ],
)
def test_what_cannot_be_is_said(
    known: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    trainer, run, data = start(known, tmp_path / "run", **options)
    with pytest.raises(UserError, match=message):
        trainer.fit({"data": data}, run)
    run.fail("expected")


def test_all_classes_trained_on_is_noted(known: Path, tmp_path: Path) -> None:
    _, run = fitted(known, tmp_path / "run", unseen=0)
    assert any("no episodes of unseen classes" in note for note in run.read_json("notes.json"))
    assert {row["of"] for row in run.read_json("episodes.json")["rows"]} == {
        "held-out volumes of training classes"
    }


def test_volumes_without_a_label_are_named_and_not_trained_on(known: Path, tmp_path: Path) -> None:
    trainer, run, data = start(known, tmp_path / "run")
    some = data.subset(np.arange(len(data)))
    some.labels[:10] = -1
    labeller = trainer.fit({"data": some}, run)
    labels = labeller.label(some.without_labels(), run)
    assert len(labels) == 80
    assert len(labeller.support.points) == 70
    assert (labels.extra["split"][:10] == 2).all()


def test_logged_rows(finished: tuple[ProtoLabeller, Run]) -> None:
    _, run = finished
    rows = run.metrics()
    assert [(row["phase"], row["step"]) for row in rows] == [
        ("encoder", 0),
        ("encoder", 1),
        ("attention", 0),
        ("attention", 1),
    ]
    assert all(np.isfinite(row["loss"]) for row in rows)
    assert json.loads((run.dir / "run.json").read_text())["status"] == "done"
