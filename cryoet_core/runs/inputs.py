"""The data sets that a run is given.

They are opened, checked for what the method can use, and stripped of what it may not see.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import TomogramOptions, Tomograms

if TYPE_CHECKING:
    from cryoet_core.plugins.interfaces import InputSpec, Trainer
    from cryoet_core.store import Subtomograms

    Opened: TypeAlias = Subtomograms | Tomograms

SAME_VOXELS = 0.02
"""Voxel sizes that differ by less than this fraction count as equal."""

PICKS = "picks"
"""An input of every method that takes tomograms: files with the known particle centres."""


def takes_tomograms(trainer: type[Trainer]) -> bool:
    """Whether any input is of tomograms; then ``TomogramOptions`` say how they are read."""
    return any(spec.kind == "tomograms" for spec in trainer.inputs.values())


def open_inputs(
    trainer: type[Trainer],
    inputs: Mapping[str, Sequence[Path]],
    reading: TomogramOptions | Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Open every input of a trainer, with its labels.

    Parameters
    ----------
    trainer : type of Trainer
        The method.
    inputs : mapping of str to sequence of Path
        Files by the name of the input; ``picks`` are the known particles of tomograms.
    reading : TomogramOptions or mapping, optional
        What the user says of tomograms that their files do not (``contrast``, ``voxel_size``,
        ``tilt_range``).

    Returns
    -------
    dict
        Opened data sets by the name of the input.

    Raises
    ------
    UserError
        An input is missing, unknown or unfit.
    """
    names = [*trainer.inputs, *([PICKS] if takes_tomograms(trainer) else [])]
    unknown = sorted(set(inputs) - set(names))
    if unknown:
        raise UserError(
            f"`{unknown[0]}`: {trainer.name} takes {', '.join(f'`{name}`' for name in names)}"
        )
    how = replace(reading_of(reading), picks=tuple(Path(path) for path in inputs.get(PICKS, ())))
    opened = {}
    for name, spec in trainer.inputs.items():
        if inputs.get(name):
            opened[name] = open_input(name, spec, inputs[name], reading=how)
        elif spec.required:
            raise UserError(f"`{name}`: missing; {trainer.name} needs it: {spec.help}")
    return opened


def open_input(
    name: str,
    spec: InputSpec,
    paths: Sequence[Path],
    *,
    labels_required: bool = True,
    reading: TomogramOptions | Mapping[str, Any] | None = None,
) -> Any:
    """Open one input, several files as one data set.

    Parameters
    ----------
    name : str
        The input's name, for messages.
    spec : InputSpec
        What the trainer says of it.
    paths : sequence of Path
        Its files.
    labels_required : bool
        Refuse data without labels where the trainer requires them.
    reading : TomogramOptions or mapping, optional
        What the user says of tomograms that their files do not.

    Returns
    -------
    Subtomograms or Tomograms
        The data set.

    Raises
    ------
    UserError
        Names the option or the file.
    """
    data = _open(spec, [Path(path) for path in paths], reading_of(reading))
    if labels_required and spec.labels == "required" and not has_labels(data):
        lacks = "particle centres; give `picks`" if spec.kind == "tomograms" else "class labels"
        raise UserError(
            f"`{name}` {named(paths)}: has no {lacks}: this method learns from labelled data"
        )
    return data


def _open(spec: InputSpec, paths: list[Path], reading: TomogramOptions) -> Opened:
    if spec.kind == "tomograms":
        from cryoet_core.tomograms import open_tomograms

        return open_tomograms(paths, reading)
    from cryoet_core.store import open_subtomograms

    return open_subtomograms(paths)


def reading_of(said: TomogramOptions | Mapping[str, Any] | None) -> TomogramOptions:
    """What the user says of tomograms, as ``open_tomograms`` takes it.

    Parameters
    ----------
    said : TomogramOptions or mapping, optional
        Options by name; what is None is left to the files.

    Returns
    -------
    TomogramOptions
        The same options.

    Examples
    --------
    >>> reading_of({"contrast": "dark", "voxel_size": None, "tilt_range": [-60, 60]}).tilt_range
    (-60, 60)
    """
    if isinstance(said, TomogramOptions):
        return said
    given = {name: value for name, value in (said or {}).items() if value is not None}
    if "tilt_range" in given:
        given["tilt_range"] = tuple(given["tilt_range"])
    if PICKS in given:
        given[PICKS] = tuple(Path(path) for path in given[PICKS])
    return TomogramOptions(**given)


def given_of(reading: TomogramOptions) -> dict[str, Any]:
    """What the user says of tomograms, by name, without what is left to the files."""
    values = {part.name: getattr(reading, part.name) for part in fields(reading)}
    return {name: value for name, value in values.items() if value not in (None, ())}


def what_it_may_see(trainer: type[Trainer], data: Mapping[str, Any]) -> dict[str, Any]:
    """The data without the labels, class names and picks that the method must not see."""
    never = {name for name, spec in trainer.inputs.items() if spec.labels == "never"}
    return {name: without_labels(part) if name in never else part for name, part in data.items()}


def without_labels(data: Opened) -> Opened:
    """The data with what is known of it hidden."""
    return data.without_picks() if isinstance(data, Tomograms) else data.without_labels()


def subject_name(trainer: type[Trainer], given: Mapping[str, Any]) -> str:
    """The input whose volumes the run labels: the last one of the trainer that is given."""
    return [name for name in trainer.inputs if given.get(name) is not None][-1]


def subject_spec(trainer: Trainer) -> InputSpec:
    """What the trainer says of the input that its runs label."""
    return list(trainer.inputs.values())[-1]


def has_labels(data: Opened) -> bool:
    """Whether any volume has a class label, or any tomogram a pick."""
    if isinstance(data, Tomograms):
        return bool(data.picks is not None and len(data.picks))
    return bool((data.labels >= 0).any())


def notes(parts: Iterable[Opened]) -> list[str]:
    """What was assumed when tomograms were opened, each line once."""
    return list(
        dict.fromkeys(note for part in parts if isinstance(part, Tomograms) for note in part.notes)
    )


def named(paths: Sequence[Path]) -> str:
    """``a.h5``, or ``a.h5 and 3 more``."""
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
