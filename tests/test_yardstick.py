"""Clustering without learning: easy shapes are sorted, labels are reproducible, wrong data get one
line.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from cryoet_core.plugins.config import Config
from cryoet_core.runs.run import Run
from cryoet_core.store import Subtomograms, open_subtomograms, write_store
from cryoet_core.support.errors import RunError, UserError
from cryoet_core.tasks.baseline import Yardstick
from cryoet_core.testing.data import write_subtomograms


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_subtomograms(tmp_path_factory.mktemp("yardstick") / "shapes.h5", 16, per_class=40)


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Run]:
    def make(path: Path, name: str = "run", seed: int = 0) -> Run:
        return Run.create(
            "invariants",
            Config(),
            {"data": [path]},
            tmp_path / name,
            seed=seed,
            device="cpu",
            quiet=True,
        )

    return make


def seen(path: Path) -> Subtomograms:
    return open_subtomograms([path]).without_labels()


OPTIONS: dict[str, Any] = {"k_max": 6, "dimensions": 4, "restarts": 3, "max_shift": 2.0}


def test_sorts_three_shapes_and_finds_their_number(store: Path, start: Callable[..., Run]) -> None:
    run = start(store)
    fitted, selection = Yardstick.fit(seen(store), run, **OPTIONS)
    labels = fitted.label(seen(store), run)
    assert adjusted_rand_score(open_subtomograms([store]).labels, labels.labels) > 0.95
    assert selection["k"] == [2, 3, 4, 5, 6]
    assert selection["chosen"] == fitted.mixture.k == len(labels.classes)
    np.testing.assert_allclose(labels.probabilities.sum(1), 1, rtol=1e-5)
    assert labels.embedding is not None
    assert labels.embedding.shape == (120, 4)
    json.dumps(selection)


def test_saved_and_loaded_it_says_the_same(store: Path, start: Callable[..., Run]) -> None:
    run = start(store)
    fitted, _ = Yardstick.fit(seen(store), run, **OPTIONS)
    fitted.save(run, "model")
    again = Yardstick.load(run, "model")
    assert again.classes == fitted.classes
    some = seen(store).subset(np.array([7, 3, 80]))
    np.testing.assert_allclose(
        again.label(some, run).probabilities, fitted.label(some, run).probabilities, atol=1e-5
    )
    with pytest.raises(
        RunError, match=r"checkpoints/other.safetensors is missing; run the method again"
    ):
        Yardstick.load(run, "other")


def test_the_same_seed_gives_the_same_labels(store: Path, start: Callable[..., Run]) -> None:
    found = []
    for name in ("one", "two"):
        run = start(store, name)
        found.append(
            Yardstick.fit(seen(store), run, **OPTIONS)[0].label(seen(store), run).probabilities
        )
    np.testing.assert_array_equal(*found)


def test_a_few_particles_of_one_class_do_not_decide_for_all(
    tmp_path: Path, start: Callable[..., Run]
) -> None:
    """A set in the order of its classes is sorted as well as a mixed one."""
    mixed = open_subtomograms([write_subtomograms(tmp_path / "mixed.h5", 16, per_class=40)])
    order = np.argsort(mixed.labels, kind="stable")
    path = write_store(
        tmp_path / "ordered.h5", mixed.read(order), mixed.voxel_size, mixed.labels[order],
        class_names=mixed.class_names, tilt_range=mixed.tilt_range,
    )  # fmt: skip
    run = start(path)
    fitted, _ = Yardstick.fit(seen(path), run, **OPTIONS)
    assert adjusted_rand_score(mixed.labels[order], fitted.label(seen(path), run).labels) > 0.95


def test_wrong_data_are_refused(store: Path, tmp_path: Path, start: Callable[..., Run]) -> None:
    run = start(store)
    with pytest.raises(UserError, match="`k_max` 300: the data set has only 120 volumes"):
        Yardstick.fit(seen(store), run, k_max=300)
    fitted, _ = Yardstick.fit(seen(store), run, **OPTIONS)
    other = write_subtomograms(tmp_path / "other.h5", 20, per_class=2)
    with pytest.raises(
        UserError, match="trained on subtomograms of box size 16, the data set has 20"
    ):
        fitted.label(seen(other), run)
