"""Compare two results of the benchmark, of two commits or machines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cryoet_core.benchmark.board.intervals import mean_of
from cryoet_core.benchmark.results import read_results

Figures = dict[tuple[str, str], dict[int, float]]
"""(table, entry and condition; metric) -> seed -> value."""


@dataclass(frozen=True)
class Change:
    """The change of a figure between two results.

    Attributes
    ----------
    what, metric : str
        The figure.
    first, second : float
        Means over the seeds that both results have.
    difference : float
        ``second`` - ``first``.
    half : float or None
        Half of the 95 % interval of the difference; None for one seed, which has no interval.
    n : int
        How many seeds.
    """

    what: str
    metric: str
    first: float
    second: float
    difference: float
    half: float | None
    n: int


@dataclass
class BenchmarkComparison:
    """What changed between two results.

    Attributes
    ----------
    changes : list of Change
        Beyond the interval.
    single : list of Change
        Differences of one seed.
    only : dict of str to list of str
        Figures that one result alone has.
    failures : dict of str to str
        Reasons of cells that failed.
    compared : int
        How many figures were compared.
    """

    changes: list[Change] = field(default_factory=list)
    single: list[Change] = field(default_factory=list)
    only: dict[str, list[str]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    compared: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return everything as it can be written to JSON."""
        return asdict(self)


def compare(first: Path, second: Path) -> BenchmarkComparison:
    """Compare figure by figure, paired by seed.

    Parameters
    ----------
    first, second : Path
        Files of results, or folders of benchmarks.

    Returns
    -------
    BenchmarkComparison
        What changed.

    Raises
    ------
    UserError
        A file is missing or is something else.
    """
    one, other = read_results(first), read_results(second)
    found = BenchmarkComparison(failures=_failures(one, other, str(first), str(second)))
    a, b = _figures(one), _figures(other)
    for path, own, its in ((str(first), a, b), (str(second), b, a)):
        names = [f"{what}: {metric}" for what, metric in own if (what, metric) not in its]
        if names:
            found.only[path] = names
    for key in (key for key in a if key in b):
        seeds = sorted(set(a[key]) & set(b[key]))
        differences = [b[key][seed] - a[key][seed] for seed in seeds]
        mean = mean_of(differences)
        if mean is None:
            continue
        found.compared += 1
        before, after = (sum(side[key][seed] for seed in seeds) / len(seeds) for side in (a, b))
        change = Change(*key, before, after, mean.value, mean.half, mean.n)
        if mean.half is None and mean.value:
            found.single.append(change)
        elif mean.half is not None and abs(mean.value) > mean.half:
            found.changes.append(change)
    return found


def _figures(lines: Mapping[str, Mapping[str, Any]]) -> Figures:
    found: Figures = defaultdict(dict)
    for line in lines.values():
        for place in line["places"]:
            for metric in place["metrics"]:
                value = line["metrics"].get(metric)
                if value is not None and line["status"] == "ok":
                    found[place["what"], metric][line["seed"]] = value
    return found


def _failures(
    one: Mapping[str, Mapping[str, Any]],
    other: Mapping[str, Mapping[str, Any]],
    first: str,
    second: str,
) -> dict[str, str]:
    """Runs that are measured in one result and failed in the other."""
    found = {}
    for good, bad, where in ((one, other, second), (other, one, first)):
        for key, line in bad.items():
            if line["status"] != "ok" and good.get(key, {}).get("status") == "ok":
                what = line["places"][0]["what"] if line["places"] else key
                found[f"{what}, seed {line['seed']}"] = f"failed in {where}: {line['reason']}"
    return found
