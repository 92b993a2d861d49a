"""What ``cryoet new-plugin`` writes: the example plugin, under the name that is asked for."""

from __future__ import annotations

import keyword
import re
from importlib import resources
from pathlib import Path

from cryoet_core.support import files
from cryoet_core.support.errors import UserError

FILES = {
    "pyproject.toml": "pyproject.toml.txt",
    "cryoet_minimal.py": "module.py.txt",
    "tests/test_conformance.py": "test_conformance.py.txt",
    "README.md": "README.md.txt",
}
"""File of the plugin ``minimal`` -> file of this package."""


def write_plugin(name: str, folder: Path | None = None) -> list[Path]:
    """Write a working plugin of this name into a new folder, cryoet-NAME; the files.

    UserError: the name is no name, is taken by an installed method, or the folder exists.
    """
    from cryoet_core.plugins.discovery import discover

    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise UserError(
            f"{name!r}: no name for a method; expected small letters, digits and _, such as "
            "my_method"
        )
    taken = next((info for info in discover() if info.name == name), None)
    if taken is not None:
        raise UserError(f"{name!r}: {taken.distribution} has a method of this name; choose another")
    folder = folder or Path(f"cryoet-{name.replace('_', '-')}")
    if folder.exists():
        raise UserError(
            f"{folder}: exists already; choose another name, or another folder with `out`"
        )
    written = []
    for target, template in FILES.items():
        path = folder / _named(target, name)
        files.make_folder(path.parent)
        text = resources.files(__name__).joinpath(template).read_text(encoding="utf-8")
        files.write_bytes(path, _named(text, name).encode())
        written.append(path)
    return written


def _named(text: str, name: str) -> str:
    """The text of the plugin ``minimal`` with another name."""
    title = "".join(part.capitalize() for part in name.split("_"))
    text = text.replace("cryoet-minimal", f"cryoet-{name.replace('_', '-')}")
    return text.replace("minimal", name).replace("Minimal", title)
