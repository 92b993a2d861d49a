"""Sizes of memory as text."""

from __future__ import annotations

import pytest

from cryoet_core.support.errors import UserError
from cryoet_core.support.units import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1GB", 10**9),
        ("1GiB", 2**30),
        ("1.5 g", 1_500_000_000),
        ("500M", 5 * 10**8),
        ("4096", 4096),
        (7, 7),
        ("2kb", 2000),
    ],
)
def test_sizes_are_read(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "0", "0.0GB", "-1GB", "GB", "1XB", "1 GB extra", "1e9", "inf"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="no size of memory"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1_310_720_000, "1.31 GB"), (5e15, "5000 TB")]
)
def test_sizes_are_written(size: float, text: str) -> None:
    assert format_size(size) == text
