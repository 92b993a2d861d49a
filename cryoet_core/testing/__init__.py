"""The conformance kit: what every method must keep, as checks that its author runs.

    cryoet check mymethod

or in the plugin's own tests, one test for each check:

    from cryoet_core.testing import conformance

    @pytest.mark.parametrize("check", conformance("mymethod"))
    def test_conformance(check):
        check()

A trainer's ``tiny`` and ``tiny_box`` make the fits fast.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from cryoet_core.support.errors import UserError
from cryoet_core.testing.checks import CHECKS, Check
from cryoet_core.testing.encoders import check_encoder, names_of
from cryoet_core.testing.failure import Failure
from cryoet_core.testing.harness import FIT_FAILED, Skip, TrainerClass

NOT_LOADED = "the method cannot be loaded"
AFTER_A_FAILURE = (FIT_FAILED, NOT_LOADED)
"""Reasons for which all the checks that follow are skipped."""

__all__ = [
    "AFTER_A_FAILURE",
    "CHECKS",
    "Failure",
    "Result",
    "Skip",
    "conformance",
    "iter_checks",
    "run_checks",
]


@dataclass(frozen=True)
class Result:
    """What came of one check; ``reason`` is empty when it passed."""

    check: str
    about: str
    status: Literal["passed", "failed", "skipped"]
    reason: str
    seconds: float


def run_checks(name: str) -> list[Result]:
    """Run every check on an installed method. UserError when there is no such method at all."""
    return list(iter_checks(name))


def iter_checks(name: str) -> Iterator[Result]:
    """The results of ``run_checks`` one by one, as they come."""
    from cryoet_core.plugins.discovery import discover, inspect_all, load_trainer

    try:
        trainer = load_trainer(name)
    except UserError as error:
        offered = next((info.encoders for info in inspect_all() if info.name == name), ())
        if offered:
            yield from _encoder_results(name)
            return
        if name not in {info.name for info in discover()}:
            raise
        yield Result("check_name", _about(CHECKS[0]), "failed", str(error), 0.0)
        yield from (Result(c.__name__, _about(c), "skipped", NOT_LOADED, 0.0) for c in CHECKS[1:])
        return
    with tempfile.TemporaryDirectory(prefix=f"cryoet-check-{name}-") as workdir:
        yield from check_class(trainer, Path(workdir))


def _encoder_results(plugin: str) -> Iterator[Result]:
    """One result for each encoder of a plugin that has no method to run."""
    for name in names_of(plugin):

        def check(trainer: Any, workdir: Path, name: str = name) -> None:
            check_encoder(name)

        started = time.perf_counter()
        status, reason = _outcome(check, None, Path())
        about = f"The encoder {name} builds for a box and maps volumes to features soundly."
        seconds = round(time.perf_counter() - started, 3)
        yield Result("check_encoders", about, status, reason, seconds)


def check_class(trainer: TrainerClass, workdir: Path) -> Iterator[Result]:
    """Run every check on a class; when the plain fit fails, those that build on it are skipped."""
    fits = True
    for check in CHECKS:
        if not fits:
            yield Result(check.__name__, _about(check), "skipped", FIT_FAILED, 0.0)
            continue
        started = time.perf_counter()
        status, reason = _outcome(check, trainer, workdir)
        yield Result(
            check.__name__, _about(check), status, reason, round(time.perf_counter() - started, 3)
        )
        fits = check.__name__ != "check_fit" or status != "failed"


def _outcome(
    check: Check, trainer: TrainerClass | None, workdir: Path
) -> tuple[Literal["passed", "failed", "skipped"], str]:
    try:
        check(trainer, workdir)  # type: ignore[arg-type]  # encoders are checked without one
    except Skip as reason:
        return "skipped", str(reason)
    except Failure as reason:
        return "failed", str(reason)
    except Exception as error:
        return "failed", f"{type(error).__name__}: {' '.join(str(error).split())}"
    return "passed", ""


def conformance(name: str) -> list[Callable[[], None]]:
    """The checks bound to an installed method, for ``pytest.mark.parametrize``; they share
    one fit.
    """
    return [_bound(check, name) for check in CHECKS]


def _bound(check: Check, name: str) -> Callable[[], None]:
    def call() -> None:
        from cryoet_core.plugins.discovery import load_trainer

        check(load_trainer(name), Path(_workdir(name).name))

    call.__name__, call.__doc__ = check.__name__, check.__doc__
    return call


@lru_cache(maxsize=8)
def _workdir(name: str) -> tempfile.TemporaryDirectory[str]:
    """A folder that lasts as long as this process."""
    return tempfile.TemporaryDirectory(prefix=f"cryoet-check-{name}-")


def _about(check: Any) -> str:
    return str(check.__doc__).strip().splitlines()[0]
