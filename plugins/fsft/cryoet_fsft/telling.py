"""Write what a run leaves for its report: the table of stages, maps of both domains, notes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryoet_fsft.networks import SOURCE, TARGET
from cryoet_fsft.stages import Job, encoded

SHOWN = 400
"""Volumes of each domain in a map, at most."""


def protocol_words(job: Job) -> str:
    """Say how the target accuracies of this run were taken."""
    count = len(job.domains.scored)
    if not count:
        return "no labelled target volume is left to take an accuracy from"
    if job.domains.counted:
        return (
            f"protocol paper: accuracy on all {count} labelled target volumes, shots among them, "
            "with statistics of "
            "batches of 32, best epoch of the last stage by this accuracy (optimistic)"
        )
    return (
        f"protocol held-out: accuracy on {count} labelled target volumes, none of which is a shot; "
        "running statistics, "
        "last epoch"
    )


def stage_table(job: Job, stages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the table of the target accuracy after each stage (Table 4 of FSFT)."""
    seconds = job.run.facts.get("timings", {})
    rows = [
        [
            facts["title"],
            facts["epochs"],
            facts["loss"],
            facts["accuracy"],
            seconds.get(facts["name"]),
        ]
        for facts in stages
    ]
    columns = [
        "stage",
        "epochs",
        "loss of the last epoch",
        "target accuracy",
        "seconds of training",
    ]
    return {
        "title": "Target accuracy by stage",
        "columns": columns,
        "rows": rows,
        "note": protocol_words(job),
    }


def maps(job: Job, moment: str) -> list[dict[str, Any]]:
    """Return two panels, by domain and by class, of features on their two main axes.

    The axes are those of the joint variance of both domains.
    """
    rows = [sample(len(job.domains.source_rows), job), sample(len(job.target), job)]
    labels = [job.domains.source_labels[rows[0]], job.domains.target_labels[rows[1]]]
    features = [
        encoded(job, job.source, job.domains.source_rows[rows[0]], SOURCE)[1],
        encoded(job, job.target, rows[1], TARGET)[1],
    ]
    points = plane(torch.cat(features))
    domain = np.repeat([SOURCE, TARGET], [len(part) for part in features])
    classes = torch.cat(labels).numpy()
    names = (*job.domains.classes, "not labelled")
    return [
        {"title": f"{moment}, by domain", "groups": groups(points, domain, ("source", "target"))},
        {
            "title": f"{moment}, by class",
            "groups": groups(points, np.where(classes < 0, len(names) - 1, classes), names),
        },
    ]


def sample(n: int, job: Job) -> Tensor:
    """Draw at most 400 of n rows, in order."""
    drawn = torch.randperm(n, generator=job.run.generator("map", n))[:SHOWN]
    return drawn.sort().values


def plane(features: Tensor) -> np.ndarray:
    """Return the first two principal components (n, 2) of features (n, d)."""
    centred = features.double().cpu() - features.double().cpu().mean(0)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    axes = (
        axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    )  # else the sign is the library's whim
    points: np.ndarray = (centred @ axes.T).numpy()
    return points if points.shape[1] == 2 else np.pad(points, ((0, 0), (0, 2 - points.shape[1])))


def groups(points: np.ndarray, codes: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Group points by code, without empty groups.

    Parameters
    ----------
    points : np.ndarray
        Points (n, 2).
    codes : np.ndarray
        Group of each point (n,).
    names : Sequence[str]
        Names of the groups.

    Returns
    -------
    list[dict[str, Any]]
        Name and coordinates of each group.
    """
    return [
        {
            "name": name,
            "x": points[codes == i, 0].round(4).tolist(),
            "y": points[codes == i, 1].round(4).tolist(),
        }
        for i, name in enumerate(names)
        if (codes == i).any()
    ]
