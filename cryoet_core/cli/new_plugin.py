"""``cryoet new-plugin NAME``: a folder with a working plugin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cryoet_core.cli.options import JSON


def command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the method, such as my_method.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="New folder. Default: cryoet-NAME here."),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Write a working plugin to start from: project file, module, test, README."""
    from cryoet_core.plugins.template import write_plugin

    written = write_plugin(name, out)
    folder = written[0].parent
    if as_json:
        print(
            json.dumps(
                {"name": name, "folder": str(folder), "files": [str(path) for path in written]}
            )
        )
        return
    print(*written, sep="\n")
    print(f"next: pip install -e {folder}, then: cryoet check {name}")
