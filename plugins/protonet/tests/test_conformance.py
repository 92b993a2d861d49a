"""The conformance kit on ``protonet`` and ``protonet_ce``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cryoet_core.testing import conformance


@pytest.mark.parametrize("check", [*conformance("protonet"), *conformance("protonet_ce")])
def test_conformance(check: Callable[[], None]) -> None:
    check()
