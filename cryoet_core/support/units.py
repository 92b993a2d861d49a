"""Sizes of memory as people write them."""

from __future__ import annotations

import re

from cryoet_core.support.errors import UserError

_UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 2**10,
    "MI": 2**20,
    "GI": 2**30,
    "TI": 2**40,
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([KMGT]I?)?B?\s*", re.IGNORECASE)


def parse_size(text: str | int) -> int:
    """Read a size of memory as people write it.

    K, M, G and T are powers of 1000; Ki, Mi, Gi and Ti are powers of 1024.

    Parameters
    ----------
    text : str | int
        "1GB", "500 M", "1.5GiB", "4096".

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    UserError
        For anything else, and for nothing at all ("0").

    Examples
    --------
    >>> parse_size("1.5GiB")
    1610612736
    """
    match = _SIZE.fullmatch(str(text))
    size = int(float(match[1]) * _UNITS[(match[2] or "").upper()]) if match else 0
    if size <= 0:
        raise UserError(
            f"{text!r} is no size of memory; expected a number with a unit, such as 500MB, 4GB or "
            "1.5GiB"
        )
    return size


def format_size(size: float) -> str:
    """Write a number of bytes as a person reads it.

    Parameters
    ----------
    size : float
        Bytes.

    Returns
    -------
    str
        The size with three digits and a unit.

    Examples
    --------
    >>> format_size(1310720000)
    '1.31 GB'
    """
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"
