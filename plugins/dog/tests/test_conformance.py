"""The conformance kit on ``dog``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cryoet_core.testing import conformance


@pytest.mark.parametrize("check", conformance("dog"))
def test_conformance(check: Callable[[], None]) -> None:
    check()
