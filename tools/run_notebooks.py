"""Execute the notebooks of ``docs/notebooks`` and keep the executed ones in ``build/notebooks``.

The notebooks in the repository have no outputs: these would carry the paths of one machine.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

TIMEOUT = 300
"""Seconds for one cell."""


def main() -> int:
    """Execute every notebook. Return 1 if one fails, else 0."""
    root = Path(__file__).resolve().parent.parent
    target = root / "build" / "notebooks"
    target.mkdir(parents=True, exist_ok=True)
    failed = False
    for path in sorted((root / "docs" / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="cryoet-notebook-") as folder:
            try:
                NotebookClient(
                    notebook,
                    timeout=TIMEOUT,
                    kernel_name="python3",
                    resources={"metadata": {"path": folder}},
                ).execute()
            except CellExecutionError as error:
                print(f"{path.name}: failed\n{error}", file=sys.stderr)
                failed = True
                continue
        nbformat.write(notebook, target / path.name)
        print(f"{path.name}: {time.perf_counter() - start:.0f} s")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
