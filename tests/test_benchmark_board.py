"""The leaderboard from results: means, intervals, published figures, tests, what is missing; two
results compared.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cryoet_core.benchmark.board import markdown, page, summary
from cryoet_core.benchmark.board.compare import compare
from cryoet_core.benchmark.board.intervals import mean_of
from cryoet_core.benchmark.plan import Cell, Place
from cryoet_core.benchmark.results import Results, metrics_of, metrics_of_tables, read_results
from cryoet_core.benchmark.suite import Suite
from cryoet_core.support.errors import UserError

SUITE = Suite.model_validate(
    {
        "name": "paper",
        "title": "a paper",
        "table": [
            {
                "id": "T1", "title": "accuracy <percent>", "source": "Table 1", "percent": True,
                "inputs": {"data": "cubes"},
                "axes": {"snr": ["1", "0.1"]}, "metrics": ["accuracy", "f1"], "names": ["acc", "F1"],
                "entry": [
                    {
                        "label": "first", "method": "a",
                        "published": {"accuracy": [80.5, float("nan")]}, "spread": {"accuracy": [1.5, float("nan")]},
                    },
                    {"label": "second", "method": "b"},
                    {"label": "third", "method": "c"},
                ],
            }
        ],
    }
)  # fmt: skip
TABLE = SUITE.table[0]
SCORES = {"a": (0.7, 0.8, 0.9), "b": (0.6, 0.65, 0.7)}
FACTS: dict[str, Any] = {
    "scale": "small", "seeds": 3, "data": "built-in phantoms", "measured": 6, "failed": 1, "commit": "abc", "tables": 1,
    "devices": "cpu", "date": "2026-11-21 18:00", "without_a_table": ["odd"], "methods": ["a", "b"], "seconds": 66.0,
    "origin": {"host": "here"}, "failures": {"c01": "run: it <broke>", "odd": "importing odd "
        "failed"},
}  # fmt: skip


def line(method: str, seed: int, condition: str, **more: Any) -> dict[str, Any]:
    return {
        "key": f"{method}{seed}{condition}", "method": method, "seed": seed, "status": "ok", "reason": "",
        "places": [{"what": f"paper T1 {method}, snr {condition}", "metrics": ["accuracy", "f1"]}],
        "metrics": {"accuracy": SCORES[method][seed] if method in SCORES else None, "wall_seconds": 10.0 + seed},
        "run": f"cells/{method}{seed}{condition}/run", **more,
    }  # fmt: skip


LINES = {
    found["key"]: found
    for found in (
        *(line(method, seed, "1") for method in SCORES for seed in range(3)),
        line("c", 0, "1", status="failed", reason="run: it <broke>", metrics={}),
    )
}


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> summary.Board:
    places = []
    for entry in TABLE.entry:
        for condition in TABLE.conditions():
            keys = [key for key in LINES if key[0] == entry.method and condition[0][1] == "1"]
            cells = tuple(Cell(key, entry.method, int(key[1]), "small", (), (), ()) for key in keys)
            reason = "" if cells else "not part of the scale small"
            places.append(
                Place(
                    SUITE,
                    TABLE,
                    entry,
                    condition,
                    cells,
                    reason,
                    f"cryoet benchmark --method {entry.method}",
                )
            )

    class Plan:
        pass

    Plan.places = places  # type: ignore[attr-defined]
    return summary.boards(Plan(), LINES)[0]  # type: ignore[arg-type]


def test_a_mean_has_students_interval():
    found = mean_of([1.0, 2.0, 3.0])
    assert found is not None
    assert found.value == 2.0
    assert found.half == pytest.approx(4.302652729911275 / 3**0.5)
    assert mean_of([0.4]).half is None
    assert mean_of([]) is None


def test_figures_of_a_board(board: summary.Board):
    first, second, third = board.rows
    measured = first.figures[0]
    assert measured.status == "measured"
    assert markdown.ours(board, measured, 0) == "80.0 ± 24.8"
    assert markdown.printed(board, measured) == "80.5 ± 1.5"
    assert first.figures[1].reason == "a reports no f1"
    assert first.figures[2].status == "not run"
    assert second.figures[0].printed is None
    assert (third.figures[0].status, third.figures[0].reason) == ("failed", "run: it <broke>")
    assert board.counts() == {"measured": 2, "failed": 4, "not run": 6}
    assert board.best[0] == "first"
    assert board.missing["not part of the scale small"] == [
        f"cryoet benchmark --method {name}" for name in "abc"
    ]


def test_several_may_lead():
    condition = (("snr", "1"),)
    scores = {
        name: {(condition, 0): value} for name, value in {"a": 0.5, "b": 0.75, "c": 0.75}.items()
    }
    assert summary.leader(scores) == ("b and 1 more", 0.75, 1)
    assert summary.leader(scores, lowest=True) == ("a", 0.5, 1)
    assert summary.leader({**scores, "d": {(condition, 1): 1.0}})[2] == 0


def test_tests_are_paired_and_corrected(board: summary.Board):
    from scipy.stats import ttest_rel

    (found,) = board.tests
    assert (found.first, found.second, found.n) == ("first", "second", 3)
    assert found.difference == pytest.approx(0.15)
    assert found.p == pytest.approx(ttest_rel(SCORES["a"], SCORES["b"]).pvalue)


def test_accuracy_against_cost(board: summary.Board):
    assert [(name, seconds, round(value, 1)) for name, seconds, value in summary.cost(board)] == [
        ("first", 11.0, 80.0), ("second", 11.0, 65.0),
    ]  # fmt: skip


def test_the_text(board: summary.Board):
    said = markdown.leaderboard([board], FACTS)
    assert "| method | snr 1, acc | snr 1, F1 | snr 0.1, acc | snr 0.1, F1 |" in said
    assert "| first | 80.0 ± 24.8 (paper 80.5 ± 1.5) | failed | not run | not run |" in said
    assert "* first − second: +15.0, p = " in said
    assert "    cryoet benchmark --method c" in said
    assert "no table takes: odd" in said


def test_the_page_is_complete_in_itself(board: summary.Board, tmp_path: Path):
    report = tmp_path / LINES["a01"]["run"] / "report.html"
    report.parent.mkdir(parents=True)
    report.write_text("x")
    html = page.leaderboard([board], FACTS, tmp_path)
    links = re.findall(
        r'(?:href|src)="([^"]*)"', html[html.rindex("<body") : html.rindex("</main>")]
    )
    assert set(links) == {"#paper-T1", "cells/a01/run/report.html"}
    assert "<b>80.0 ± 24.8</b>" in html
    assert "paper 80.5 ± 1.5" in html
    assert "accuracy &lt;percent&gt;" in html
    assert "it &lt;broke&gt;" in html
    assert "<broke>" not in html
    assert "importing odd failed" in html
    assert "seconds of a run" in html


def test_metrics_of_what_a_run_reports():
    facts = {
        "run": {"f1": 0.5, "name": "x", "macro": {"f1": 0.25}, "ok": True, "counts": {"a": 3}},
        "r5": {"ap": 0.75},
    }
    assert metrics_of(facts) == {"f1": 0.5, "macro.f1": 0.25, "r5.ap": 0.75}
    tables = [
        {
            "title": "Stages",
            "columns": ["stage", "way", "score"],
            "rows": [["1", 2, 0.5], ["2", 2, None], ["2", 3, 0.7]],
        }
    ]
    assert metrics_of_tables(tables) == {
        "Stages | 1, 2 | way": 2, "Stages | 1, 2 | score": 0.5, "Stages | 2, 2 | way": 2, "Stages | 2, 3 | way": 3,
        "Stages | 2, 3 | score": 0.7,
    }  # fmt: skip


def test_results_survive_a_torn_line_and_the_last_of_a_cell_counts(tmp_path: Path):
    results = Results(tmp_path)
    results.add(line("a", 0, "1", status="failed"))
    results.add(line("a", 0, "1"))
    with results.path.open("a") as file:
        file.write('{"key": "torn')
    again = Results(tmp_path)
    assert again.is_done("a01")
    again.add(line("b", 0, "1"))
    assert [json.loads(row)["key"] for row in results.path.read_text().splitlines()] == [
        "a01",
        "a01",
        "b01",
    ]
    assert set(read_results(tmp_path)) == {"a01", "b01"}


def write(path: Path, scores: dict[str, tuple[float, ...]], failed: tuple[str, ...] = ()) -> Path:
    path.mkdir()
    rows = []
    for method, values in scores.items():
        for seed, value in enumerate(values):
            made = {**line("a", 0, "1"), "key": f"{method}{seed}", "method": method, "seed": seed}
            made["places"] = [{"what": f"T1 {method}", "metrics": ["accuracy"]}]
            made |= {
                "metrics": {"accuracy": value},
                "status": "failed" if method in failed else "ok",
                "reason": "broke",
            }
            rows.append(made)
    (path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_two_results_compared(tmp_path: Path):
    before = write(
        tmp_path / "a",
        {
            "up": (0.5, 0.6, 0.7),
            "noise": (0.5, 0.6, 0.7),
            "one": (0.5,),
            "gone": (1.0,),
            "x": (1.0,),
        },
    )
    after = write(
        tmp_path / "b",
        {
            "up": (0.6, 0.71, 0.79),
            "noise": (0.7, 0.5, 0.7),
            "one": (0.6,),
            "new": (1.0,),
            "x": (1.0,),
        },
        failed=("x",),
    )
    found = compare(before, after / "results.jsonl")
    assert [change.what for change in found.changes] == ["T1 up"]
    change = found.changes[0]
    assert (change.first, change.second, change.n) == (pytest.approx(0.6), pytest.approx(0.7), 3)
    assert change.difference == pytest.approx(0.1)
    assert change.half == pytest.approx(4.302652729911275 * 0.01 / 3**0.5)
    assert [change.what for change in found.single] == ["T1 one"]
    assert found.only == {
        str(before): ["T1 gone: accuracy", "T1 x: accuracy"],
        str(after / "results.jsonl"): ["T1 new: accuracy"],
    }
    assert found.failures == {"T1 x, seed 0": f"failed in {after / 'results.jsonl'}: broke"}
    assert found.compared == 3


def test_what_is_no_result(tmp_path: Path):
    other = tmp_path / "metrics.jsonl"
    other.write_text('{"step": 1}\n')
    with pytest.raises(UserError, match="not the results of a benchmark"):
        read_results(other)
    with pytest.raises(UserError, match="no such file"):
        read_results(tmp_path / "nothing")
