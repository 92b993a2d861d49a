"""``disca`` as a whole: easy sets are sorted, in one process as in two, and what goes wrong is
said.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryoet_disca.config import DiscaConfig
from cryoet_disca.disca import Disca
from cryoet_disca.iteration import Clustering, Rounds, cluster, collapse

from cryoet_core.cli.main import main
from cryoet_core.evaluation.metrics import clustering_report
from cryoet_core.runs.inputs import open_inputs, what_it_may_see
from cryoet_core.runs.predictions import read_predictions
from cryoet_core.runs.run import Run
from cryoet_core.simulate.generation import write_subtomograms
from cryoet_core.simulate.settings import SimulationSettings
from cryoet_core.simulate.shapes.phantoms import PHANTOMS, load_phantom
from cryoet_core.store import Subtomograms, open_subtomograms

TINY = {
    "k_max": 6,
    "iterations": 2,
    "width": 4,
    "blocks": 3,
    "features": 32,
    "components": 5,
    "restarts": 2,
}


@pytest.fixture(scope="module")
def easy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 cubes of three unlike phantoms without noise to speak of."""
    path = tmp_path_factory.mktemp("easy") / "easy.h5"
    names = ("double-ring-c7", "icosahedral-shell", "filament")
    assert set(names) <= set(PHANTOMS)
    settings = SimulationSettings(per_class=30, box=24, voxel_size=16.0, snr=100.0, ctf=False)
    write_subtomograms(path, [load_phantom(name, 16.0) for name in names], settings)
    return path


def start(path: Path, out: Path, seed: int = 0, **options: Any) -> tuple[Disca, Run, Subtomograms]:
    config = DiscaConfig.from_layers("fast", {}, TINY | options)
    run = Run.create("disca", config, {"data": [path]}, out, seed=seed, device="cpu", quiet=True)
    return Disca(config), run, what_it_may_see(Disca, open_inputs(Disca, {"data": [path]}))["data"]


def accuracy(path: Path, labels: np.ndarray) -> float:
    data = open_subtomograms([path])
    return float(clustering_report(data.labels, labels, data.class_names)["matched_accuracy"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"refine": False},
        {"refine": False, "join_invariants": False},
        {"refine": False, "loss": "hinge"},
    ],
    ids=["refined", "unrefined", "network alone", "hinge"],
)
def test_sorts_three_phantoms(easy: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    trainer, run, data = start(easy, tmp_path / "run", **options)
    labels = trainer.fit({"data": data}, run).label(data, run)
    assert accuracy(easy, labels.labels) > 0.9
    chosen = run.read_json("model_selection.json")
    assert chosen["k"] == [2, 3, 4, 5, 6]
    rows = [row for row in run.metrics() if "ddbi" in row]
    assert [row["step"] for row in rows] == list(range(len(rows)))
    assert rows[0]["agreement"] is None
    assert ("rotations" in labels.extra) == options.get("refine", True)
    assert isinstance(run.read_json("notes.json"), list)


def test_random_start_and_the_same_seed_twice(easy: Path, tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        trainer, run, data = start(easy, tmp_path / name, seed=3, init="random", refine=False)
        found.append(trainer.fit({"data": data}, run).label(data, run))
    np.testing.assert_array_equal(found[0].labels, found[1].labels)
    np.testing.assert_array_equal(found[0].probabilities, found[1].probabilities)


def fitted_round(
    easy: Path, out: Path
) -> tuple[Clustering, Rounds, Callable[[], tuple[Clustering, float | None]], Run]:
    """The first clustering, and a function that clusters again after ``rounds`` was changed."""
    from cryoet_disca.features import described
    from cryoet_disca.yopo import Yopo

    from cryoet_core.algorithms.centring import Centring
    from cryoet_core.algorithms.descriptors import Invariants

    trainer, run, data = start(easy, out)
    volumes = run.volumes(data)
    centring = Centring.fit(lambda: volumes.batches(64), data.box, 0.0, "cpu")
    invariants = Invariants(data.box, data.tilt_range)
    blocks = described(invariants, centring, volumes)
    rounds = Rounds(Yopo(4, 3, 32, 2))

    def again() -> tuple[Clustering, float | None]:
        return cluster(rounds, volumes, invariants, blocks, centring, trainer.config, run)

    first, agreement = again()
    assert agreement is None
    return first, rounds, again, run


def test_matching_restores_the_numbers_of_the_last_round(easy: Path, tmp_path: Path) -> None:
    first, rounds, again, _ = fitted_round(easy, tmp_path / "run")
    k = first.mixture.k
    rounds.labels, rounds.k = (first.labels + 1) % k, k
    second, agreement = again()
    assert agreement == 1.0
    assert torch.equal(second.labels, rounds.labels)
    assert torch.equal(second.mixture.predict(second.points), rounds.labels)


def test_another_number_of_clusters_is_not_compared(easy: Path, tmp_path: Path) -> None:
    first, rounds, again, _ = fitted_round(easy, tmp_path / "run")
    rounds.labels, rounds.k = torch.arange(90) % (first.mixture.k + 1), first.mixture.k + 1
    second, agreement = again()
    assert second.mixture.k == first.mixture.k
    assert agreement is None


def test_collapse_is_noticed(easy: Path, tmp_path: Path) -> None:
    first, _, _, run = fitted_round(easy, tmp_path / "run")
    config = DiscaConfig()
    assert collapse(first, config, run) is None
    labels = torch.zeros_like(first.labels)
    labels[0] = 1
    found = Clustering(first.space, first.mixture, first.points, labels, 0.1, {})
    assert collapse(found, config, run) == "one cluster took 99% of all subtomograms"
    line = torch.randn(90, 1) * torch.ones(1, 5) + 1e-3 * torch.randn(90, 5)
    flat = torch.linalg.svd(line, full_matrices=False)
    found = Clustering(first.space, first.mixture, flat.U * flat.S, first.labels, 0.1, {})
    assert collapse(found, config, run) == "the features vary along 1.0 directions only"


def test_a_collapse_ends_in_a_note(
    easy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cryoet_disca.iteration.COLLAPSED", 0.01)
    trainer, run, data = start(easy, tmp_path / "run", refine=False)
    labels = trainer.fit({"data": data}, run).label(data, run)
    notes = run.read_json("notes.json")
    assert any(
        "one cluster took" in note and "started again from other weights" in note for note in notes
    )
    assert len(labels) == 90


def test_one_process_and_two_give_the_same_labels(
    easy: Path, tmp_path: Path, cryoet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        word for key, value in TINY.items() for word in (f"--{key.replace('_', '-')}", value)
    ]
    common = ["run", "disca", "--data", easy, "--no-report", "--quiet", "--device", "cpu", *options]
    found = []
    for count in (1, 2):
        out = tmp_path / f"run{count}"
        cryoet(*common, "--devices", count, "--out", out)
        found.append(read_predictions(out).labels)
    np.testing.assert_array_equal(found[0].labels, found[1].labels)
    assert accuracy(easy, found[0].labels) > 0.9
    # predict with the finished run says of its own data what the run said
    monkeypatch.chdir(tmp_path)
    assert (
        main(
            [
                "predict",
                str(tmp_path / "run2"),
                "--data",
                str(easy),
                "--out",
                "again",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    np.testing.assert_array_equal(
        read_predictions(tmp_path / "again").labels.labels, found[1].labels
    )
    assert json.loads((tmp_path / "run2" / "run.json").read_text())["processes"] == 2


# ---- other networks ------------------------------------------------------------------------------


class Pooled(torch.nn.Module):
    """An encoder of another plugin: no batch normalisation, features of the coarse densities."""

    def __init__(self, box: int) -> None:
        super().__init__()
        self.dim = 24
        self.convolution = torch.nn.Conv3d(1, 3, 3, padding=1)
        self.box = box

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        assert volumes.shape[2:] == (self.box,) * 3
        return torch.nn.functional.adaptive_avg_pool3d(self.convolution(volumes).relu(), 2).flatten(
            1
        )


@pytest.fixture
def encoder_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "cryoet_core.runs.encoders.load_encoder", lambda name: {"other.pooled": Pooled}[name]
    )


def pretrained(folder: Path, data: Path, box: int) -> tuple[Path, Pooled]:
    """A run that has left an encoder."""
    from cryoet_core.runs.encoders import encoder_record, encoder_tensors

    torch.manual_seed(5)
    encoder = Pooled(box)
    run = Run.create("disca", DiscaConfig(), {"data": [data]}, folder, device="cpu", quiet=True)
    run.save("model", encoder_tensors(encoder), encoder_record("other.pooled", box))
    run.finish()
    return folder, encoder


@pytest.mark.usefixtures("encoder_by_name")
def test_another_encoder_and_its_weights(easy: Path, tmp_path: Path) -> None:
    folder, encoder = pretrained(tmp_path / "weights", easy, 24)
    options = {"encoder": "other.pooled", "weights": str(folder), "refine": False, "iterations": 1}
    trainer, run, data = start(easy, tmp_path / "run", **options)
    labels = trainer.fit({"data": data}, run).label(data, run)
    assert accuracy(easy, labels.labels) > 0.6
    tensors, facts = run.load("model")  # type: ignore[misc]
    assert facts["encoder"]["name"] == "other.pooled"
    # one round and no training: the network is that of the other run
    torch.testing.assert_close(
        tensors["network.convolution.weight"], encoder.convolution.weight.detach()
    )
    shutil.rmtree(folder)  # a finished run needs the other no more
    again = Disca(trainer.config).load(run).label(data, run)
    np.testing.assert_array_equal(again.labels, labels.labels)


@pytest.mark.usefixtures("encoder_by_name")
def test_a_fresh_encoder_is_trained(easy: Path, tmp_path: Path) -> None:
    trainer, run, data = start(easy, tmp_path / "run", encoder="other.pooled", refine=False)
    found = trainer.fit({"data": data}, run)
    assert found.space.network is None or isinstance(found.space.network, Pooled)
    assert isinstance(trainer._start(24, run).network, Pooled)
    losses = [row["loss"] for row in run.metrics() if row.get("loss") is not None]
    assert losses


@pytest.mark.usefixtures("encoder_by_name")
def test_an_encoder_that_pools_works_on_another_box(easy: Path, tmp_path: Path) -> None:
    folder, encoder = pretrained(tmp_path / "weights", easy, 32)
    trainer, run, data = start(
        easy, tmp_path / "run", weights=str(folder), refine=False, iterations=1
    )
    trainer.fit({"data": data}, run)
    tensors, facts = run.load("model")  # type: ignore[misc]
    assert facts["encoder"] == {"name": "other.pooled", "box": 24, "options": {}}
    torch.testing.assert_close(
        tensors["network.convolution.weight"], encoder.convolution.weight.detach()
    )
