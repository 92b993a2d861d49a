"""The conformance kit on ``template_matching``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cryoet_core.testing import conformance


@pytest.mark.parametrize("check", conformance("template_matching"))
def test_conformance(check: Callable[[], None]) -> None:
    check()
