"""What every method keeps: the conformance kit of cryoet, one test for each check."""

import pytest

from cryoet_core.testing import conformance


@pytest.mark.parametrize("check", conformance("minimal"), ids=lambda check: check.__name__)
def test_conformance(check):
    check()
