"""Manifests: a csv or star with one row per tomogram, and the tomogram sets of RELION 5."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryoet_core.formats.stack import plain_file
from cryoet_core.formats.star import StarTable, read_star
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms.reading import SIGNS, Draft, Opener, TomogramOptions

COLUMNS = ("path", "name", "voxel_size", "contrast", "tilt_low", "tilt_high", "picks", "axes")
_OTHER_NAMES = {
    "tomogram": "path",
    "file": "path",
    "pixel_size": "voxel_size",
    "tilt_min": "tilt_low",
    "tilt_max": "tilt_high",
}
_RELION = "rlnTomoReconstructedTomogram"
_LARGEST = 64 << 20


@dataclass(frozen=True)
class ManifestRow:
    """One tomogram of a manifest.

    Attributes
    ----------
    where : str
        The file and the line, for messages.
    values : mapping of str to str
        The cells by the names in ``COLUMNS``.
    """

    where: str
    values: Mapping[str, str]

    def number(self, column: str) -> float | None:
        """Return the number of a column, None where it is empty.

        Raises
        ------
        UserError
            The cell holds no finite number.
        """
        text = self.values.get(column, "")
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not abs(value) < float("inf"):
            raise UserError(f"{self.where}: {column} {text!r}; expected a number")
        return value


def drafts(path: Path, reading: TomogramOptions, opener: Opener) -> list[Draft]:
    """Return the tomograms that a manifest lists, each with what its row says.

    Parameters
    ----------
    path : Path
        The manifest.
    reading : TomogramOptions
        What the user says, where a row does not.
    opener : callable
        Opens one tomogram; see ``Opener``.

    Returns
    -------
    list of Draft
        One tomogram for each row.

    Raises
    ------
    UserError
        A row makes no sense; the message names the line.
    """
    found = []
    for row in rows_of(path):
        place, said = _place(path, row), _said(row, reading)
        inner = opener(place, said)
        if len(inner) > 1 and row.values.get("name"):
            inner = [draft for draft in inner if draft.name == row.values["name"]]
        if len(inner) != 1:
            raise UserError(
                f"{row.where}: {place} holds {len(inner) or 'no such'} tomograms; expected one; "
                "name it"
            )
        found.append(_with_row(path, row, inner[0]))
    return found


def rows_of(path: Path) -> list[ManifestRow]:
    """Return the rows of a manifest.

    Raises
    ------
    UserError
        The file is no manifest, or a row or a column makes no sense.
    """
    with plain_file(path) as file:
        raw = file.read(_LARGEST)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: no text in UTF-8 ({error.reason}); expected a star or csv"
        ) from error
    rows = _star_rows(path) if _first_line(text).startswith("data_") else _csv_rows(path, text)
    if not rows:
        raise UserError(f"{path}: a manifest without rows; expected one for each tomogram")
    return rows


# ---- csv -----------------------------------------------------------------------------------------


def _csv_rows(path: Path, text: str) -> list[ManifestRow]:
    delimiter = _delimiter(_first_line(text))
    try:
        lines = csv.reader(
            io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
        )
        records: list[tuple[int, list[str]]] = []
        for cells in lines:
            cells = [cell.strip() for cell in cells]
            if any(cells) and not cells[0].startswith("#"):
                records.append((lines.line_num, cells))
    except csv.Error as error:
        raise UserError(
            f"{path}: no csv that can be read ({error}); expected one line for each tomogram"
        ) from error
    if not records:
        raise UserError(f"{path}: an empty file; expected a header and one line for each tomogram")
    header = [_column(cell) for cell in records[0][1]]
    _judge_columns(path, header)
    rows = []
    for line, cells in records[1:]:
        if len(cells) != len(header):
            plural = "s" if len(cells) != 1 else ""
            raise UserError(
                f"{path}: line {line} has {len(cells)} cell{plural}; expected {len(header)}, as in "
                "the header"
            )
        rows.append(ManifestRow(f"{path}: line {line}", dict(zip(header, cells, strict=True))))
    return rows


def _first_line(text: str) -> str:
    lines = (line.strip() for line in text.removeprefix("\ufeff").splitlines())
    return next((line for line in lines if line and not line.startswith("#")), "")


def _delimiter(line: str) -> str:
    return max(",\t;", key=line.count)


def _column(cell: str) -> str:
    name = cell.strip().strip('"').lower().lstrip("_").replace(" ", "_").replace("-", "_")
    return _OTHER_NAMES.get(name, name)


def _judge_columns(path: Path, columns: Sequence[str]) -> None:
    """Refuse columns without a path, that are there twice, or that look misspelt."""
    twice = sorted({column for column in columns if columns.count(column) > 1 and column})
    if twice:
        raise UserError(f"{path}: two columns named {twice[0]}; expected each once")
    if "path" not in columns:
        raise UserError(
            f"{path}: no column named path; expected {', '.join(COLUMNS)} (path alone must be "
            "there)"
        )
    for column in sorted(set(columns) - set(COLUMNS)):
        close = difflib.get_close_matches(column, COLUMNS, n=1, cutoff=0.8)
        if close:
            raise UserError(f"{path}: column {column!r}; did you mean {close[0]}?")


# ---- star ----------------------------------------------------------------------------------------


def _star_rows(path: Path) -> list[ManifestRow]:
    tables = read_star(path)
    for table in tables:
        if _RELION in table:
            return [_relion(path, table, index) for index in range(len(table))]
        columns = {_column(label): values for label, values in table.columns.items()}
        if "path" in columns:
            _judge_columns(path, list(columns))
            cells = [
                {name: _known(values[i]) for name, values in columns.items()}
                for i in range(len(table))
            ]
            return [
                ManifestRow(f"{path}: row {index}", values) for index, values in enumerate(cells)
            ]
    if any("rlnTomoReconstructedTomogramHalf1" in table for table in tables):
        raise UserError(
            f"{path}: names half tomograms only; expected the column {_RELION}; reconstruct whole "
            "ones"
        )
    labels = ", ".join([label for table in tables for label in table.columns][:5])
    raise UserError(
        f"{path}: a STAR file that lists no tomograms ({labels}, ...); expected path or {_RELION}"
    )


def _known(value: str) -> str:
    return "" if value in (".", "?") else value


def _relion(path: Path, table: StarTable, index: int) -> ManifestRow:
    """Return a row of RELION's tomogram set.

    Its pixel size counts where the header of the volume does not say one.
    """

    def value(column: str) -> str:
        return table.columns[column][index] if column in table else ""

    row = ManifestRow(
        f"{path}: row {index}",
        {"path": value(_RELION), "name": value("rlnTomoName"), "relion": "yes"},
    )
    pixel = ManifestRow(
        row.where,
        {
            "rlnTomoTiltSeriesPixelSize": value("rlnTomoTiltSeriesPixelSize"),
            "rlnTomoTomogramBinning": value("rlnTomoTomogramBinning"),
        },
    )
    size, binning = (
        pixel.number("rlnTomoTiltSeriesPixelSize"),
        pixel.number("rlnTomoTomogramBinning"),
    )
    known = {"stated_size": f"{size * binning:.6g}"} if size and binning else {}
    return replace(
        row, values={**row.values, **known, "series": value("rlnTomoTiltSeriesStarFile")}
    )


# ---- what a row says -----------------------------------------------------------------------------


def _place(path: Path, row: ManifestRow) -> Path:
    """Return the file of a row, which counts from the manifest's folder.

    Those of RELION's sets count from the folders above it and from here as well.
    """
    text = row.values.get("path", "")
    if not text:
        raise UserError(f"{row.where}: no path; expected a file")
    found = beside(path, text, above="relion" in row.values)
    if found is None:
        raise UserError(
            f"{row.where}: {text} is not there; expected a file (paths count from "
            f"{path.resolve().parent})"
        )
    return found


def beside(path: Path, text: str, *, above: bool = False) -> Path | None:
    """Return the file or folder that a text in a file names.

    Parameters
    ----------
    path : Path
        The file that holds the text.
    text : str
        A path, which counts from the folder of ``path``.
    above : bool
        Look in the folders above and in the working folder, too.

    Returns
    -------
    Path or None
        None where there is none.
    """
    places = [path.parent, *(path.resolve().parents if above else ()), *([Path()] if above else ())]
    return next((place / text for place in places if (place / text).exists()), None)


def _said(row: ManifestRow, reading: TomogramOptions) -> TomogramOptions:
    """Return what the row says of its tomogram, and what the user says where the row does not."""
    changes: dict[str, Any] = {}
    if (size := row.number("voxel_size")) is not None:
        changes["voxel_size"] = size
    if row.values.get("contrast"):
        changes["contrast"] = row.values["contrast"].lower()
        if changes["contrast"] not in SIGNS:
            raise UserError(
                f"{row.where}: contrast {row.values['contrast']!r}; expected dark or bright"
            )
    low, high = row.number("tilt_low"), row.number("tilt_high")
    if (low is None) != (high is None):
        raise UserError(
            f"{row.where}: one of tilt_low and tilt_high is empty; expected both or none"
        )
    if low is not None:
        changes["tilt_range"] = (low, high)
    if row.values.get("axes"):
        changes["axes"] = row.values["axes"].lower()
    said = replace(reading, **changes)
    try:
        said.refuse_nonsense()
    except UserError as error:
        raise UserError(f"{row.where}: {str(error).replace('`', '')}") from error
    return said


def _with_row(path: Path, row: ManifestRow, draft: Draft) -> Draft:
    if row.values.get("name"):
        draft = replace(draft, name=row.values["name"])
    stated = row.number("stated_size")
    if stated and draft.voxel_size is None:
        draft = replace(draft, voxel_size=stated)
    elif stated and draft.voxel_size and abs(stated / draft.voxel_size - 1) > 0.02:
        draft = draft.noted(
            f"voxels of {draft.voxel_size:g} Å by its header, {stated:g} Å by {path.name}"
        )
    if row.values.get("series") and draft.tilt_range is None:
        draft = replace(draft, tilt_range=_tilt_range(path, row.values["series"]))
    if row.values.get("picks"):
        picks = beside(path, row.values["picks"])
        if picks is None:
            raise UserError(
                f"{row.where}: picks {row.values['picks']} are not there; expected a file"
            )
        draft = replace(draft, pick_files=(picks,))
    return draft


def _tilt_range(path: Path, series: str) -> tuple[float, float] | None:
    """Return lowest and highest tilt of a RELION tilt series, None where its star does not say."""
    place = beside(path, series, above=True)
    if place is None or not place.is_file():
        return None
    for table in read_star(place):
        for column in ("rlnTomoYTilt", "rlnTomoNominalStageTiltAngle"):
            if column in table and len(table) > 1:
                angles = table.numbers(column, place)
                low, high = float(angles.min()), float(angles.max())
                return (low, high) if -90 <= low < high <= 90 else None
    return None
