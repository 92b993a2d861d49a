"""Which format of picks a file has, by its content and, where that does not tell, its name."""

from __future__ import annotations

import re
from pathlib import Path

from cryoet_core.errors import UserError
from cryoet_core.io.picks.csv import looks_like_csv
from cryoet_core.io.picks.formats import DIALECTS
from cryoet_core.io.stack import first_bytes

_HEAD = 1 << 16
_ENDINGS = (".gz", ".bz2", ".xz")


def detect_dialect(path: Path | str) -> str:
    """The dialect of a pick file. UserError that says what it is where it holds no picks that are read here."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; expected picks")
    found = _folder(path) if path.is_dir() else _file(path)
    if found is None:
        from cryoet_core.io.identify import describe

        raise UserError(f"{path}: {describe(path)}; expected picks ({', '.join(DIALECTS)})")
    return found


def _folder(path: Path) -> str | None:
    return None


def _file(path: Path) -> str | None:
    try:
        start = first_bytes(path, _HEAD)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; expected a file that can be read") from error
    if not start.strip():
        raise UserError(f"{path}: the file is empty; expected picks")
    if b"\0" in start or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"):
        return None
    text = start.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    return _text(path, text)


def _text(path: Path, text: str) -> str | None:
    name = path.name.lower()
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    if re.search(r"^data_", text, re.MULTILINE) and not text.lstrip().startswith(("{", "[", "<")):
        return _star(text)
    if text.lstrip().startswith(("{", "[", "<")):
        return None
    if name.endswith((".csv", ".tsv")) or looks_like_csv(text):
        return "csv"
    return None


def _star(text: str) -> str | None:
    return "relion31"
