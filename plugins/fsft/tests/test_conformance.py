"""The conformance kit on the six methods."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cryoet_core.testing import conformance

METHODS = ("fsft", "fada", "deep_coral", "swd", "finetune", "source_only")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("check", conformance("fsft"), ids=lambda check: check.__name__)
def test_conformance(check: Callable[[], None], method: str) -> None:
    by_name = {bound.__name__: bound for bound in conformance(method)}
    by_name[check.__name__]()
