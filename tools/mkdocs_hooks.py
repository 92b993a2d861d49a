"""What ``mkdocs.yml`` cannot say: notebooks become pages, links out of ``docs/`` become text.

The site must build without a network and has no address of the repository, so a link to a file that
is no page keeps its words only.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File

EXECUTED = Path("build/notebooks")
"""Where ``make notebooks`` leaves notebooks with their outputs."""


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each notebook, with its outputs where it has been executed."""
    for source in sorted(Path(config["docs_dir"], "notebooks").glob("*.ipynb")):
        content = as_markdown(_executed(nbformat.read(source, as_version=4), source.name))
        files.append(File.generated(config, f"notebooks/{source.stem}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Keep only the words of links that leave ``docs/``."""
    up = "../" * (page.file.src_uri.count("/") + 1)
    return re.sub(rf"\[([^\]]+)\]\({re.escape(up)}[^)]*\)", r"\1", markdown)


def as_markdown(notebook: Any) -> str:
    """Return the cells of a notebook as one page."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        parts += filter(None, map(_output, cell.get("outputs", [])))
    return "\n\n".join(parts) + "\n"


def _executed(notebook: Any, name: str) -> Any:
    """Return the executed notebook, or the given one where that has other cells or is missing."""
    path = EXECUTED / name
    if not path.exists():
        return notebook
    executed = nbformat.read(path, as_version=4)
    same = [cell.source for cell in executed.cells] == [cell.source for cell in notebook.cells]
    return executed if same else notebook


def _output(output: Any) -> str:
    return re.sub(r"[\w/.-]*/cryoet-\w+/", ".../", _shown(output))  # temporary folders


def _shown(output: Any) -> str:
    if output.output_type == "stream":
        return "" if output.name == "stderr" else f"```text\n{output.text.rstrip()}\n```"
    data = output.get("data", {})
    if "text/html" in data:  # a blank line would end the block of HTML
        return "<div>" + re.sub(r"\n\s*\n", "\n", data["text/html"]) + "</div>"
    return f"```text\n{data['text/plain']}\n```" if "text/plain" in data else ""
