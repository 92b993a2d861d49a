"""The benchmark table prints what was measured, and says what was not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TABLE = Path(__file__).parent.parent / "benchmarks" / "disca_table.py"


def test_markdown_of_a_few_cells(tmp_path: Path) -> None:
    cell = {"row": "plain", "set": "easy5", "snr": "0.1", "wall_seconds": 61.2}
    rows = [
        {**cell, "method": "disca", "seed": 0, "k": 5, "matched_accuracy": 1.0},
        {
            **cell,
            "method": "disca",
            "seed": 1,
            "k": 6,
            "matched_accuracy": 0.9,
            "wall_seconds": 75.0,
        },
        {
            **cell,
            "method": "invariants",
            "seed": 0,
            "k": 5,
            "matched_accuracy": 0.8,
            "wall_seconds": 4.0,
        },
    ]
    results = tmp_path / "some.jsonl"
    results.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = subprocess.run(
        [sys.executable, str(TABLE), "--markdown", "--results", str(results)],
        capture_output=True,
        text=True,
        check=True,
    )
    head, rule, *lines = done.stdout.strip().splitlines()
    assert head.count("|") == rule.count("|")
    assert len(lines) == 2
    assert all(line.count("|") == head.count("|") for line in lines)
    invariants, disca = lines
    assert "| plain | easy5 | invariants | not run | 0.800 | not run | not run |" in invariants
    assert "| 0.950 |" in disca
    assert "5,6" in disca
    assert "61-75" in disca
