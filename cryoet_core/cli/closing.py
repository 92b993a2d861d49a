"""The last lines of a command that ran a method: for a reader, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cryoet_core.support.errors import as_options

SCORES = (
    ("accuracy", "accuracy"),
    ("matched_accuracy", "matched accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("ari", "ARI"),
    ("nmi", "NMI"),
    ("majority", "majority baseline"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("f1", "F1"),
    ("ap", "average precision"),
    ("best_f1", "best F1 of all thresholds"),
)


def plural(count: int, noun: str, ending: str = "s") -> str:
    """A count with its noun.

    Parameters
    ----------
    count : int
        How many.
    noun : str
        What, in the singular.
    ending : str
        What makes the noun a plural.

    Returns
    -------
    str
        The words.

    Examples
    --------
    >>> plural(1, "class", "es"), plural(1200, "pick")
    ('1 class', '1,200 picks')
    """
    return f"{count:,} {noun}{'' if count == 1 else ending}"


def close(facts: Mapping[str, Any], as_json: bool) -> None:
    """Print what a run, a prediction or an evaluation ended with.

    Parameters
    ----------
    facts : mapping
        What ``session.run_method``, ``predict_run`` or ``evaluate_run`` returned.
    as_json : bool
        Print one JSON object.
    """
    from cryoet_core.cli.guard import speaks
    from cryoet_core.support.files import plain

    if not speaks():
        return
    print(json.dumps(plain(facts)) if as_json else as_options("\n".join(_lines(facts))), flush=True)


def _lines(facts: Mapping[str, Any]) -> list[str]:
    lines = [_headline(facts)]
    scores = [f"{words} {facts[key]:.3f}" for key, words in SCORES if facts.get(key) is not None]
    if scores:
        held = f" (on the {facts['held_out']} held out)" if facts.get("held_out") else ""
        lines.append(", ".join(scores) + held)
    if facts.get("measured"):
        lines.append(
            ", ".join(
                f"{name.replace('_', ' ')} {value:.3f}" for name, value in facts["measured"].items()
            )
        )
    if "wall_seconds" in facts:
        peaks = [
            f"{value / 2**30:.2f} GB ({where})"
            for where, value in facts.get("peak_memory", {}).items()
        ]
        lines.append(
            f"{facts['wall_seconds']:.1f} s"
            + (f", peak memory {', '.join(peaks)}" if peaks else "")
        )
    lines += [
        f"{key}: {facts[key]}" for key in ("run", "predictions", "picks", "report") if key in facts
    ]
    return lines


def _headline(facts: Mapping[str, Any]) -> str:
    if "accuracy" in facts and "k" not in facts:
        return (
            f"{facts['method']}: {plural(facts['n'], 'subtomogram')} of "
            f"{plural(facts['classes'], 'class', 'es')}"
        )
    if "k" not in facts:
        return _picking_headline(facts)
    unassigned = f", {facts['unassigned']} unassigned" if facts.get("unassigned") else ""
    sizes = sorted((size for size in facts.get("counts", {}).values() if size), reverse=True)
    shown = (
        f" ({', '.join(map(str, sizes[:15]))}{', ...' if len(sizes) > 15 else ''})" if sizes else ""
    )
    return (
        f"{facts['method']}: {plural(facts['n'], 'subtomogram')}, "
        f"K = {plural(facts['k'], 'class', 'es')}{shown}{unassigned}"
    )


def _picking_headline(facts: Mapping[str, Any]) -> str:
    if "tomograms" not in facts and "radius" not in facts:
        return f"{facts['method']}: {plural(facts['n_picks'], 'pick')}"
    if "tomograms" not in facts:
        counts = f"{plural(facts['n_picks'], 'pick')}, {plural(facts['n_truth'], 'particle')}"
        return f"{facts['method']}: {counts}, matched within {facts['radius']:g} Å"
    kinds = (
        [f"{name} {count}" for name, count in facts["counts"].items()]
        if len(facts["counts"]) > 1
        else []
    )
    what = plural(facts["n"], "pick") + (f" ({', '.join(kinds)})" if kinds else "")
    return f"{facts['method']}: {what} in {plural(facts['tomograms'], 'tomogram')}"
