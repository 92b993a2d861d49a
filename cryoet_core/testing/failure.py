"""How a check says that a rule is broken."""

from __future__ import annotations


class Failure(AssertionError):
    """The method breaks a rule; the message says which and how."""


def require(good: bool, reason: str) -> None:
    """Fail with the reason unless ``good``. (``assert`` would vanish under ``python -O``.)"""
    if not good:
        raise Failure(reason)
