"""Names of the columns of tables of picks, and whether a text is such a table."""

from __future__ import annotations

import re

AXES = {
    axis: (axis, f"pos_{axis}", f"coord_{axis}", f"center_{axis}", f"location_{axis}")
    for axis in "xyz"
}
NAMES = {
    "tomogram": (
        "tomogram",
        "tomo",
        "tomo_name",
        "tomogram_name",
        "run",
        "run_name",
        "experiment",
        "micrograph",
    ),
    "class": ("class", "label", "particle_type", "class_name", "object", "type"),
    "score": ("score", "confidence", "probability", "cc", "lcc", "lccmax"),
}
_SUFFIXES = {
    "angstrom": ("a", "å", "ang", "angst", "angstrom", "angstroms"),
    "nm": ("nm", "nanometer", "nanometers"),
    "voxel": ("vox", "voxel", "voxels", "px", "pix", "pixel", "pixels"),
}


def looks_like_csv(text: str) -> bool:
    """Tell whether a text is a table of positions.

    Parameters
    ----------
    text : str
        The beginning of a file.

    Returns
    -------
    bool
        True for x, y and z in its header, or for three numbers between commas, tabs or the like.
    """
    first = next(
        (line for line in text.splitlines() if line.strip() and not line.startswith("#")), ""
    )
    header = {column(cell)[0] for cell in re.split(r"[,\t;|]", first)}
    return {"x", "y", "z"} <= header or bool(
        re.fullmatch(r"\s*[-+\d.eE]+(\s*[,;|]\s*[-+\d.eE]+){2,}\s*", first)
    )


def column(title: str) -> tuple[str, str | None]:
    """Return the name of a column and the unit in its title.

    Parameters
    ----------
    title : str
        The title as it stands in the file.

    Returns
    -------
    tuple[str, str | None]
        The name used here, and "angstrom", "nm", "voxel" or None.

    Examples
    --------
    >>> column("X [A]")
    ('x', 'angstrom')
    """
    plain = re.sub(r"[\[\](){}]", " ", title).strip().strip("\"'").lower()
    words = re.sub(r"[\s.\-]+", "_", plain).strip("_")
    base, _, ending = words.rpartition("_")
    for unit, suffixes in _SUFFIXES.items():
        if base and ending in suffixes and any(base in known for known in AXES.values()):
            return _known(base), unit
    return _known(words), None


def _known(words: str) -> str:
    for name, synonyms in (AXES | NAMES).items():
        if words in synonyms:
            return name
    return words
