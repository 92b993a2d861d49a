"""What is this file? Told by its content, never by opening what could run code."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

from cryoet_core.formats import em, mrc
from cryoet_core.formats.columns import looks_like_csv
from cryoet_core.formats.stack import first_bytes, is_compressed, plain_file, size_of
from cryoet_core.support.errors import UserError
from cryoet_core.support.names import counted

_HEAD = 1 << 16
_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", "hdf5", "an HDF5 file"),
    (b"\x93NUMPY", "numpy", "a numpy array"),
    (b"IMODV", "model", "an IMOD model (points, no volumes)"),
    (b"II*\0", "tiff", "a TIFF image"),
    (b"MM\0*", "tiff", "a TIFF image"),
    (b"\x89PNG", "picture", "a PNG picture"),
    (b"\xff\xd8\xff", "picture", "a JPEG picture"),
    (b"%PDF", "document", "a PDF document"),
    (b"<?xml", "xml", "an XML file"),
    (b"\x7fELF", "program", "a program"),
    (b"SIMPLE  =", "fits", "a FITS image"),
)
_PICKLE = "a Python pickle, which can run code and is never opened"


def kind_of(path: Path) -> str:
    """Return "store", "numpy", "star", "volumes", "folder" or another word; see `recognise`."""
    return str(recognise(path)["kind"])


def describe(path: Path) -> str:
    """Describe a file in one phrase, such as "an MRC file of 32 x 32 x 32 voxels"."""
    try:
        return str(recognise(path)["what"])
    except UserError as error:
        return str(error).removeprefix(f"{path}: ")


def recognise(path: Path) -> dict[str, Any]:
    """Tell what a file or folder is, from its content.

    Parameters
    ----------
    path : Path
        A file or folder.

    Returns
    -------
    dict[str, Any]
        ``{"file", "kind", "what", ...}``.

    Raises
    ------
    UserError
        When there is nothing at ``path``, the file is empty or cannot be read.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    found: dict[str, Any] = {"file": str(path)}
    if path.is_dir():
        return found | _folder(path)
    found["bytes"] = path.stat().st_size
    if not found["bytes"]:
        raise UserError(f"{path}: the file is empty")
    try:
        start = first_bytes(path, _HEAD)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or error}; expected a file that can be read"
        ) from error
    except UserError as error:  # a compressed file whose beginning is damaged
        return found | {"kind": "damaged", "what": str(error).removeprefix(f"{path}: ")}
    if not start:
        raise UserError(f"{path}: the file is empty once unpacked")
    found |= _content(start, path)
    if _is_packed(path) and found["kind"] in ("hdf5", "numpy", "archive"):
        found |= {
            "kind": "packed",
            "what": f"{found['what']}, compressed as a whole; unpack it first",
        }
    return found


def _content(start: bytes, path: Path) -> dict[str, Any]:
    """Kind and phrase from the first bytes."""
    for magic, kind, what in _MAGIC:
        if start.startswith(magic):
            return (
                _hdf5(path)
                if kind == "hdf5" and not _is_packed(path)
                else {"kind": kind, "what": what}
            )
    if start.startswith(b"PK\x03\x04"):
        return _zip(path)
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        return {"kind": "pickle", "what": _PICKLE}
    if em.has_codes(start):
        with plain_file(path) as file:
            size = size_of(file)
        if em.is_em(start, size):
            return {"kind": "volumes", "what": "an EM file"}
        if em.looks_truncated(start, size):
            return {"kind": "damaged", "what": "a truncated EM file; copy it again"}
    if mrc.looks_like_mrc(start):
        return {"kind": "volumes", "what": "an MRC file"}
    if start[208:212] in (b"MAP ", b"MAP\0"):
        return {"kind": "damaged", "what": "an MRC file with a damaged header"}
    if b"mmtfVersion" in start:
        return {"kind": "structure", "what": "an MMTF structure (atoms)"}
    text = _text(start.removeprefix(b"\xef\xbb\xbf"))
    if text is None:
        return {"kind": "unknown", "what": "binary data of no format known here"}
    return _text_kind(text, path)


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return is_compressed(file.read(8))


def _text(start: bytes) -> str | None:
    """The text of the first bytes, None for binary data."""
    if b"\0" in start:
        return None
    for encoding in ("utf-8", "latin-1"):
        try:
            text = start[: len(start) - 4 if len(start) == _HEAD else None].decode(encoding)
        except UnicodeDecodeError:
            continue
        printable = sum(character.isprintable() or character.isspace() for character in text)
        return text if printable > 0.98 * len(text) else None
    return None


_TEXTS: tuple[tuple[str, str, str], ...] = (
    (r"^_atom_site\.", "structure", "an mmCIF structure (atoms)"),
    (r"^(HEADER    |ATOM  |HETATM|REMARK )", "structure", "a PDB structure (atoms)"),
    (r"^_cbox|^_EstimatedSize|^data_cryolo", "picks", "picks of crYOLO (.cbox)"),
    (r"^data_", "star", "a STAR file"),
    (r"^\[ZValue", "metadata", "SerialEM metadata (.mdoc)"),
    (r'^\s*\{(?=[\s\S]*"pickable_objects")', "copick", "the configuration of a copick project"),
    (r'^\s*\{.*"location"\s*:\s*\{', "picks", "points of the CryoET Data Portal (.ndjson)"),
    (r'"boxes_3d"\s*:', "picks", "boxes of EMAN 2 (.json)"),
    (r'"pickable_object_name"\s*:', "picks", "picks of copick (.json)"),
    (r"^\s*[\[{]", "json", "a JSON file"),
    (r"^\s*<", "xml", "an XML file"),
)


def _lists_files(header: str) -> bool:
    """Whether a table's first line names a column of files, and none of coordinates."""
    cells = {cell.strip(" \"'_").lower() for cell in re.split(r"[,;\t]", header)}
    return bool(cells & {"path", "tomogram", "file"}) and not any(
        re.match(r"x([^a-z]|$)", cell) for cell in cells
    )


def _text_kind(text: str, path: Path) -> dict[str, Any]:
    for pattern, kind, what in _TEXTS:
        if re.search(
            pattern, text, re.MULTILINE if kind in ("structure", "star", "picks", "metadata") else 0
        ):
            return {"kind": kind, "what": what}
    first = next(
        (line for line in text.splitlines() if line.strip() and not line.startswith("#")), ""
    )
    if _lists_files(first):
        return {"kind": "manifest", "what": "a manifest of tomograms"}
    if looks_like_csv(first):
        return {"kind": "picks", "what": "a table with x, y and z"}
    numbers = re.fullmatch(r"\s*(?:[-+\d.eE]+[\s,|;]*)+", first)
    columns = len(re.split(r"[\s,|;]+", first.strip()))
    if path.name.lower().removesuffix(".gz").endswith(".tbl") or (numbers and columns >= 20):
        return {"kind": "picks", "what": "a Dynamo table (particles, no volumes)"}
    if numbers or columns in (3, 4, 5):
        return {
            "kind": "picks",
            "what": f"a text table of {columns} columns (coordinates?), no volumes",
        }
    return {"kind": "text", "what": "a text file of no format known here"}


def _zip(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError):
        return {
            "kind": "damaged",
            "what": "a damaged or truncated archive (zip or .npz); copy it again",
        }
    if any(name.endswith("data.pkl") for name in names):
        return {"kind": "pickle", "what": f"a PyTorch file with {_PICKLE.removeprefix('a ')}"}
    if names and all(name.endswith(".npy") for name in names):
        return {
            "kind": "numpy",
            "what": "numpy arrays (.npz)",
            "arrays": [name.removesuffix(".npy") for name in names],
        }
    return {"kind": "archive", "what": "a zip archive"}


def _hdf5(path: Path) -> dict[str, Any]:
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            kind, ours = file.attrs.get("kind"), file.attrs.get("format") == "cryoet"
            names = sorted(file)
    except (OSError, RuntimeError, ValueError, KeyError):
        return {
            "kind": "damaged",
            "what": "a damaged or truncated HDF5 file; copy or make it again",
        }
    if ours and kind == "subtomograms":
        return {"kind": "store", "what": "a store of subtomograms"}
    if ours and kind == "tomograms":
        return {"kind": "tomograms", "what": "a store of tomograms"}
    if ours:
        return {"kind": str(kind), "what": f"{kind} that cryoet wrote"}
    return {
        "kind": "hdf5",
        "what": f"an HDF5 file of another program (holding {', '.join(names[:5])})",
    }


def _folder(path: Path) -> dict[str, Any]:
    names = {entry.name for entry in path.iterdir()}
    if names & {".zattrs", ".zgroup", "zarr.json", ".zarray"}:
        return {"kind": "zarr", "what": "a Zarr folder (OME-Zarr)"}
    if "ExperimentRuns" in names:
        return {"kind": "copick", "what": "a copick project"}
    if {"config.json", "run.json"} <= names:
        return {"kind": "run", "what": "the folder of a run"}
    return {
        "kind": "folder",
        "what": f"a folder of {counted(len(names), 'entry')}",
        "entries": len(names),
    }
