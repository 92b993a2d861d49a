"""``pu_picker`` as a whole: finds what a few labels show, goes on after a crash, and says what is
wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryoet_pu_picker.pu_picker import PUPickerTrainer
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from cryoet_core.picks.table import Picks
from cryoet_core.runs.run import Run
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import ArrayVolume, Tomogram, Tomograms

Start = Callable[..., Any]

# ---- a small tomogram of two kinds of blobs in wedge-filtered noise

LARGE, SMALL = 100.0, 60.0
SHAPE, VOXEL = (32, 96, 96), 10.0

QUICK = {
    "diameter": str(LARGE),
    "width": 8,
    "levels": 2,
    "features": 8,
    "iterations": 150,
    "crop": 32,
    "crop_depth": 5,
    "anchors": 128,
    "learning_rate": 3e-3,
}


def toy(seed: int, counts: tuple[int, int] = (24, 24)) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A volume and the centres in Å of its shells (100 Å wide) and balls (60 Å), which are as
    bright in total.
    """
    random = np.random.default_rng(seed)
    places: list[np.ndarray] = []
    while len(places) < sum(counts):
        place = random.uniform(4, np.array(SHAPE) - 5)
        if all(np.linalg.norm(place - other) > 11 for other in places):
            places.append(place)
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    clean = np.zeros(SHAPE)
    for index, place in enumerate(places):
        away = np.linalg.norm(grid - place, axis=-1)
        shell = np.exp(-((away - 4) ** 2) / 2)
        clean += shell if index < counts[0] else 1.3 * np.exp(-(away**2) / (2 * 2.2**2))
    noise = gaussian_filter(random.normal(size=SHAPE), 0.5)
    volume = wedge(clean + 0.5 * noise / noise.std())
    centres = np.array(places) * VOXEL
    return volume.astype(np.float32), {"shell": centres[: counts[0]], "ball": centres[counts[0] :]}


def wedge(volume: np.ndarray) -> np.ndarray:
    """What is steeper than 60 degrees about y is lost."""
    z, x = (
        np.fft.fftfreq(volume.shape[0])[:, None, None],
        np.fft.fftfreq(volume.shape[2])[None, None],
    )
    spectrum = np.fft.fftn(volume) * (np.abs(z) <= np.sqrt(3) * np.abs(x) + 1e-9)
    return np.fft.ifftn(spectrum).real


def tomogram(
    seed: int, labels: dict[str, int] | None = None, name: str = "toy"
) -> tuple[Tomogram, dict[str, Any]]:
    """A toy with the first so many centres of each kind labelled, and all centres."""
    volume, centres = toy(seed)
    picks = None
    if labels:
        kinds = np.concatenate([np.full(n, i) for i, n in enumerate(labels.values())])
        where = np.concatenate([centres[kind][:n] for kind, n in labels.items()])
        picks = Picks.of(where, name, classes=kinds, class_names=tuple(labels))
    return Tomogram(name, ArrayVolume(volume), VOXEL, picks=picks), centres


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., tuple[PUPickerTrainer, Run]]:
    """A trainer with the quick options and others, and a new run."""

    def begin(name: str = "run", seed: int = 0, **options: Any) -> tuple[PUPickerTrainer, Run]:
        config = PUPickerTrainer.Config.from_layers("fast", {}, QUICK | options)
        run = Run.create(
            "pu_picker", config, {}, tmp_path / name, seed=seed, device="cpu", quiet=True, threads=1
        )
        return PUPickerTrainer(config), run

    return begin


def data_of(*tomograms: Tomogram) -> dict[str, Tomograms]:
    return {"data": Tomograms(tomograms)}


def f1(found: np.ndarray, truth: np.ndarray, radius: float = LARGE / 2) -> float:
    """By one-to-one matching within a radius in Å."""
    near = cdist(found, truth) <= radius if len(found) else np.zeros((0, len(truth)), bool)
    rows, columns = linear_sum_assignment(~near)
    return 2 * int(near[rows, columns].sum()) / max(len(found) + len(truth), 1)


def test_finds_what_twenty_labels_show_and_not_the_other_species(start: Start) -> None:
    trainer, run = start(iterations=100)
    labelled, _ = tomogram(0, {"shell": 20})
    picker = trainer.fit(data_of(labelled), run)
    other, truth = tomogram(1)
    picks = picker.pick(other, run)
    assert picks.class_names == ("shell",)
    assert set(picks.tomograms) == {"toy"}
    assert (picks.scores > 0).all()
    assert (picks.scores < 1).all()
    assert (np.diff(picks.scores) <= 0).all()
    found = f1(picks.positions, truth["shell"])
    assert found > 0.85
    assert (cdist(picks.positions, truth["ball"]).min(1) < SMALL / 2).mean() < 0.15
    gaps = cdist(picks.positions, truth["shell"])
    hits = gaps.min(1) < LARGE / 2
    offsets = picks.positions[hits] - truth["shell"][gaps.argmin(1)[hits]]
    assert np.abs(offsets.mean(0)).max() < 5  # half a voxel
    loaded = trainer.load(run).pick(replace(other, name="again"), run)
    np.testing.assert_array_equal(loaded.positions, picks.positions)


def test_two_species_at_once(start: Start) -> None:
    trainer, run = start(diameter=f"ball={SMALL},shell={LARGE}", iterations=150)
    labelled, _ = tomogram(0, {"shell": 16, "ball": 16})
    picks = trainer.fit(data_of(labelled), run).pick(tomogram(1)[0], run)
    assert picks.class_names == ("ball", "shell")
    truth = tomogram(1)[1]
    for kind in ("ball", "shell"):
        assert f1(picks.of_class(kind).positions, truth[kind]) > 0.7
    assert (
        cdist(picks.positions, picks.positions)[~np.eye(len(picks), dtype=bool)].min()
        >= 0.6 * SMALL - 1e-6
    )


@pytest.mark.parametrize(
    ("variant", "lambda1"), [("full", 0.0), ("full", 0.1), ("no-contrast", 0.1), ("no-pu", 0.1)]
)
def test_with_and_without_each_part(start: Start, variant: str, lambda1: float) -> None:
    trainer, run = start(variant=variant, lambda1=lambda1)
    picks = trainer.fit(data_of(tomogram(0, {"shell": 24})[0]), run).pick(tomogram(1)[0], run)
    assert f1(picks.positions, tomogram(1)[1]["shell"]) > 0.6
    assert ("supervised" in run.metrics()[-1]) == (variant != "no-contrast" and lambda1 > 0)


class Stopped(BaseException):
    pass


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cryoet_pu_picker.training.EVERY", 4)
    data = data_of(tomogram(0, {"shell": 12})[0])
    trainer, whole = start("whole", iterations=18)
    trainer.fit(data, whole)
    _, parts = start("parts", iterations=18)
    for count in (1, 3, 2):  # killed while it logs or saves, at other places each time
        calls = []

        def counted(original: Any, calls: list[int] = calls, count: int = count) -> Any:
            def call(*arguments: Any, **values: Any) -> None:
                original(*arguments, **values)
                calls.append(1)
                if len(calls) == count:
                    raise Stopped

            return call

        with monkeypatch.context() as patch:
            patch.setattr(parts, "log", counted(parts.log))
            patch.setattr(parts, "save", counted(parts.save))
            with pytest.raises(Stopped):
                trainer.fit(data, parts)
    trainer.fit(data, parts)
    for name in ("training", "model"):
        one, other = whole.load(name), parts.load(name)
        assert one[1] == other[1]
        assert set(one[0]) == set(other[0])
        for key in one[0]:
            np.testing.assert_array_equal(one[0][key].numpy(), other[0][key].numpy(), err_msg=key)


def test_a_picker_of_another_version_is_refused(start: Start) -> None:
    trainer, run = start(iterations=2)
    trainer.fit(data_of(tomogram(0, {"shell": 12})[0]), run)
    tensors, state = run.load("model")
    run.save("model", {name: value for name, value in tensors.items() if name != "filters"}, state)
    with pytest.raises(UserError, match="trained by another version"):
        trainer.load(run)


def test_training_of_another_network_is_not_continued(start: Start) -> None:
    data = data_of(tomogram(0, {"shell": 12})[0])
    trainer, run = start(iterations=2)
    trainer.fit(data, run)
    tensors, state = run.load("training")
    run.save(
        "training",
        {name: value for name, value in tensors.items() if name != "network.gain"},
        state,
    )
    for path in (run.dir / "checkpoints").glob("model*"):
        path.unlink()
    with pytest.raises(UserError, match="begun by another version"):
        trainer.fit(data, run)


def test_other_voxels_and_several_tomograms(start: Start) -> None:
    """Trained on two tomograms, one of which is not labelled; picks in finer voxels are at the same
    place in Å.
    """
    trainer, run = start(iterations=150)
    labelled, _ = tomogram(0, {"shell": 20})
    unlabelled, _ = tomogram(2, name="more")
    picker = trainer.fit(data_of(labelled, unlabelled), run)
    other, truth = tomogram(1)
    coarse = picker.pick(other, run)
    fine = Tomogram("fine", ArrayVolume(doubled(other.read())), 5.0)
    picks = picker.pick(fine, run)
    assert f1(coarse.positions, truth["shell"]) > 0.6
    # Interpolated voxels are smoother, so scores differ; places must not.
    gaps = cdist(coarse.positions, picks.positions)
    assert (gaps.min(1) < 20.0).mean() > 0.8
    near = gaps.min(1) < 20.0
    offsets = coarse.positions[near] - picks.positions[gaps.argmin(1)[near]]
    assert np.abs(offsets.mean(0)).max() < 5


def doubled(volume: np.ndarray) -> np.ndarray:
    """On voxels of half the size, the first voxel in place."""
    from scipy.ndimage import zoom

    shape = [2 * n - 1 for n in volume.shape]
    return zoom(volume, [a / b for a, b in zip(shape, volume.shape, strict=True)], order=1)


# ---- what is wrong is said -----------------------------------------------------------------------


def refused(start: Start, labelled: Tomogram, **options: Any) -> str:
    trainer, run = start(**options)
    with pytest.raises(UserError) as error:
        trainer.fit(data_of(labelled), run)
    return str(error.value)


def test_bad_options_are_refused(start: Start, tmp_path: Path) -> None:
    labelled, _ = tomogram(0, {"shell": 5})
    cases = {
        "`diameter`: missing": {"diameter": ""},
        "'large' is no positive number": {"diameter": "large"},
        "no labels of a class 'shel'": {"diameter": "shel=100"},
        "did you mean shell": {"diameter": "shel=100"},
        "960 x 960 Å": {"diameter": "1000"},
        "at least 3 voxels in a diameter": {"diameter": "20"},
        "a share of 2; expected less than 1": {"prior": "2"},
        "`copies`: '-3' is no positive number": {"copies": "-3"},
    }
    for number, (message, options) in enumerate(cases.items()):
        assert message in refused(start, labelled, name=f"run{number}", **options)


def test_labels_outside_and_coarse_tomograms_are_refused(start: Start) -> None:
    labelled, _ = tomogram(0, {"shell": 5})
    outside = Picks.of(
        np.array([[0.0, 0.0, 0.0], [311.0, 5.0, 5.0]]), "toy", class_names=("shell",)
    )
    message = refused(start, replace(labelled, picks=outside), name="a")
    assert "1 of 2 labels lie outside, the first at (311, 5, 5) Å" in message
    trainer, run = start("b", iterations=2)
    picker = trainer.fit(data_of(labelled), run)
    with pytest.raises(UserError, match=r"voxels of 30 Å.*at most 15"):
        picker.pick(replace(labelled, voxel_size=30.0), run)


def test_numbers_in_a_config_file_are_taken() -> None:
    config = PUPickerTrainer.Config.from_layers(
        "fast", {"diameter": 250, "prior": 0.1, "copies": 40}
    )
    assert (config.diameter, config.prior, config.copies) == ("250", "0.1", "40")
