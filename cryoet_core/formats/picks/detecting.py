"""Recognise the format of a pick file, by its content and, where that does not tell, its name."""

from __future__ import annotations

import re
from pathlib import Path

from cryoet_core.formats.columns import looks_like_csv
from cryoet_core.formats.em import has_codes
from cryoet_core.formats.picks.dialects.av3 import is_motive_list
from cryoet_core.formats.picks.dialects.copick import RUNS
from cryoet_core.formats.picks.dialects.imod import MAGIC
from cryoet_core.formats.picks.store_file import is_picks
from cryoet_core.formats.picks.text import cells_of
from cryoet_core.formats.sniff import describe
from cryoet_core.formats.stack import first_bytes, plain_file, size_of
from cryoet_core.support.errors import UserError

_HEAD = 1 << 16
_EXPECTED = (
    "a star, .tbl, .mod, .coords, .cbox, .box, JSON, .ndjson, a motive list or a table "
    "with x, y and z"
)
_XML = {
    "<ParticleList": "a particle list of PyTom, which is not read; expected a star, which PyTom "
    "writes too",
    "<TiltSeries": "a tilt series of Warp, without picks; expected a star of its particles",
}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ENDINGS = (".gz", ".bz2", ".xz")


def detect_dialect(path: Path | str) -> str:
    """Recognise the dialect of a pick file.

    Parameters
    ----------
    path : Path | str
        A file, or the folder of a copick project.

    Returns
    -------
    str
        The dialect.

    Raises
    ------
    UserError
        Says what the file is, where it holds no picks that are read here.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; expected picks")
    found = _folder(path) if path.is_dir() else _file(path)
    if found is None:
        raise UserError(f"{path}: {describe(path)}; expected picks ({_EXPECTED})")
    return found


def _folder(path: Path) -> str | None:
    return "copick" if (path / RUNS).is_dir() else None


def _file(path: Path) -> str | None:
    try:
        start = first_bytes(path, _HEAD)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or error}; expected a file that can be read"
        ) from error
    if not start.strip():
        raise UserError(f"{path}: the file is empty; expected picks")
    if start.startswith(MAGIC):
        return "imod"
    if start.startswith(_HDF5):
        return "cryoet" if is_picks(path) else None
    if has_codes(start):
        with plain_file(path) as file:
            return "av3" if is_motive_list(start, size_of(file)) else None
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
    if text.lstrip().startswith(("{", "[")):
        return _json(text)
    if text.lstrip().startswith("<"):
        known = next((what for tag, what in _XML.items() if tag in text), None)
        if known:
            raise UserError(f"{path}: {known}")
        return None
    if name.endswith((".csv", ".tsv")) or looks_like_csv(text):
        return "csv"
    return _numbers(name, text)


def _star(text: str) -> str:
    """The dialect of a star, of RELION's where it is of nobody else."""
    if re.search(r"^_motl_idx\b", text, re.MULTILINE):
        return "stopgap"
    if re.search(r"^_Width\b", text, re.MULTILINE) and "_CoordinateX" in text:
        return "cbox"
    optics = "data_optics" in text
    if "_rlnCenteredCoordinateXAngst" in text:
        return "relion5"
    if ".tomostar" in text and (
        not optics or re.search(r"_rlnTomoSubTomosAre2DStacks\s+1\b", text)
    ):
        return "warp"
    if optics:
        return "relion4" if "_rlnTomoName" in text else "relion31"
    return "relion31" if "_rlnOpticsGroup" in text else "relion30"


def _json(text: str) -> str | None:
    """JSON by the names in it; a large file is seen in part."""
    if re.match(r"\s*\{[^\n]*\"location\"[^\n]*\}\s*(\n|$)", text) and '"points"' not in text:
        return "portal"
    if '"boxes_3d"' in text:
        return "eman"
    return "copick" if '"points"' in text or '"pickable_objects"' in text else None


def _numbers(name: str, text: str) -> str | None:
    """Lines of numbers, by how many there are."""
    lines = [line.strip() for line in text.splitlines()]
    first = next(
        (cells_of(line) for line in lines if line and not line.startswith(("#", "%", "//"))), None
    )
    by_name = {".tbl": "dynamo", ".box": "box", ".cbox": "box", ".coords": "coords"}
    named = next((dialect for ending, dialect in by_name.items() if name.endswith(ending)), None)
    if named or first is None:
        return named or ("coords" if name.endswith(".txt") and lines else None)
    if not all(re.fullmatch(r"[-+]?[\d.]+([eE][-+]?\d+)?", cell) for cell in first[:20]):
        return None
    return "coords" if len(first) == 3 else "dynamo" if len(first) >= 26 else None
