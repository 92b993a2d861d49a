"""Say which classes both domains have, and which target volumes are shots, held out or counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cryoet_core.runs.inputs import SAME_VOXELS
from cryoet_core.support.errors import UserError

if TYPE_CHECKING:
    from cryoet_core.store import Subtomograms

TRAIN, VAL, TEST = 0, 1, 2
DEFAULT_SHOTS = 3


@dataclass(frozen=True)
class Domains:
    """Source and target, matched by class.

    Attributes
    ----------
    classes : tuple[str, ...]
        Names that both have.
    source_rows : Tensor
        Volumes (n,) of these classes.
    source_labels : Tensor
        Their classes (n,).
    target_labels : Tensor
        Classes (m,), -1 where unknown or of a class that the source lacks.
    split : Tensor
        Codes (m,) int8: 0 shots, 1 held out, 2 the rest.
    counted : bool
        Whether shots are counted in the accuracy (protocol paper).
    notes : tuple[str, ...]
        What the user has to know.
    """

    classes: tuple[str, ...]
    source_rows: Tensor
    source_labels: Tensor
    target_labels: Tensor
    split: Tensor
    counted: bool = False
    notes: tuple[str, ...] = field(default=())

    @property
    def shots(self) -> Tensor:
        """Rows of the shots, in class order."""
        rows = (self.split == TRAIN).nonzero()[:, 0]
        rows = rows[self.target_labels[rows] >= 0]
        return rows[self.target_labels[rows].argsort(stable=True)]

    @property
    def held_out(self) -> Tensor:
        """Labelled rows that the file keeps for validation."""
        return ((self.split == VAL) & (self.target_labels >= 0)).nonzero()[:, 0]

    @property
    def scored(self) -> Tensor:
        """Labelled rows that count in the target accuracy."""
        known = self.target_labels >= 0
        return (known if self.counted else known & (self.split == TEST)).nonzero()[:, 0]

    def without_last_shot(self) -> Domains:
        """Hold out the last shot of each class that has several."""
        split, shots = self.split.clone(), self.shots
        labels = self.target_labels[shots]
        last = torch.cat((labels[1:] != labels[:-1], torch.ones(1, dtype=torch.bool)))
        several = torch.bincount(labels, minlength=len(self.classes))[labels] > 1
        split[shots[last & several]] = VAL
        return replace(self, split=split)


def match(
    source: Subtomograms,
    target: Subtomograms,
    shots: int | None,
    seed: int,
    needs_shots: bool,
    counted: bool = False,
) -> Domains:
    """Match the classes of both domains by name and choose the shots.

    Parameters
    ----------
    source : Subtomograms
        Labelled subtomograms to learn from.
    target : Subtomograms
        Subtomograms to classify.
    shots : int | None
        Shots of each class, drawn from the labelled target volumes (of the file's split "train"
        where it has one); None for all of that split, or 3 drawn ones where the file has none.
    seed : int
        Seed of the random numbers.
    needs_shots : bool
        Whether the method learns from shots.
    counted : bool, optional
        Whether shots are counted in the accuracy.

    Returns
    -------
    Domains
        The matched domains.

    Raises
    ------
    UserError
        Where the domains do not fit or labels are missing.
    """
    names = (_named(source), _named(target))
    _check_geometry(source, target, *names)
    known_source, known_target = _present(source), _present(target)
    classes = (
        tuple(name for name in known_source if name in known_target)
        if known_target
        else known_source
    )
    if not known_target and needs_shots:
        raise UserError(
            f"`target` {names[1]}: has no class labels; expected some labelled volumes of each "
            "class to learn from; "
            "label a few, or use deep_coral or swd, which need none"
        )
    if len(classes) < 2:
        raise UserError(
            f"{names[0]} and {names[1]} share {_words(classes)}; expected two classes or more with "
            "the same names in "
            f"both; source: {_words(known_source)}; target: {_words(known_target)}"
        )
    source_labels = _translated(source, classes)
    target_labels = _translated(target, classes)
    counts = np.bincount(source_labels[source_labels >= 0], minlength=len(classes))
    for name, count in zip(classes, counts, strict=True):
        if count < 2:
            raise UserError(
                f"{names[0]}: class {name!r} has one volume; expected two or more of each; add "
                "some or remove the class"
            )
    split, how = (
        np.full(len(target), TEST, np.int8),
        "the target has no labels, so its accuracy is not known",
    )
    if known_target:
        split, how = _split(target, target_labels, classes, shots, seed, names[1])
    rows = np.flatnonzero(source_labels >= 0)
    return Domains(
        classes,
        torch.from_numpy(rows),
        torch.from_numpy(source_labels[rows]),
        torch.from_numpy(target_labels),
        torch.from_numpy(split),
        counted,
        (*_missing(known_source, known_target, source, target), how),
    )


def _split(
    target: Subtomograms,
    labels: np.ndarray,
    classes: Sequence[str],
    shots: int | None,
    seed: int,
    name: str,
) -> tuple[np.ndarray, str]:
    """Codes (m,) int8 and a line that says how the shots were chosen."""
    given = (
        target.split
        if target.split is not None and ((target.split == TRAIN) & (labels >= 0)).any()
        else None
    )
    codes = (
        np.full(len(target), TEST, np.int8)
        if given is None
        else np.where(given < 0, TEST, given).astype(np.int8)
    )
    candidates = labels >= 0 if given is None else (labels >= 0) & (given == TRAIN)
    counts = np.bincount(labels[candidates], minlength=len(classes))
    where = "" if given is None else " in its split train"
    if given is not None and shots is None:
        if not counts.all():
            missing = classes[int(np.argmin(counts))]
            raise UserError(
                f"{name}: class {missing!r} has no labelled volume{where}; expected one or more of "
                "each class; "
                "split again, or give `shots` and a file without a split"
            )
        return codes, f"shots: the {int(counts.sum())} labelled volumes of the target's split train"
    wanted = shots or DEFAULT_SHOTS
    for class_name, count in zip(classes, counts, strict=True):
        if count < wanted:
            found = f"{count} labelled volume{'' if count == 1 else 's'}{where}"
            raise UserError(
                f"`shots` {wanted}: class {class_name!r} has {found} of {name}; expected {wanted} "
                "or more of each "
                "class; lower `shots` or label more"
            )
    codes[candidates] = (
        TEST if given is None else VAL
    )  # what the file says is not for testing stays so
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[candidates[order]]
    for index in range(len(classes)):
        codes[order[labels[order] == index][:wanted]] = TRAIN
    return codes, f"shots: {wanted} of each class, drawn with seed {seed}{where}"


def _translated(data: Subtomograms, classes: Sequence[str]) -> np.ndarray:
    """Labels (n,) int64 as indices into ``classes``, -1 for others."""
    table = np.array(
        [*(classes.index(n) if n in classes else -1 for n in data.class_names), -1], dtype=np.int64
    )
    translated: np.ndarray = table[data.labels]
    return translated


def _present(data: Subtomograms) -> tuple[str, ...]:
    """Names of the classes that have a volume, in alphabetical order."""
    return tuple(sorted(data.class_names[i] for i in np.unique(data.labels[data.labels >= 0])))


def _missing(
    source_names: Sequence[str],
    target_names: Sequence[str],
    source: Subtomograms,
    target: Subtomograms,
) -> list[str]:
    """Write a line for the classes that only one domain has."""
    lines = []
    if target_names:
        only_source = [name for name in source_names if name not in target_names]
        only_target = [name for name in target_names if name not in source_names]
        if only_source:
            lines.append(
                "classes of the source without a labelled target volume, left out: "
                f"{', '.join(only_source)}"
            )
        if only_target:
            count = int(
                np.isin(target.labels, [target.class_names.index(n) for n in only_target]).sum()
            )
            lines.append(
                f"classes of the target that the source lacks ({count} volumes, taken as "
                "unlabelled): "
                f"{', '.join(only_target)}"
            )
    return lines


def _check_geometry(
    source: Subtomograms, target: Subtomograms, source_name: str, target_name: str
) -> None:
    if source.box != target.box:
        raise UserError(
            f"{target_name}: boxes of {target.box} voxels, but {source_name} has {source.box}; "
            "expected equal boxes; "
            "cut or simulate one again"
        )
    if abs(target.voxel_size / source.voxel_size - 1) > SAME_VOXELS:
        raise UserError(
            f"{target_name}: voxels of {target.voxel_size:g} Å, but {source_name} has "
            f"{source.voxel_size:g} Å; "
            "expected equal voxel sizes; resample or simulate one again"
        )


def _named(data: Subtomograms) -> str:
    return (
        str(data.paths[0])
        if len(data.paths) == 1
        else f"{data.paths[0]} and {len(data.paths) - 1} more"
    )


def _words(classes: Sequence[str]) -> str:
    return (
        f"one class only ({classes[0]})" if len(classes) == 1 else ", ".join(classes) or "no class"
    )
