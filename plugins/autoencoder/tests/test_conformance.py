"""The conformance kit on ``autoencoder`` and ``edss3d``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cryoet_core.testing import conformance


@pytest.mark.parametrize("check", conformance("autoencoder"))
def test_autoencoder(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize("check", conformance("edss3d"))
def test_edss3d(check: Callable[[], None]) -> None:
    check()
