"""What a method answers in the kit, of either task, and how two answers differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from cryoet_core.picks.table import Picks, join
from cryoet_core.plugins.interfaces import Labeller, Labels, Picker

if TYPE_CHECKING:
    from cryoet_core.runs.run import Run
    from cryoet_core.tomograms import Tomogram

Answer: TypeAlias = Labels | Picks


def answer_of(learnt: Any, data: Any, run: Run) -> Answer:
    """The labels of subtomograms, or the picks in tomograms, one after the other. TypeError when it
    gives neither.
    """
    if data.kind == "tomograms" and isinstance(learnt, Picker):
        return join([picks_of(learnt, tomogram, run) for tomogram in data])
    if data.kind == "subtomograms" and isinstance(learnt, Labeller):
        return learnt.label(data, run)
    expected = "class_names and pick()" if data.kind == "tomograms" else "classes and label()"
    raise TypeError(
        f"fit returned a {type(learnt).__name__} for {data.kind}; expected an object with "
        f"{expected}"
    )


def picks_of(learnt: Picker, tomogram: Tomogram, run: Run) -> Picks:
    """Picks in one tomogram, with a scratch folder of its own, as the core gives one."""
    kept = run.scratch
    run.scratch = kept / tomogram.name
    try:
        return learnt.pick(tomogram.without_picks(), run)
    finally:
        run.scratch = kept


def difference(a: Answer, b: Answer, tolerance: float = 1e-5) -> str | None:
    """How two answers differ, in words; None when they agree (numbers within ``tolerance`` of the
    largest).
    """
    if isinstance(a, Picks) and isinstance(b, Picks):
        return _between_picks(a, b, tolerance)
    assert isinstance(a, Labels)
    assert isinstance(b, Labels)
    return _between_labels(a, b, tolerance)


def _between_labels(a: Labels, b: Labels, tolerance: float) -> str | None:
    if a.classes != b.classes:
        return f"classes {a.classes} and {b.classes}"
    if len(a) != len(b):
        return f"{len(a)} and {len(b)} labels"
    differ = int((a.labels != b.labels).sum())
    if differ:
        return f"{differ} of {len(a)} labels differ"
    pairs = [("probabilities", a.probabilities, b.probabilities)]
    if a.embedding is not None and b.embedding is not None:
        pairs.append(("embedding", a.embedding, b.embedding))
    return _between_numbers(pairs, tolerance)


def _between_picks(a: Picks, b: Picks, tolerance: float) -> str | None:
    if a.class_names != b.class_names:
        return f"classes {a.class_names} and {b.class_names}"
    if len(a) != len(b):
        return f"{len(a)} and {len(b)} picks"
    differ = int(((a.classes != b.classes) | (a.tomograms != b.tomograms)).sum())
    if differ:
        return f"{differ} of {len(a)} picks are of another class or tomogram"
    pairs = [("positions", a.positions, b.positions), ("scores", a.scores, b.scores)]
    if a.rotations is not None and b.rotations is not None:
        pairs.append(("rotations", a.rotations, b.rotations))
    return _between_numbers(pairs, tolerance)


def _between_numbers(
    pairs: list[tuple[str, np.ndarray, np.ndarray]], tolerance: float
) -> str | None:
    for name, one, other in pairs:
        if one.shape != other.shape:
            return f"{name} of shapes {one.shape} and {other.shape}"
        largest = float(np.abs(np.nan_to_num(one) - np.nan_to_num(other)).max(initial=0.0))
        if not largest <= tolerance * max(1.0, float(np.abs(one).max(initial=0.0))):
            return f"{name} differ by up to {largest:.2g}"
    return None
