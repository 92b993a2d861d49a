"""The methods as commands: what labels may do, splits and fractions, resuming, weights from run to
run, explaining.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch
from cryoet_cssl.config import SwavConfig
from cryoet_cssl.finetune import scores_of
from cryoet_cssl.labellers import ClassifierLabeller
from cryoet_cssl.methods import Moco, Simclr, Supervised, fresh_encoder
from cryoet_cssl.parts import Parts, nested_share, parts_of, rows_without_labels
from cryoet_cssl.pretrain import feature_spread, strength
from cryoet_cssl.readouts import accuracy_on, linear_probe, nearest_neighbours, probe_weights

from cryoet_core.cli.main import main
from cryoet_core.plugins.interfaces import Trainer
from cryoet_core.runs.run import Run
from cryoet_core.store import Subtomograms, open_subtomograms
from cryoet_core.store.split import save_split
from cryoet_core.support.errors import UserError
from cryoet_core.testing import data as kit_data
from cryoet_core.testing.answers import difference

QUICK = {"fine_tune_epochs": 2, "fine_tune_batch": 8}


@pytest.fixture(scope="module")
def cubes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 labelled cubes of 12 voxels, three classes."""
    return kit_data.write_subtomograms(tmp_path_factory.mktemp("cubes") / "cubes.h5", 12)


def start(
    trainer: type[Trainer], path: Path, out: Path, seed: int = 0, **options: Any
) -> tuple[Any, Run, Subtomograms]:
    config = trainer.Config.from_layers("fast", {}, {**trainer.tiny, **options})
    run = Run.create(
        trainer.name, config, {"data": [path]}, out, seed=seed, device="cpu", quiet=True
    )
    return trainer(config), run, open_subtomograms(path)


# ---- splits and fractions


def test_fractions_are_stratified_nested_and_the_same_for_every_method(cubes: Path) -> None:
    data = open_subtomograms(cubes)
    shares = [parts_of(data, fraction, seed=4) for fraction in (0.25, 0.5, 0.75, 1.0)]
    for small, large in pairwise(shares):
        assert set(small.learnt) < set(large.learnt)
        np.testing.assert_array_equal(small.codes, large.codes)
    for share, fraction in zip(shares, (0.25, 0.5, 0.75, 1.0), strict=True):
        per_class = np.bincount(data.labels[share.labelled])
        found = np.bincount(data.labels[share.learnt])
        np.testing.assert_array_equal(found, np.maximum(1, np.round(fraction * per_class)))
    whole = shares[-1]
    np.testing.assert_array_equal(whole.learnt, whole.labelled)
    sizes = np.array([len(whole.labelled), len(whole.val), len(whole.test)]) / len(data)
    np.testing.assert_allclose(sizes, (0.6, 0.2, 0.2), atol=0.05)
    again = parts_of(data, 0.5, seed=4)
    np.testing.assert_array_equal(again.learnt, shares[1].learnt)
    assert set(parts_of(data, 0.5, seed=5).learnt) != set(again.learnt)


def test_the_split_of_the_file_is_kept_and_unlabelled_cubes_teach_nothing(
    cubes: Path, tmp_path: Path
) -> None:
    path = tmp_path / "split.h5"
    path.write_bytes(cubes.read_bytes())
    codes = np.array([0, 0, 0, 1, 2, -1] * 6, dtype=np.int8)
    save_split(path, codes)
    data = open_subtomograms(path)
    parts = parts_of(data, 1.0, seed=0)
    np.testing.assert_array_equal(parts.codes, codes)
    np.testing.assert_array_equal(parts.train, np.flatnonzero(codes == 0))
    np.testing.assert_array_equal(rows_without_labels(data), parts.train)
    data.labels = np.where(np.arange(36) % 2, data.labels, -1)
    fewer = parts_of(data, 1.0, seed=0)
    np.testing.assert_array_equal(
        fewer.learnt, np.flatnonzero((codes == 0) & (np.arange(36) % 2 == 1))
    )
    np.testing.assert_array_equal(fewer.train, parts.train)
    data.labels = np.where(codes == 0, -1, 0)
    with pytest.raises(UserError, match="no labelled subtomogram in the training part"):
        parts_of(data, 1.0, seed=0)


def test_every_class_keeps_one_label() -> None:
    labels = np.repeat([0, 1], [40, 2])
    kept = nested_share(labels, np.arange(42), 0.05, seed=0)
    np.testing.assert_array_equal(np.bincount(labels[kept]), [2, 1])


# ---- labels


@pytest.mark.parametrize("fraction", [None, 0.5])
def test_pretraining_is_blind_to_labels(
    cubes: Path, tmp_path: Path, fraction: float | None
) -> None:
    """The pretrained weights do not depend on the labels; with a fixed split, not even where they
    are asked for.
    """
    path = tmp_path / "split.h5"
    path.write_bytes(cubes.read_bytes())
    save_split(path, np.array([0, 0, 0, 1, 2, 0] * 6, dtype=np.int8))
    found = []
    for name, labels in (("true", None), ("wrong", np.arange(36) // 12)):
        trainer, run, data = start(Moco, path, tmp_path / name, label_fraction=fraction, **QUICK)
        data.labels = data.labels if labels is None else labels
        trainer.fit({"data": data}, run)
        found.append(run.load("pretraining")[0])  # type: ignore[index]
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], rtol=0, atol=0)


def test_both_phases_in_one_run(cubes: Path, tmp_path: Path) -> None:
    options = {"label_fraction": 0.5, "epochs": 3, "fine_tune_epochs": 12, "fine_tune_batch": 8}
    trainer, run, data = start(Simclr, cubes, tmp_path / "run", **options)
    fitted = trainer.fit({"data": data}, run)
    assert isinstance(fitted, ClassifierLabeller)
    labels = fitted.label(data.without_labels(), run)
    assert labels.classes == data.class_names
    parts = parts_of(data, 0.5, run.seed)
    np.testing.assert_array_equal(labels.extra["split"], parts.codes)
    held_out = np.concatenate([parts.val, parts.test])
    assert (labels.labels[held_out] == data.labels[held_out]).mean() > 0.5  # chance is a third
    table = run.read_json("tables.json")[0]
    assert [row[0] for row in table["rows"]] == [
        "fine-tuned",
        "linear probe",
        "10 nearest neighbours",
    ]
    assert table["rows"][0][2] == pytest.approx(
        (labels.labels == data.labels)[parts.test].mean(), abs=1e-4
    )
    phases = {row["phase"] for row in run.metrics()}
    assert phases == {"pretrain", "fine-tune"}
    rows = [row for row in run.metrics() if row["phase"] == "pretrain"]
    assert {"loss", "feature_std", "feature_rank", "partner_found", "neighbour_accuracy"} <= set(
        rows[0]
    )
    others = fitted.label(data.subset(np.arange(5)), run)
    assert "split" not in others.extra


def test_without_a_fraction_a_run_sorts(cubes: Path, tmp_path: Path) -> None:
    trainer, run, data = start(Simclr, cubes, tmp_path / "run")
    labels = trainer.fit({"data": data}, run).label(data, run)
    assert labels.classes[0] == "cluster1"
    assert run.read_json("model_selection.json")["k"] == [1, 2, 3, 4]
    assert all("neighbour_accuracy" not in row for row in run.metrics())
    trainer, run, data = start(Simclr, cubes, tmp_path / "many", k_max=40)
    with pytest.raises(UserError, match="only 36 volumes"):
        trainer.fit({"data": data}, run)


def test_the_best_validation_epoch_is_kept(cubes: Path, tmp_path: Path) -> None:
    trainer, run, data = start(
        Supervised, cubes, tmp_path / "run", fine_tune_epochs=8, fine_tune_batch=8
    )
    fitted = trainer.fit({"data": data}, run)
    labels = fitted.label(data, run).labels
    parts = parts_of(data, 1.0, run.seed)
    best = max(row["val_accuracy"] for row in run.metrics())
    assert (labels[parts.val] == data.labels[parts.val]).mean() == pytest.approx(best)


def test_the_same_steps_for_any_share(cubes: Path, tmp_path: Path) -> None:
    from cryoet_cssl.finetune import _batches

    trainer, run, data = start(Supervised, cubes, tmp_path / "run", fine_tune_batch=4)
    whole, quarter = (parts_of(data, fraction, 0) for fraction in (1.0, 0.25))
    drawn = {
        name: _batches(parts, trainer.config, run, 0)
        for name, parts in (("all", whole), ("few", quarter))
    }
    assert len(drawn["all"]) == len(drawn["few"])
    np.testing.assert_array_equal(torch.cat(drawn["all"]).sort()[0], whole.learnt)
    counts = np.bincount(torch.cat(drawn["few"]).numpy(), minlength=36)[quarter.learnt]
    assert counts.max() - counts.min() <= 1
    paper = Supervised.Config.from_layers("paper", {}, {"fine_tune_batch": 4})
    assert sum(map(len, _batches(quarter, paper, run, 0))) == len(quarter.learnt)


def test_a_frozen_encoder_stays(cubes: Path, tmp_path: Path) -> None:
    trainer, run, data = start(Supervised, cubes, tmp_path / "run", freeze_encoder=True, **QUICK)
    fitted = trainer.fit({"data": data}, run)
    fresh, _ = fresh_encoder(trainer.config, 12, run)
    torch.testing.assert_close(fitted.classifier.encoder.stem.weight, fresh.stem.weight)
    assert fitted.classifier.head.weight.abs().max() > 0.011


# ---- from run to run


def test_weights_go_from_run_to_run(
    cubes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    m, s = str(tmp_path / "m"), str(tmp_path / "s")
    quick = ["--data", str(cubes), "--no-report", "--quiet", "--device", "cpu"]
    assert (
        main(
            ["run", "moco", *quick, "--out", m, "--epochs", "1", "--k-max", "3", "--restarts", "1"]
        )
        == 0
    )
    few = ["--fine-tune-epochs", "1", "--label-fraction", "0.25", "--encoder", "cssl.rb3d"]
    assert main(["run", "supervised", *quick, "--out", s, "--weights", m, *few]) == 0
    capsys.readouterr()
    assert (
        main(
            [
                "run",
                "supervised",
                *quick,
                "--out",
                s + "2",
                "--weights",
                m,
                "--encoder",
                "cssl.dsrf3d",
            ]
        )
        == 2
    )
    assert "holds the encoder cssl.rb3d, not cssl.dsrf3d" in capsys.readouterr().err
    assert main(["run", "supervised", *quick, "--out", s + "3", "--weights", str(tmp_path)]) == 2
    assert "not a run folder" in capsys.readouterr().err
    # the first weights of fine-tuning are those of the other run
    from cryoet_core.runs.encoders import pretrained_encoder

    encoder, record = pretrained_encoder(m, box=12)
    assert record == {"name": "cssl.rb3d", "box": 12, "options": {"head": "pool"}}
    last = Run.open(Path(m)).load("pretraining")[0]  # type: ignore[index]
    torch.testing.assert_close(encoder.stem.weight.detach(), last["objective.encoder.stem.weight"])
    explain(cubes, s, m, tmp_path, capsys)


def test_with_labels_a_pretrained_run_is_scored_as_a_classifier(
    cubes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "both")
    quick = ["--no-report", "--device", "cpu", "--epochs", "1", "--fine-tune-epochs", "1", "--json"]
    assert (
        main(["run", "moco", "--data", str(cubes), "--label-fraction", "0.5", "--out", out, *quick])
        == 0
    )
    ran = json.loads(capsys.readouterr().out)
    assert ran["task"] == "classification"
    assert 6 <= ran["held_out"] <= 9  # a fifth of 36
    assert "matched_accuracy" not in ran
    assert main(["evaluate", out, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["accuracy"] == ran["accuracy"]
    assert again["n"] == ran["held_out"]


def explain(
    cubes: Path, classifier: str, clusters: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``cryoet explain`` on the runs of the test above: files, facts, the report, and what it
    refuses.
    """
    where = ["--data", str(cubes), "--index", "7"]
    assert (
        main(["explain", classifier, *where, "--beside", classifier, "--json", "--class", "ball"])
        == 0
    )
    facts = json.loads(capsys.readouterr().out)
    assert facts["class"] == "ball"
    assert facts["true"] == "shell"
    folder = (
        Path(facts["folder"])
        if Path(facts["folder"]).is_absolute()
        else Path.cwd() / facts["folder"]
    )
    names = {"grad-cam", "respond-cam", "grad-cam-beside", "respond-cam-beside", "volume"}
    assert {path.stem for path in folder.glob("*.mrc")} == names
    with mrcfile.open(folder / "grad-cam.mrc") as file:
        assert file.data.shape == (12, 12, 12)
        assert float(file.voxel_size.x) == pytest.approx(kit_data.VOXEL_SIZE)
        assert 0 <= file.data.min() <= file.data.max() <= 1
    assert (folder / "overlay.png").stat().st_size > 1000
    pictures = json.loads((Path(classifier) / "pictures.json").read_text())
    assert (Path(classifier) / pictures[0]["pictures"][0]["file"]).exists()
    out = str(tmp_path / "elsewhere")
    assert main(["explain", classifier, *where, "--map", "grad-cam", "--out", out]) == 0
    assert {path.name for path in Path(out).iterdir()} == {
        "volume.mrc",
        "grad-cam.mrc",
        "overlay.png",
        "explanation.json",
    }
    capsys.readouterr()
    for words, message in (
        ([classifier, "--data", str(cubes), "--index", "36"], "expected 0 to 35"),
        (
            [classifier, *where, "--map", "smooth", "--out", out + "2"],
            "expected grad-cam, respond-cam or both",
        ),
        ([classifier, *where, "--out", out], "exists already"),
        ([clusters, *where], "offers no convolution"),
    ):
        assert main(["explain", *words]) == 2
        assert message in capsys.readouterr().err


# ---- resuming


@pytest.mark.parametrize("stop", [1, 4])
def test_interrupted_pretraining_reaches_the_same_weights(
    cubes: Path, tmp_path: Path, stop: int
) -> None:
    """Stopped after some calls of ``Run.save`` in either phase; the kit does the same where no
    label is used.
    """
    options = {"label_fraction": 0.5, "epochs": 3, **QUICK}
    trainer, run, data = start(Moco, cubes, tmp_path / "whole", **options)
    whole = trainer.fit({"data": data}, run)
    trainer, run, data = start(Moco, cubes, tmp_path / "parts", **options)
    original, left = run.save, [stop]

    def save(*arguments: Any, **values: Any) -> None:
        original(*arguments, **values)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    run.save = save  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer.fit({"data": data}, run)
    run.fail("stopped")
    run = Run.resume(run.dir, config=trainer.config, quiet=True)
    again = Moco(trainer.config).fit({"data": data}, run)
    for one, other in zip(
        whole.classifier.parameters(), again.classifier.parameters(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert difference(whole.label(data, run), again.label(data, run)) is None


# ---- read-outs and monitors


def test_read_outs_find_what_is_there() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = np.eye(5)[labels] + 0.1 * generator.normal(size=(60, 5))
    for make in (linear_probe, nearest_neighbours):
        model = make(features[:30], labels[:30])
        assert accuracy_on(model, features[30:], labels[30:]) == 1
        assert accuracy_on(model, features[:0], labels[:0]) is None
    assert accuracy_on(
        linear_probe(features[:1], labels[:1]), features[:3], labels[:3]
    ) == pytest.approx(1 / 3)


@pytest.mark.parametrize("classes", [(0, 1, 2), (0, 2), (1,)])
def test_the_classifier_starts_as_the_probe(classes: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    labels = np.array(classes)[np.arange(60) % len(classes)]
    features = np.eye(5)[labels] + 0.4 * generator.normal(size=(60, 5)) + 3
    weights, biases = probe_weights(features, labels, 3)
    scores = features @ weights.T + biases
    model = linear_probe(features, labels)
    np.testing.assert_array_equal(scores.argmax(1), model.predict(features))
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    if len(classes) > 1:
        np.testing.assert_allclose(shares[:, classes], model.predict_proba(features), atol=1e-6)


def test_fine_tuning_never_ends_below_its_start(cubes: Path, tmp_path: Path) -> None:
    options = {
        "fine_tune_epochs": 3,
        "fine_tune_batch": 4,
        "fine_tune_rate": 5.0,
        "head_start": "probe",
    }  # destroys any network
    trainer, run, data = start(Supervised, cubes, tmp_path / "run", **options)
    labels = trainer.fit({"data": data}, run).label(data, run).labels
    parts = parts_of(data, 1.0, run.seed)
    encoder, _ = fresh_encoder(trainer.config, 12, run)
    features = scores_of(encoder, run.volumes(data), None, run).numpy()
    weights, biases = probe_weights(features[parts.learnt], data.labels[parts.learnt], 3)
    expected = (features @ weights.T + biases).argmax(1)
    assert (labels[parts.val] == data.labels[parts.val]).mean() >= (expected == data.labels)[
        parts.val
    ].mean()


def test_the_monitors_tell_collapse_from_spread() -> None:
    generator = torch.Generator().manual_seed(0)
    spread = feature_spread(torch.randn(500, 20, generator=generator))
    assert spread[0] == pytest.approx(1, abs=0.02)
    assert spread[1] > 17
    constant = torch.ones(500, 20) + 1e-3 * torch.randn(500, 20, generator=generator)
    assert feature_spread(constant)[0] < 0.01
    line = torch.randn(500, 1, generator=generator) * torch.ones(1, 20) + 0.01 * torch.randn(
        500, 20
    )
    assert feature_spread(line)[1] < 1.1


def test_views_grow_from_weak_to_full() -> None:
    assert [strength(done, 0.5) for done in (0.0, 0.25, 0.5, 0.9)] == pytest.approx(
        [0.1, 0.55, 1.0, 1.0]
    )
    assert strength(0.0, 0.0) == 1.0  # the published recipe


def test_what_was_left_open_is_told(cubes: Path, tmp_path: Path) -> None:
    trainer, run, data = start(Moco, cubes, tmp_path / "run", queue=None)
    trainer.fit({"data": data}, run)
    assert run.read_json("notes.json") == ["for 36 subtomograms and 4 steps: queue 9, momentum 0.0"]
    assert run.load("pretraining")[0]["objective.queue"].shape[0] == 9  # type: ignore[index]


def test_parts_know_their_training_rows() -> None:
    none = np.array([], dtype=np.int64)
    parts = Parts(np.array([0, 1, 0, 2, -1], np.int8), none, none, none, none)
    np.testing.assert_array_equal(parts.train, [0, 2])


def test_configurations_of_older_runs_are_still_read() -> None:
    now = SwavConfig.from_layers("fast")
    before = now.model_dump(mode="json") | {"epsilon": 0.05, "sinkhorn": 3, "reg_covar": 1e-5}
    assert SwavConfig.model_validate(before) == now
    with pytest.raises(ValueError, match="epsilon"):
        SwavConfig.model_validate(before | {"epsilon": 0.1})
