"""Runs from end to end: what they leave, what others may take, and one line for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from cryoet_autoencoder.autoencoder import AutoencoderTrainer
from cryoet_autoencoder.dice import compare
from cryoet_autoencoder.edss3d import Edss3dTrainer
from cryoet_autoencoder.segment import segment
from cryoet_autoencoder.segmentation_network import EncoderDecoder3D
from cryoet_autoencoder.segmenter import Segmenter

from cryoet_core.runs.encoders import pretrained_encoder
from cryoet_core.runs.predictions import read_predictions
from cryoet_core.runs.run import Run
from cryoet_core.simulate.shapes.phantoms import load_phantom
from cryoet_core.simulate.tomogram_files import write_tomograms
from cryoet_core.simulate.tomogram_settings import TomogramSettings
from cryoet_core.support.errors import UserError
from cryoet_core.tasks.session import evaluate_run, predict_run, run_method
from cryoet_core.testing import data as kit_data

BOX = 16
QUIET = {"quiet": True, "device": "cpu", "report": False}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a run of autoencoder and one of edss3d that keeps clusters of it."""
    folder = tmp_path_factory.mktemp("runs")
    kit_data.write_subtomograms(folder / "cubes.h5", BOX)
    kit_data.write_tomograms(folder / "tomograms.h5")
    options = AutoencoderTrainer.tiny | {
        "epochs": 12,
        "smoothing": 1.0,
        "width": 8,
        "batch_size": 6,
    }
    run_method("autoencoder", {"data": [folder / "cubes.h5"]}, options, out=folder / "ae", **QUIET)
    options = {k: v for k, v in Edss3dTrainer.tiny.items() if k not in ("k", "autoencoder_epochs")}
    options |= {"epochs": 16, "patience": 16, "least_volume": 0.02}
    options |= {"clusters": str(folder / "ae"), "keep": "1-4:ball"}
    run_method("edss3d", {"data": [folder / "tomograms.h5"]}, options, out=folder / "edss", **QUIET)
    return folder


def test_an_autoencoder_run_leaves_pictures_and_a_table(place: Path) -> None:
    group = json.loads((place / "ae" / "pictures.json").read_text())[0]
    files = [place / "ae" / picture["file"] for picture in group["pictures"]]
    assert len(files) == 4
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files)
    table = json.loads((place / "ae" / "tables.json").read_text())[0]
    counts = {row[0]: row[1] for row in table["rows"]}
    labels = read_predictions(place / "ae").labels
    assert counts == {
        name: int((labels.labels == i).sum()) for i, name in enumerate(labels.classes)
    }
    assert labels.embedding is not None
    assert labels.embedding.shape == (36, 6)
    assert labels.embedding.min() >= 0
    assert labels.extra["rotations"].shape == (36, 3, 3)
    rows = Run.open(place / "ae").metrics()
    assert all(0 <= row["active_units"] <= 6 for row in rows)
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_the_encoder_is_there_for_others(place: Path) -> None:
    encoder, record = pretrained_encoder(place / "ae", box=BOX, expect="autoencoder.encoder3d")
    assert record["options"] == {"width": 8, "code": 6, "bin": 2}
    tensors, _ = Run.open(place / "ae").load("model") or ({}, {})
    assert torch.equal(encoder.first.weight, tensors["encoder.first.weight"])


def test_a_segmentation_leaves_labels_on_the_tomograms_voxels(place: Path) -> None:
    folder = place / "edss" / "segmentation"
    assert json.loads((folder / "classes.json").read_text()) == {"0": "background", "1": "ball"}
    for name in kit_data.TOMOGRAMS:
        with mrcfile.open(folder / f"{name}.mrc") as file:
            assert file.data.shape == kit_data.SHAPE
            assert set(np.unique(file.data)) <= {0, 1}
            assert file.data.any()
            assert float(file.voxel_size.x) == pytest.approx(kit_data.VOXEL_SIZE)
    with mrcfile.open(folder / "subtomograms.mrcs") as file:
        assert file.data.shape == (36, BOX, BOX, BOX)
        assert file.data.any()
    titles = [
        group["title"] for group in json.loads((place / "edss" / "pictures.json").read_text())
    ]
    assert titles == ["Clusters that were kept", "Segmentation"]
    assert len(list((place / "edss" / "pictures").glob("segmentation_*.png"))) == 2


def test_predict_segments_other_tomograms_into_its_own_folder(place: Path) -> None:
    kit_data.write_tomograms(place / "other.h5", seed=5)
    facts = predict_run(
        place / "edss", [place / "other.h5"], place / "found", quiet=True, device="cpu"
    )
    assert facts["n"] > 0
    for name in kit_data.TOMOGRAMS:
        found = place / "found" / "segmentation" / f"{name}.mrc"
        assert found.exists()
        assert found.read_bytes() != (place / "edss" / "segmentation" / f"{name}.mrc").read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "`clusters`: missing; expected the folder of a run of autoencoder, or `subtomograms`"),
        ({"clusters": "edss"}, "a run of edss3d; expected one of autoencoder"),
        ({"clusters": "nowhere"}, "no such run folder"),
        ({"clusters": "ae", "keep": "9"}, "no cluster 9; there are cluster1 to cluster4"),
    ],
)
def test_what_cannot_be_gets_one_line(
    place: Path,
    tmp_path: Path,
    options: dict[str, str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    with pytest.raises(UserError, match=words):
        run_method(
            "edss3d", {"data": [place / "tomograms.h5"]}, options, out=tmp_path / "run", **QUIET
        )


def test_more_clusters_than_cubes_and_another_box(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`k` 37: the data set has only 36 subtomograms"):
        run_method(
            "autoencoder", {"data": [place / "cubes.h5"]}, {"k": 37}, out=tmp_path / "run", **QUIET
        )
    kit_data.write_subtomograms(tmp_path / "larger.h5", 20)
    with pytest.raises(
        UserError, match="trained on subtomograms of 16 voxels, the data set has 20"
    ):
        predict_run(
            place / "ae", [tmp_path / "larger.h5"], tmp_path / "out", quiet=True, device="cpu"
        )


def test_agreement_needs_masks_and_labels(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no mask 'classes'"):
        compare(place / "edss", [place / "tomograms.h5"])
    with pytest.raises(UserError, match=r"holds no segmentation/classes\.json"):
        compare(tmp_path, [place / "tomograms.h5"])


def test_evaluate_has_the_dice_where_the_occupancy_is_known(place: Path) -> None:
    voxel = kit_data.VOXEL_SIZE
    kinds = [load_phantom(name, voxel) for name in ("large-two-lobed", "tetramer-d2")]
    settings = TomogramSettings((32, 48, 48), voxel, (2, 2), snr=5.0, seed=1)
    write_tomograms(place / "simulated.h5", kinds, settings)
    facts = evaluate_run(place / "edss", [place / "simulated.h5"], quiet=True, device="cpu")
    [row] = compare(place / "edss" / "predictions" / "simulated", [place / "simulated.h5"])
    assert 0 < row["known_share"] < 1
    names = {
        "foreground_dice": "foreground_dice",
        "voxel_precision": "precision",
        "voxel_recall": "recall",
    }
    assert facts["measured"] == {name: row[key] for name, key in names.items()}
    with pytest.raises(
        UserError, match="give `particle`"
    ):  # two kinds, and picks of neither: asked for, not answered
        evaluate_run(
            place / "edss",
            [place / "simulated.h5"],
            reading={"radius": 50.0},
            quiet=True,
            device="cpu",
        )
    reading = {"particle": "tetramer-d2"}
    facts = evaluate_run(
        place / "edss", [place / "simulated.h5"], reading=reading, quiet=True, device="cpu"
    )
    assert facts["n_truth"] == 2
    assert facts["radius"] == pytest.approx(
        Edss3dTrainer(Run.open(place / "edss").config).load(Run.open(place / "edss")).radius
    )
    scores = json.loads(
        (place / "edss" / "predictions" / "simulated" / "evaluation.json").read_text()
    )
    assert scores["measured"]["foreground_dice"] == row["foreground_dice"]


def test_the_radius_is_that_of_a_ball_of_the_largest_particle() -> None:
    facts = {
        "class_names": ["a", "b"],
        "volumes": [10.0, 4 / 3 * np.pi * 27],
        "voxel_size": 5.0,
        "least_volume": 0.0,
    }
    assert Segmenter(EncoderDecoder3D(3, 2, bin=2), facts).radius == pytest.approx(3 * 2 * 5)


def test_other_subtomograms_are_segmented_as_those_of_the_run(place: Path, tmp_path: Path) -> None:
    assert segment(place / "edss", [place / "cubes.h5"], tmp_path / "labels.mrcs", "cpu") == 36
    own = mrcfile.read(place / "edss" / "segmentation" / "subtomograms.mrcs")
    np.testing.assert_array_equal(mrcfile.read(tmp_path / "labels.mrcs"), own)
    with pytest.raises(UserError, match="exists already"):
        segment(place / "edss", [place / "cubes.h5"], tmp_path / "labels.mrcs", "cpu")
    with pytest.raises(UserError, match="a run of autoencoder; expected one of edss3d"):
        segment(place / "ae", [place / "cubes.h5"], tmp_path / "new.mrcs", "cpu")
