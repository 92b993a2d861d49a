"""Read out frozen features: a linear probe and nearest neighbours, from the same few labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from cryoet_core.runs.run import Run
from cryoet_core.runs.volumes import DeviceVolumes
from cryoet_cssl.finetune import scores_of
from cryoet_cssl.losses import unit
from cryoet_cssl.parts import Parts

NEIGHBOURS = 10
ABSENT = 20.0
"""By how much the score of a class without examples lies below those of the others at first."""
LARGEST = 1000
"""Of larger parts the monitor of an epoch looks at the first so many rows in random order."""


def linear_probe(features: np.ndarray, labels: np.ndarray) -> Any:
    """Fit a logistic regression on standardised features (n, f); the result has ``predict``.

    Where there is one class only, it predicts that.
    """
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(labels)) < 2:
        return DummyClassifier().fit(features, labels)
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(features, labels)


def probe_weights(
    features: np.ndarray, labels: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (k, f) and biases (k,) whose scores are those of a linear probe.

    A class without a row here gets a score below all others.

    Parameters
    ----------
    features : np.ndarray
        Features (n, f).
    labels : np.ndarray
        Classes (n,), 0 to k - 1.
    k : int
        Number of classes.
    """
    present = np.unique(labels)
    weights, biases = np.zeros((k, features.shape[1])), np.full(k, -ABSENT)
    biases[present] = 0.0
    if len(present) > 1:
        scaler, model = (step for _, step in linear_probe(features, labels).steps)
        coefficients, intercepts = model.coef_, model.intercept_
        if len(present) == 2:  # one score, of the second class against the first
            coefficients, intercepts = (
                np.concatenate([-part, part]) / 2 for part in (coefficients, intercepts)
            )
        weights[present] = coefficients / scaler.scale_
        biases[present] = intercepts - weights[present] @ scaler.mean_
    return weights, biases


def nearest_neighbours(features: np.ndarray, labels: np.ndarray) -> Any:
    """Fit the vote of the ten nearest by cosine, weighted by closeness."""
    from sklearn.neighbors import KNeighborsClassifier

    count = min(NEIGHBOURS, len(labels))
    return KNeighborsClassifier(count, weights="distance", metric="cosine").fit(features, labels)


def accuracy_on(model: Any, features: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the accuracy of a model, or None where there is no row.

    Parameters
    ----------
    model : Any
        Has ``predict``.
    features : np.ndarray
        Features (n, f).
    labels : np.ndarray
        Known classes (n,).
    """
    return float((model.predict(features) == labels).mean()) if len(labels) else None


def readouts(
    encoder: nn.Module, volumes: DeviceVolumes, labels: np.ndarray, parts: Parts, run: Run
) -> list[list[Any]]:
    """Return rows of the report's table: name, accuracy on the validation part, on the test part.

    Parameters
    ----------
    encoder : nn.Module
        Network from volumes (n, 1, b, b, b) to features (n, dim).
    volumes : DeviceVolumes
        Standardised volumes of the data set, for the device.
    labels : np.ndarray
        Class of each subtomogram (n,), -1 where it is unknown.
    parts : Parts
        Which rows are trained on, which choose the epoch and which only count.
    run : Run
        The run: device, random numbers, log and checkpoints.
    """
    features = {
        name: unit_features(encoder, volumes, getattr(parts, name), run)
        for name in ("learnt", "val", "test")
    }
    rows: list[list[Any]] = []
    for name, make in (
        ("linear probe", linear_probe),
        ("10 nearest neighbours", nearest_neighbours),
    ):
        model = make(features["learnt"], labels[parts.learnt])
        rows.append(
            [
                name,
                *(
                    accuracy_on(model, features[p], labels[getattr(parts, p)])
                    for p in ("val", "test")
                ),
            ]
        )
    return rows


def neighbour_accuracy(
    encoder: nn.Module, volumes: DeviceVolumes, labels: np.ndarray, parts: Parts, run: Run
) -> float | None:
    """Return the accuracy of the nearest neighbours on the validation part, for the log alone.

    It shows how far the features are; None where the validation part is empty.

    Parameters
    ----------
    encoder : nn.Module
        Network from volumes (n, 1, b, b, b) to features (n, dim).
    volumes : DeviceVolumes
        Standardised volumes of the data set, for the device.
    labels : np.ndarray
        Class of each subtomogram (n,), -1 where it is unknown.
    parts : Parts
        Which rows are trained on, which choose the epoch and which only count.
    run : Run
        The run: device, random numbers, log and checkpoints.
    """
    learnt, val = (
        np.random.default_rng(run.seed).permutation(rows)[:LARGEST]
        for rows in (parts.learnt, parts.val)
    )
    if not len(val):
        return None
    model = nearest_neighbours(unit_features(encoder, volumes, learnt, run), labels[learnt])
    return accuracy_on(model, unit_features(encoder, volumes, val, run), labels[val])


def unit_features(
    encoder: nn.Module, volumes: DeviceVolumes, rows: np.ndarray, run: Run
) -> np.ndarray:
    """Compute features (n, f) of length 1.

    Parameters
    ----------
    encoder : nn.Module
        Network from volumes (n, 1, b, b, b) to features (n, dim).
    volumes : DeviceVolumes
        Standardised volumes of the data set, for the device.
    rows : np.ndarray
        Rows of the data set.
    run : Run
        The run: device, random numbers, log and checkpoints.
    """
    if not len(rows):
        dim: Any = encoder.dim  # an int in every encoder, which torch's types do not know
        return np.empty((0, dim), np.float32)
    features: Tensor = unit(scores_of(encoder, volumes, rows, run))
    return features.numpy()
