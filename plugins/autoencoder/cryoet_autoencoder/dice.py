"""Measure how well segmented voxels agree with the known ones.

``cryoet evaluate RUN --data TRUTH.h5`` has the mean over tomograms, ``python -m
cryoet_autoencoder.dice`` a line of JSON for each.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_autoencoder.labelfiles import FOLDER, NAMES, read_labels
from cryoet_core.support import files
from cryoet_core.support.errors import RunError, UserError
from cryoet_core.tasks.survey import file_name
from cryoet_core.tomograms import Tomogram, Tomograms, open_tomograms

MASKS = {"ids", "classes"}


def dice(found: np.ndarray, known: np.ndarray) -> float:
    """Return 2 |A and B| / (|A| + |B|) of two masks; 1 where both are empty."""
    total = int(np.count_nonzero(found)) + int(np.count_nonzero(known))
    return 2 * int(np.count_nonzero(found & known)) / total if total else 1.0


def agreement(labels: np.ndarray, tomogram: Tomogram, names: dict[int, str]) -> dict[str, Any]:
    """Compare labels with the simulated occupancy of a tomogram.

    Known foreground are the voxels in any particle (mask "ids"); of a class named as a structure,
    those of that structure (mask "classes").

    Parameters
    ----------
    labels : np.ndarray
        Labels (d, h, w), 0 background.
    tomogram : Tomogram
        The tomogram.
    names : dict[int, str]
        Name of each label.

    Returns
    -------
    dict[str, Any]
        Foreground Dice, precision and recall, and each class's Dice.

    Raises
    ------
    UserError
        Where the tomogram has no such masks or another shape.
    """
    lacking = MASKS - set(tomogram.masks)
    if lacking:
        raise UserError(
            f"{tomogram.where}: has no mask {sorted(lacking)[0]!r}; expected a simulated store"
        )
    if labels.shape != tomogram.shape:
        raise UserError(
            f"{tomogram.where}: {tomogram.shape} voxels (z, y, x), but its labels have "
            f"{labels.shape}"
        )
    whole = (slice(None), slice(None), slice(None))
    known, found = tomogram.masks["ids"].read(whole) > 0, labels > 0
    both = int(np.count_nonzero(known & found))
    facts: dict[str, Any] = {
        "foreground_dice": dice(found, known),
        "precision": both / max(int(found.sum()), 1),
        "recall": both / max(int(known.sum()), 1),
        "found_share": float(found.mean()),
        "known_share": float(known.mean()),
    }
    structures = list(tomogram.attributes.get("mask_classes", ()))
    kinds = tomogram.masks["classes"].read(whole)
    named = {number: name for number, name in names.items() if number and name in structures}
    facts["classes"] = {
        name: dice(labels == number, kinds == 1 + structures.index(name))
        for number, name in named.items()
    }
    return facts


def mean_agreement(folder: Path, truth: Tomograms) -> dict[str, float]:
    """Average over the tomograms that are segmented in ``folder`` and hold masks."""
    found = []
    for tomogram in truth:
        path = folder / FOLDER / f"{file_name(tomogram.name)}.mrc"
        if set(tomogram.masks) >= MASKS and path.exists():
            facts = agreement(read_labels(path), tomogram, names_in(folder / FOLDER))
            found.append(
                {"foreground_dice": facts["foreground_dice"]}
                | {"voxel_precision": facts["precision"], "voxel_recall": facts["recall"]}
                | {f"dice_of_{name}": value for name, value in facts["classes"].items()}
            )
    keys = dict.fromkeys(key for facts in found for key in facts)
    return {key: float(np.mean([facts[key] for facts in found if key in facts])) for key in keys}


def names_in(folder: Path) -> dict[int, str]:
    """Read the name of each label from the folder of a segmentation."""
    return {int(number): name for number, name in files.read_json(folder / NAMES).items()}


def compare(folder: Path, truth: list[Path]) -> list[dict[str, Any]]:
    """Return the agreement of every tomogram of some stores that is segmented in a run's folder.

    The folder may be that of a prediction.

    Raises
    ------
    UserError
        Where it holds no segmentation of them.
    """
    labels = folder / FOLDER if (folder / FOLDER).is_dir() else folder
    if not (labels / NAMES).exists():
        raise UserError(
            f"{folder}: holds no {FOLDER}/{NAMES}; expected the folder of a run or prediction of "
            "edss3d"
        )
    names = names_in(labels)
    rows = []
    for tomogram in open_tomograms(truth):
        path = labels / f"{file_name(tomogram.name)}.mrc"
        if path.exists():
            rows.append({"tomogram": tomogram.name} | agreement(read_labels(path), tomogram, names))
    if not rows:
        raise UserError(f"{labels}: holds the labels of none of the tomograms in {truth[0]}")
    return rows


def main() -> int:
    """Print one line of JSON per tomogram."""
    parser = argparse.ArgumentParser(prog="python -m cryoet_autoencoder.dice", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run of edss3d, or of its predictions")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="simulated stores with masks"
    )
    given = parser.parse_args()
    try:
        for row in compare(given.run, given.data):
            print(json.dumps(row))
    except (UserError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
