"""What is this file? Told by its content, never by opening what could run code."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryoet_core.formats import em, mrc
from cryoet_core.formats.stack import first_bytes, is_compressed, plain_file, size_of
from cryoet_core.support.errors import UserError

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
    """ "store", "numpy", "star", "volumes", "folder" or another word; see ``identify``."""
    return str(identify(path, facts=False)["kind"])


def describe(path: Path) -> str:
    """One phrase: "an MRC file of 32 x 32 x 32 voxels"."""
    try:
        return str(identify(path, facts=False)["what"])
    except UserError as error:
        return str(error).removeprefix(f"{path}: ")


def identify(path: Path, *, facts: bool = True) -> dict[str, Any]:
    """``{"file", "kind", "what", ...}`` of any file or folder, with the facts of its kind.

    UserError when there is nothing at ``path``, the file is empty or cannot be read.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    found: dict[str, Any] = {"file": str(path)}
    if path.is_dir():
        found |= _folder(path)
        return found | (_facts_of(path, found["kind"]) if facts else {})
    found["bytes"] = path.stat().st_size
    if not found["bytes"]:
        raise UserError(f"{path}: the file is empty")
    try:
        start = first_bytes(path, _HEAD)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; expected a file that can be read") from error
    if not start:
        raise UserError(f"{path}: the file is empty once unpacked")
    found |= _content(start, path)
    if _is_packed(path) and found["kind"] in ("hdf5", "numpy", "archive"):
        found |= {"kind": "packed", "what": f"{found['what']}, compressed as a whole; unpack it first"}
    return found | (_facts_of(path, found["kind"]) if facts else {})


def _facts_of(path: Path, kind: str) -> dict[str, Any]:
    """What more is known of a file of a kind, or the problem that it has."""
    try:
        return _FACTS[kind](path) if kind in _FACTS else {}
    except UserError as error:
        return {"problem": str(error).removeprefix(f"{path}: ")}


def _content(start: bytes, path: Path) -> dict[str, Any]:
    """Kind and phrase from the first bytes."""
    for magic, kind, what in _MAGIC:
        if start.startswith(magic):
            return _hdf5(path) if kind == "hdf5" and not _is_packed(path) else {"kind": kind, "what": what}
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
    return bool(cells & {"path", "tomogram", "file"}) and not any(re.match(r"x([^a-z]|$)", cell) for cell in cells)


def _text_kind(text: str, path: Path) -> dict[str, Any]:
    from cryoet_core.formats.picks.dialects.csv import looks_like_csv

    for pattern, kind, what in _TEXTS:
        if re.search(pattern, text, re.MULTILINE if kind in ("structure", "star", "picks", "metadata") else 0):
            return {"kind": kind, "what": what}
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    if _lists_files(first):
        return {"kind": "manifest", "what": "a manifest of tomograms"}
    if looks_like_csv(first):
        return {"kind": "picks", "what": "a table with x, y and z"}
    numbers = re.fullmatch(r"\s*(?:[-+\d.eE]+[\s,|;]*)+", first)
    columns = len(re.split(r"[\s,|;]+", first.strip()))
    if path.name.lower().removesuffix(".gz").endswith(".tbl") or (numbers and columns >= 20):
        return {"kind": "picks", "what": "a Dynamo table (particles, no volumes)"}
    if numbers or columns in (3, 4, 5):
        return {"kind": "picks", "what": f"a text table of {columns} columns (coordinates?), no volumes"}
    return {"kind": "text", "what": "a text file of no format known here"}


def _zip(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError):
        return {"kind": "damaged", "what": "a damaged or truncated archive (zip or .npz); copy it again"}
    if any(name.endswith("data.pkl") for name in names):
        return {"kind": "pickle", "what": f"a PyTorch file with {_PICKLE.removeprefix('a ')}"}
    if names and all(name.endswith(".npy") for name in names):
        return {"kind": "numpy", "what": "numpy arrays (.npz)", "arrays": [name.removesuffix(".npy") for name in names]}
    return {"kind": "archive", "what": "a zip archive"}


def _hdf5(path: Path) -> dict[str, Any]:
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            kind, ours = file.attrs.get("kind"), file.attrs.get("format") == "cryoet"
            names = sorted(file)
    except (OSError, RuntimeError, ValueError, KeyError):
        return {"kind": "damaged", "what": "a damaged or truncated HDF5 file; copy or make it again"}
    if ours and kind == "subtomograms":
        return {"kind": "store", "what": "a store of subtomograms"}
    if ours and kind == "tomograms":
        return {"kind": "tomograms", "what": "a store of tomograms"}
    if ours:
        return {"kind": str(kind), "what": f"{kind} that cryoet wrote"}
    return {"kind": "hdf5", "what": f"an HDF5 file of another program (holding {', '.join(names[:5])})"}


def _folder(path: Path) -> dict[str, Any]:
    names = {entry.name for entry in path.iterdir()}
    if names & {".zattrs", ".zgroup", "zarr.json", ".zarray"}:
        return {"kind": "zarr", "what": "a Zarr folder (OME-Zarr)"}
    if "ExperimentRuns" in names:
        return {"kind": "copick", "what": "a copick project"}
    if {"config.json", "run.json"} <= names:
        return {"kind": "run", "what": "the folder of a run"}
    return {"kind": "folder", "what": f"a folder of {len(names)} entries", "entries": len(names)}


# ---- facts for ``data info`` ----------------------------------------------------------------------------------------


def _volume_facts(path: Path) -> dict[str, Any]:
    from cryoet_core.formats.source import Source, cube_problem
    from cryoet_core.formats.stack import open_volumes

    stack = open_volumes(path)
    source = Source.of_stacks([stack])
    shape, voxel = stack.shape, source.voxel_size
    facts: dict[str, Any] = {"format": stack.format, "volumes": len(stack), "shape_zyx": list(shape)}
    facts |= {"dtype": str(stack.array.dtype), "voxel_size_zyx": stack.voxel_size, "voxel_size": voxel}
    facts |= {"contrast": "not stated by this format", "notes": list(stack.notes)}
    if voxel is None:
        facts["voxel_size_reason"] = source.voxel_reason.removeprefix(f"{path} ")
    problem = cube_problem(shape)
    if problem and shape[0] > 1 and not path.name.lower().removesuffix(".gz").endswith(".mrcs"):
        facts["importable"] = "yes, as a tomogram"
    else:
        facts["importable"] = problem or "yes, as subtomograms, or as a tomogram with --kind tomograms"
    return facts


def _star_facts(path: Path) -> dict[str, Any]:
    from cryoet_core.formats.relion import describe_particles, read_particles
    from cryoet_core.formats.star import read_star

    tables = read_star(path)
    if any("rlnTomoReconstructedTomogram" in table or "path" in table for table in tables):
        return _tomogram_facts(path)
    blocks: dict[str, Any] = {"blocks": {table.name or "(no name)": len(table) for table in tables}}
    try:
        return blocks | describe_particles(read_particles(path))
    except UserError as error:
        blocks["importable"] = str(error).removeprefix(f"{path}: ")
    try:
        return blocks | _pick_facts(path)
    except UserError:
        return blocks


def _numpy_facts(path: Path) -> dict[str, Any]:
    from cryoet_core.formats.arrays import open_arrays

    source = open_arrays(path)
    facts: dict[str, Any] = {"volumes": len(source), "shape_zyx": list(source.shape), "voxel_size": source.voxel_size}
    for name in ("labels", "positions", "rotations", "tomogram"):
        facts[name] = getattr(source, name) is not None
    return facts | {"notes": source.notes}


def _store_facts(path: Path) -> dict[str, Any]:
    from cryoet_core.store import describe_store, open_subtomograms

    return describe_store(open_subtomograms(path, check_values=False))


def _tomogram_facts(path: Path) -> dict[str, Any]:
    from cryoet_core.tomograms.reading import Reading, describe_drafts
    from cryoet_core.tomograms.sources import drafts_of

    return describe_drafts(drafts_of(path, Reading()))


def _tomogram_store_facts(path: Path) -> dict[str, Any]:
    from cryoet_core.tomograms.store import describe_tomograms, open_store

    return describe_tomograms(open_store(path))


def _pick_facts(path: Path) -> dict[str, Any]:
    from cryoet_core.formats.picks import describe_picks

    return describe_picks(path)


_FACTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "volumes": _volume_facts,
    "star": _star_facts,
    "numpy": _numpy_facts,
    "store": _store_facts,
    "tomograms": _tomogram_store_facts,
    "zarr": _tomogram_facts,
    "copick": _tomogram_facts,
    "manifest": _tomogram_facts,
    "picks": _pick_facts,
    "model": _pick_facts,
}
