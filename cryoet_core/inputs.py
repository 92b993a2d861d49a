"""The data sets that a run is given: open them, check that the method can use them, hide what it may not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoet_core.errors import UserError

if TYPE_CHECKING:
    from cryoet_core.interfaces import InputSpec, Trainer
    from cryoet_core.store import Subtomograms

SAME_VOXELS = 0.02
"""Voxel sizes that differ by less than this fraction count as equal."""


def open_inputs(trainer: type[Trainer], inputs: Mapping[str, Sequence[Path]]) -> dict[str, Subtomograms]:
    """Open every input of a trainer, labels and all. UserError for a missing, unknown or unfit one."""
    unknown = sorted(set(inputs) - set(trainer.inputs))
    if unknown:
        raise UserError(f"--{unknown[0]}: {trainer.name} takes {', '.join('--' + name for name in trainer.inputs)}")
    opened = {}
    for name, spec in trainer.inputs.items():
        if inputs.get(name):
            opened[name] = open_input(name, spec, inputs[name])
        elif spec.required:
            raise UserError(f"--{name}: missing; {trainer.name} needs it: {spec.help}")
    return opened


def open_input(name: str, spec: InputSpec, paths: Sequence[Path], *, labels_required: bool = True) -> Subtomograms:
    """Open one input, several files as one data set. UserError names the option or the file."""
    from cryoet_core.store import open_subtomograms

    if spec.kind != "subtomograms":
        raise UserError(f"--{name}: this method asks for {spec.kind}, which this version of cryoet cannot open")
    data = open_subtomograms([Path(path) for path in paths])
    if labels_required and spec.labels == "required" and not has_labels(data):
        raise UserError(f"--{name} {named(paths)}: has no class labels, but this method learns from labelled data")
    return data


def what_it_may_see(trainer: type[Trainer], data: Mapping[str, Subtomograms]) -> dict[str, Subtomograms]:
    """The same data, without labels and class names where the method declares that it never sees them."""
    never = {name for name, spec in trainer.inputs.items() if spec.labels == "never"}
    return {name: part.without_labels() if name in never else part for name, part in data.items()}


def subject_name(trainer: type[Trainer], given: Mapping[str, Any]) -> str:
    """The input whose volumes the run labels: the last one of the trainer that is given (data, or target)."""
    return [name for name in trainer.inputs if given.get(name) is not None][-1]


def subject_spec(trainer: Trainer) -> InputSpec:
    """What the trainer says of the input that its runs label."""
    return list(trainer.inputs.values())[-1]


def has_labels(data: Subtomograms) -> bool:
    """Whether any volume has a class label."""
    return bool((data.labels >= 0).any())


def named(paths: Sequence[Path]) -> str:
    """``a.h5``, or ``a.h5 and 3 more``."""
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


def card(data: Subtomograms) -> dict[str, Any]:
    """What later data is compared with."""
    return {"n": len(data), "box": int(data.box), "voxel_size": float(data.voxel_size)}


def differences(trained_on: Mapping[str, Any] | None, data: Subtomograms) -> list[str]:
    """In what new data differs from the data of training, one line each."""
    found = []
    if trained_on and abs(data.voxel_size / trained_on["voxel_size"] - 1) > SAME_VOXELS:
        found.append(f"voxels of {data.voxel_size:.2f} Å, but the run was trained on {trained_on['voxel_size']:.2f} Å")
    if trained_on and data.box != trained_on["box"]:
        found.append(f"boxes of {data.box}^3 voxels, but the run was trained on {trained_on['box']}^3")
    return found
