"""The conformance kit on the four methods."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cryoet_core.testing import conformance

METHODS = ("simclr", "moco", "swav", "supervised")


@pytest.mark.parametrize("check", [check for name in METHODS for check in conformance(name)])
def test_conformance(check: Callable[[], None]) -> None:
    check()
