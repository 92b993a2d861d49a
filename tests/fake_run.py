"""Makes a run folder as a clustering or classification method would leave it, for the tests of the
report.

``python tests/fake_run.py OUT [N]`` makes one to look at and writes its report.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryoet_core.algorithms.averages import class_averages, write_averages
from cryoet_core.algorithms.fourier import apply_filter, wedge_mask
from cryoet_core.algorithms.transforms import random_rotations, rotate
from cryoet_core.evaluation.metrics import clustering_report
from cryoet_core.plugins.interfaces import Labels
from cryoet_core.runs import runfolder
from cryoet_core.runs.predictions import write_predictions
from cryoet_core.runs.runfolder import RunFolder
from cryoet_core.runs.volumes import DeviceVolumes
from cryoet_core.store import open_subtomograms, write_store
from cryoet_core.support import files, provenance

NAMES = (
    "ribosome",
    "proteasome 26S",
    "GroEL",
    "thermosome <T>",
    "ferritin",
    "apoferritin & shell",
    "actin piece",
)
TILTS = (-60.0, 60.0)


class Record(RunFolder):
    """What ``write_predictions`` asks of a run."""

    rank = 0


def make_data(
    path: Path, n: int, classes: int, box: int, seed: int = 0, labelled: bool = True
) -> Path:
    """A store of n bodies of blobs, rotated at random, with noise behind a missing wedge."""
    generator = torch.Generator().manual_seed(seed)
    labels = (
        torch.randint(0, classes, (n,), generator=generator)
        if n > classes
        else torch.arange(n) % classes
    )
    bodies = torch.cat([_body(box, torch.Generator().manual_seed(100 + i)) for i in range(classes)])
    volumes = np.empty((n, box, box, box), np.float16)
    for start in range(0, n, 500):
        part = slice(start, start + 500)
        turned = rotate(bodies[labels[part]], random_rotations(len(labels[part]), generator))
        noise = torch.randn(turned.shape, generator=generator) * turned.std() * 2.0
        volumes[part] = apply_filter(turned + noise, wedge_mask(box, TILTS))[:, 0].numpy()
    known = labels.numpy() if labelled else None
    names = [
        NAMES[i % len(NAMES)] + (f" {i // len(NAMES) + 1}" if i >= len(NAMES) else "")
        for i in range(classes)
    ]
    facts: dict[str, Any] = {"class_names": names} if labelled else {}
    return write_store(path, volumes, 12.0, known, tilt_range=TILTS, snr=0.1, **facts)


def _body(box: int, generator: torch.Generator) -> torch.Tensor:
    line = torch.arange(box) - box // 2
    grid = torch.stack(torch.meshgrid(line, line, line, indexing="ij"))
    count = int(torch.randint(3, 12, (1,), generator=generator))
    centres = torch.randn(count, 3, generator=generator) * box / 8
    blobs = [
        torch.exp(-(grid - c[:, None, None, None]).square().sum(0) / (2 * (box / 14) ** 2))
        for c in centres
    ]
    return torch.stack(blobs).sum(0)[None, None]


def make_run(
    folder: Path,
    data_path: Path,
    method: str = "disca",
    clusters: int | None = None,
    wrong: float = 0.1,
    classifies: bool = False,
    artefacts: tuple[str, ...] = (
        "metrics",
        "selection",
        "averages",
        "notes",
        "yardsticks",
        "embedding",
    ),
    config: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
) -> Path:
    """A finished run: clusters follow the classes but for a share ``wrong``; a surplus cluster
    splits a class.
    """
    rng = np.random.default_rng(1)
    data = open_subtomograms([data_path])
    classes = len(data.class_names) or 4
    k = clusters or classes
    truth = np.where(data.labels >= 0, data.labels, rng.integers(0, classes, len(data)))
    labels = _labels(data, truth, k, wrong, classifies, "embedding" in artefacts, rng)
    record = {
        "format": "cryoet run", "version": 1, "method": method, "preset": "fast", "seed": 3,
        "inputs": {"data": [str(data_path)]},
        "options": {"device": "auto", "devices": 1, "precision": "auto", "max_memory": 2**30, "threads": None},
        "config": config or {"width": 16, "min_k": 2, "max_k": 15, "learning_rate": 1e-3, "init": "invariants"},
    }  # fmt: skip
    closing: dict[str, Any] = {
        "status": "done", "started": "2025-06-03T14:02:11+0200", "finished": "2025-06-03T14:05:02+0200", "resumed": 0,
        "wall_seconds": 171.3,
        "timings": {"fit": 150.2, "features": 61.0, "mixture": 22.4, "training": 64.5, "label": 6.1},
        "peak_memory": {"host": 1_320_000_000}, "processes": 1,
        "provenance": provenance.collect(torch.device("cpu")),
        "fingerprints": {"data": [provenance.fingerprint(data_path)]},
    }  # fmt: skip
    runfolder.make(folder, method, record, closing | (facts or {}))
    write_predictions(Record(folder, record), labels, data)  # type: ignore[arg-type]
    _leave(folder, artefacts, data, labels, truth, k, rng)
    return folder


def _labels(
    data: Any,
    truth: np.ndarray,
    k: int,
    wrong: float,
    classifies: bool,
    embedded: bool,
    rng: np.random.Generator,
) -> Labels:
    split = np.where(
        (truth == 0) & (rng.random(len(truth)) < 0.4) & (k > truth.max() + 1), k - 1, truth
    )
    named = np.where(rng.random(len(truth)) < wrong, rng.integers(0, k, len(truth)), split) % k
    order = np.arange(k) if classifies else np.random.default_rng(7).permutation(k)
    given = order[named]
    centres = rng.normal(size=(k, 16)) * 1.1
    embedding = centres[given] + rng.normal(size=(len(given), 16))
    distance = ((embedding[:, None] - centres) ** 2).sum(-1)
    weights = np.exp(-0.5 * (distance - distance.min(1, keepdims=True)) * 0.25)
    weights[np.arange(len(given)), given] += 0.2 * weights.max(1)
    posterior = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    classes = tuple(data.class_names) if classifies else tuple(f"cluster_{i:02d}" for i in range(k))
    return Labels(
        given.astype(np.int64),
        posterior,
        classes,
        embedding.astype(np.float32) if embedded else None,
    )


def _leave(
    folder: Path,
    artefacts: tuple[str, ...],
    data: Any,
    labels: Labels,
    truth: np.ndarray,
    k: int,
    rng: Any,
) -> None:
    if "metrics" in artefacts:
        steps = np.arange(12)
        rows = [
            {"step": int(i), "ddbi": 1.4 * np.exp(-i / 4) + 0.3 + 0.04 * rng.normal(),
             "loss": 1.6 * np.exp(-i / 3) + 0.2, "k": int(max(k, 9 - i)),
             "agreement": None if i == 0 else min(1.0, 0.5 + i / 18)}
            for i in steps
        ]  # fmt: skip
        lines = "".join(f"{json.dumps(files.plain(row))}\n" for row in rows)
        (folder / "metrics.jsonl").write_text(lines)
    if "selection" in artefacts:
        ks = list(range(2, 16))
        bic = [1.0e5 + 900 * (i - k) ** 2 * (2 if i < k else 0.6) for i in ks]
        files.write_json(folder / "model_selection.json", {"k": ks, "bic": bic, "chosen": k})
    if "averages" in artefacts:
        found = class_averages(
            DeviceVolumes(data), labels.labels, len(labels.classes), tilt_range=TILTS
        )
        write_averages(folder / "averages", found, labels.classes, data.voxel_size)
    if "notes" in artefacts:
        files.write_json(
            folder / "notes.json", ["Two clusters share a class; see the confusion matrix."]
        )
    if "yardsticks" in artefacts:
        other = np.where(rng.random(len(truth)) < 0.2, rng.integers(0, k, len(truth)), truth)
        files.write_json(
            folder / "yardsticks.json",
            {"invariants": clustering_report(truth, other, data.class_names)},
        )


if __name__ == "__main__":
    from cryoet_core.report import write_report

    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    print(write_report(make_run(out / "run", make_data(out / "fake.h5", count, 5, 32), clusters=6)))
