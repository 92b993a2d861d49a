"""Plugins: found by metadata, loaded one at a time; one that is wrong is reported and harms no
other.

Every case is a real distribution (module, METADATA, entry_points.txt) on the path of a process of
its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Install = Callable[[str, str, str], None]
Command = Callable[..., Any]

RAISES = "raise RuntimeError('the licence server\\nis away')\n"
EXITS = "import sys\nsys.exit(3)\n"
MISSPELT = "from cryoet_core import hookimpl\n\n@hookimpl\ndef cryoet_trainer():\n    return []\n"
NO_HOOK = "x = 1\n"
HOOK_FAILS = (
    "from cryoet_core import hookimpl\n\n@hookimpl\ndef cryoet_trainers():\n    return 1 / 0\n"
)
NO_CLASSES = (
    "from cryoet_core import hookimpl\n\n@hookimpl\ndef cryoet_trainers():\n    return ['bad']\n"
)
WRONG_ARGUMENT = (
    "from cryoet_core import hookimpl\n\n@hookimpl\ndef cryoet_trainers(config):\n    return []\n"
)
MISSING_MODULE = "import a_module_that_nobody_has\n"
HALF_A_TRAINER = """
from cryoet_core import hookimpl
from cryoet_core.plugins.interfaces import Trainer

class Half(Trainer):
    name = "bad"
    def fit(self, inputs, run): ...
    def load(self, run): ...

@hookimpl
def cryoet_trainers():
    return [Half]
"""

WHOLE = """
from cryoet_core import hookimpl
from cryoet_core.plugins.config import Config
from cryoet_core.plugins.interfaces import InputSpec, Trainer

class Whole(Trainer):
    name, summary, task = "bad", "whole", "clustering"
    inputs = {"data": InputSpec("subtomograms")}
    Config = Config
    def fit(self, inputs, run): ...
    def load(self, run): ...

@hookimpl
def cryoet_trainers():
    return [Whole]
"""

BROKEN = {
    "no-config": (WHOLE.replace("Config = Config", "Config = dict"), "expected a subclass of"),
    "task": (WHOLE.replace('"clustering"', '"guessing"'), "is 'guessing', expected one of"),
    "constructor": (
        WHOLE.replace("    def fit", "    def __init__(self, config): 1 / 0\n    def fit"),
        "cannot be made with default options: ZeroDivisionError",
    ),
    "prints": (WHOLE + "print('hello there')\n", "prints to standard output ('hello there')"),
    "unmarked": (WHOLE.replace("@hookimpl", ""), "its function cryoet_trainers is not marked"),
    "raises": (RAISES, "importing cryoet_bad failed: RuntimeError: the licence server is away"),
    "exits": (EXITS, "importing cryoet_bad failed: SystemExit: 3"),
    "misspelt": (MISSPELT, "unknown hook 'cryoet_trainer'"),
    "no-hook": (NO_HOOK, "returns neither a trainer nor an encoder"),
    "hook-fails": (HOOK_FAILS, "its hook cryoet_trainers raised ZeroDivisionError"),
    "no-classes": (NO_CLASSES, "returned 'bad', expected subclasses of Trainer"),
    "argument": (WRONG_ARGUMENT, "config"),
    "missing-module": (
        MISSING_MODULE,
        "ModuleNotFoundError: No module named 'a_module_that_nobody_has'",
    ),
    "half": (HALF_A_TRAINER, "its trainer Half does not define summary, task, inputs, Config"),
}


def methods(cryoet: Command, site: Path) -> dict[str, dict[str, Any]]:
    """The rows of ``cryoet methods --json`` by name; rows of one name are merged, their number is
    kept.
    """
    rows = json.loads(cryoet("methods", "--json", site=site).stdout)
    return {
        row["name"]: {**row, "rows": sum(r["name"] == row["name"] for r in rows)} for row in rows
    }


def works_as_before(cryoet: Command, site: Path) -> None:
    """The program, the list and the sound plugin are not harmed by what else is in ``site``."""
    assert "Usage" in cryoet("--help", site=site).stdout
    assert methods(cryoet, site)["toy"]["status"] == "ok"
    assert "--sharpness" in cryoet("run", "toy", "--help", site=site).stdout
    assert "throw-away toy" in cryoet("run", "--help", site=site).stdout


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_reported_and_harms_nothing(
    case: str, cryoet: Command, site: Path, install: Install
) -> None:
    source, reason = BROKEN[case]
    install("cryoet-bad", "bad", source)
    row = methods(cryoet, site)["bad"]
    assert row["status"] == "broken"
    assert reason in row["reason"]
    assert "cryoet-bad 1.0" in row["reason"]
    failed = cryoet("run", "bad", "--data", "x.h5", site=site, code=2)
    assert reason in failed.stderr
    assert failed.stderr.count("\n") == 1
    works_as_before(cryoet, site)


def test_doctor_and_benchmark_go_on_beside_broken_plugins(
    cryoet: Command, site: Path, install: Install, tmp_path: Path
) -> None:
    cases = ("no-config", "task", "constructor", "prints", "unmarked")
    for case in cases:
        install(f"cryoet-{case}", case, BROKEN[case][0])
    install("cryoet-future", "future", WHOLE)
    record = next(site.glob("cryoet_future*.dist-info")) / "METADATA"
    record.write_text(record.read_text() + "Requires-Dist: cryoet>=99\n")
    found = cryoet("doctor", "--json", site=site, cwd=tmp_path, code=None).stdout
    wrong = {row["what"]: row["found"] for row in json.loads(found) if row["state"] == "wrong"}
    for case in cases:
        assert BROKEN[case][1] in wrong[f"method {case}"]
    assert "it needs cryoet>=99" in wrong["method future"]
    planned = cryoet(
        *("benchmark", "--suite", "paper002", "--scale", "smoke", "--dry-run", "--out", "first"),
        site=site,
        cwd=tmp_path,
    )
    words = planned.stdout + planned.stderr
    assert "toy" in words
    assert "Traceback" not in words


def test_a_plugin_for_another_core_is_broken(cryoet: Command, site: Path, install: Install) -> None:
    install("cryoet-bad", "bad", WHOLE)
    assert methods(cryoet, site)["bad"]["status"] == "ok"
    record = next(site.glob("cryoet_bad*.dist-info")) / "METADATA"
    lines = record.read_text().rstrip("\n").split("\n")
    record.write_text("\n".join([*lines[:3], "Requires-Dist: cryoet>=99", *lines[3:]]) + "\n")
    row = methods(cryoet, site)["bad"]
    assert row["status"] == "broken"
    assert "it needs cryoet>=99, but this is" in row["reason"]
    works_as_before(cryoet, site)


def test_two_plugins_of_one_name_are_both_named(
    cryoet: Command, site: Path, install: Install, toy_source: str
) -> None:
    for distribution in ("cryoet-one", "cryoet-two"):
        install(distribution, "same", toy_source.replace('"toy"', '"same"'))
    row = methods(cryoet, site)["same"]
    assert (row["status"], row["rows"]) == ("duplicate", 2)
    failed = cryoet("run", "same", "--data", "x.h5", site=site, code=2)
    for words in (failed.stderr, row["reason"]):
        assert "cryoet-one 1.0" in words
        assert "cryoet-two 1.0" in words
    works_as_before(cryoet, site)


def test_a_name_that_differs_from_the_entry_point_is_refused(
    cryoet: Command, site: Path, install: Install, toy_source: str
) -> None:
    install("cryoet-other", "other", toy_source)
    row = methods(cryoet, site)["other"]
    assert row["status"] == "broken"
    assert "its entry point is 'other' but its trainer is named 'toy'" in row["reason"]
    assert "'toy'" in cryoet("run", "other", "--data", "x.h5", site=site, code=2).stderr
    works_as_before(cryoet, site)


def test_an_option_that_every_run_has_makes_a_plugin_broken(
    cryoet: Command, site: Path, install: Install, toy_source: str
) -> None:
    install(
        "cryoet-clash", "clash", toy_source.replace("sharpness", "seed").replace('"toy"', '"clash"')
    )
    assert "--seed belongs to every run" in methods(cryoet, site)["clash"]["reason"]
    works_as_before(cryoet, site)


def test_an_input_named_like_an_option_makes_a_plugin_broken(
    cryoet: Command, site: Path, install: Install, toy_source: str
) -> None:
    install(
        "cryoet-clash", "clash", toy_source.replace('{"data"', '{"out"').replace('"toy"', '"clash"')
    )
    assert "its input 'out'" in methods(cryoet, site)["clash"]["reason"]
    works_as_before(cryoet, site)


def test_unknown_method_lists_close_names(cryoet: Command, site: Path) -> None:
    failed = cryoet("run", "tyo", "--data", "x.h5", site=site, code=2)
    assert "no method 'tyo'; did you mean toy?" in failed.stderr


def test_encoders_are_looked_up_by_plugin_and_name(
    cryoet: Command, site: Path, install: Install
) -> None:
    install(
        "cryoet-nets",
        "nets",
        "from cryoet_core import hookimpl\n\n@hookimpl\ndef cryoet_encoders():\n    return {'a': "
        "dict, 'b': list}\n",
    )
    row = methods(cryoet, site)["nets"]
    assert (row["status"], row["encoders"]) == ("ok", ["a", "b"])
    assert (
        "gives encoders but no method to run: a, b"
        in cryoet("run", "nets", "--data", "x", site=site, code=2).stderr
    )


def test_load_encoder(site: Path, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    from cryoet_core.plugins.discovery import load_encoder
    from cryoet_core.support.errors import UserError

    install(
        "cryoet-lenses",
        "lenses",
        "from cryoet_core import hookimpl\n\n@hookimpl\ndef cryoet_encoders():\n    return {'a': "
        "dict}\n",
    )
    monkeypatch.syspath_prepend(str(site))
    assert load_encoder("lenses.a") is dict
    for name, message in [
        ("lenses.b", "has no encoder 'b'; known: a"),
        ("lenses", "expected plugin.name"),
        ("lense.a", "did you mean lenses"),
    ]:
        with pytest.raises(UserError, match=message):
            load_encoder(name)


def test_the_hooks_are_those_of_the_documentation() -> None:
    from cryoet_core.plugins import hookspecs

    assert [name for name in vars(hookspecs) if name.startswith("cryoet_")] == [
        "cryoet_trainers",
        "cryoet_encoders",
    ]


def test_help_imports_no_plugin(cryoet: Command, site: Path, install: Install) -> None:
    install("cryoet-loud", "loud", "print('imported')\n")
    assert "imported" not in cryoet("--help", site=site).stdout
    assert "imported" not in cryoet("run", "--help", site=site).stdout
    assert "imported" not in cryoet("run", "toy", "--help", site=site).stdout
