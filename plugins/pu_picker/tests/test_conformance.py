"""The conformance kit on ``pu_picker``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cryoet_core.testing import conformance


@pytest.mark.parametrize("check", conformance("pu_picker"))
def test_conformance(check: Callable[[], None]) -> None:
    check()
