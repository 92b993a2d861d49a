"""``cryoet check NAME``: the conformance checks of ``cryoet_core.testing`` on a method."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryoet_core.cli.options import JSON

if TYPE_CHECKING:
    from cryoet_core.testing import Result

COLOURS = {"passed": "green", "failed": "red", "skipped": "yellow"}


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An installed method.")],
    as_json: JSON = False,
) -> int:
    """Run the conformance checks on an installed method or encoders.

    The exit code is 1 if one fails.
    """
    from rich.console import Console
    from rich.text import Text

    from cryoet_core.testing import AFTER_A_FAILURE, iter_checks

    console = Console(stderr=as_json, highlight=False, soft_wrap=True)
    results: list[Result] = []
    useless: dict[str, int] = {}
    for result in iter_checks(name):
        results.append(result)
        if result.status == "skipped" and result.reason in AFTER_A_FAILURE:
            useless[result.reason] = useless.get(result.reason, 0) + 1
            continue
        console.print(Text(f"{result.status:8}", style=COLOURS[result.status]), Text(_line(result)))
    for reason, number in useless.items():
        checks = "1 other check" if number == 1 else f"{number} other checks"
        console.print(Text("skipped ", style=COLOURS["skipped"]), Text(f"{checks}: {reason}"))
    counts = {status: sum(result.status == status for result in results) for status in COLOURS}
    console.print(
        f"{name}: " + ", ".join(f"{number} {status}" for status, number in counts.items())
    )
    if as_json:
        facts: dict[str, Any] = {
            "method": name,
            **counts,
            "checks": [vars(result) for result in results],
        }
        print(json.dumps(facts, indent=1))
    return 1 if counts["failed"] else 0


def _line(result: Result) -> str:
    reason = f": {result.reason}" if result.reason else ""
    return f"{result.about or result.check} ({result.seconds:.1f} s){reason}"
