"""Open MRC and EM files, which are recognised by their content."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from cryoet_core.formats import em, mrc
from cryoet_core.formats.stack import VolumeStack, plain_file, size_of
from cryoet_core.support.errors import UserError


@lru_cache(maxsize=16)
def _opened(path: Path, modified: int) -> VolumeStack:
    with plain_file(path) as file:
        start = file.read(1024)
        if em.is_em(start, size_of(file)):
            return em.open_em(path, file)
        if em.looks_truncated(start, size_of(file)):
            raise UserError(
                f"{path}: a truncated EM file; expected as much data as its header says; copy it "
                "again"
            )
        return mrc.open_mrc(path, file)


def open_volumes(path: Path) -> VolumeStack:
    """Open an MRC or EM file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    VolumeStack
        Its volumes.

    Raises
    ------
    UserError
        With one line when it is neither, or damaged.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; expected an MRC or EM file")
    return _opened(path, path.stat().st_mtime_ns)
