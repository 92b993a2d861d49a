"""``cryoet check``: its lines and its exit code. What it checks is tested in test_testing_kit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Command = Callable[..., Any]

ASSERTION = "        assert (data.labels == -1).all() and not data.class_names\n"


def test_a_sound_method_passes(here: Command, site: Path) -> None:
    module = site / "cryoet_toy.py"
    source = module.read_text()
    module.write_text(source.replace(ASSERTION, ""))
    done = here("check", "toy", "--json")
    assert done.returncode == 0
    facts = json.loads(done.stdout)
    assert (facts["method"], facts["failed"]) == ("toy", 0)
    assert facts["passed"] == sum(check["status"] == "passed" for check in facts["checks"]) > 5


def test_a_faulty_method_fails(here: Command, site: Path) -> None:
    module = site / "cryoet_toy.py"
    module.write_text(module.read_text().replace('"how sure the labels are"', '""'))
    done = here("check", "toy")
    assert done.returncode == 1
    assert "failed" in done.stdout
    assert "sharpness" in done.stdout


def test_after_a_failed_fit_the_rest_is_one_line(here: Command, site: Path) -> None:
    module = site / "cryoet_toy.py"
    source = module.read_text()
    module.write_text(source.replace(ASSERTION, "        raise ZeroDivisionError('no luck')\n"))
    lines = here("check", "toy").stdout.splitlines()
    (failed,) = (index for index, line in enumerate(lines) if line.startswith("failed"))
    assert "no luck" in lines[failed]
    assert lines[failed + 1].startswith("skipped")
    assert lines[failed + 1].endswith("other checks: the tiny fit failed")
    assert len(lines) == failed + 3


def test_an_unknown_method(here: Command) -> None:
    done = here("check", "toi")
    assert done.returncode == 2
    assert "did you mean toy?" in done.stderr
