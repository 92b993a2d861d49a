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
        executed = EXECUTED / source.name
        fresh = executed.exists() and executed.stat().st_mtime >= source.stat().st_mtime
        notebook = nbformat.read(executed if fresh else source, as_version=4)
        name = f"notebooks/{source.stem}.md"
        files.append(File.generated(config, name, content=as_markdown(notebook)))
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


def _output(output: Any) -> str:
    if output.output_type == "stream":
        return "" if output.name == "stderr" else f"```text\n{output.text.rstrip()}\n```"
    data = output.get("data", {})
    if "text/html" in data:  # a blank line would end the block of HTML
        return "<div>" + re.sub(r"\n\s*\n", "\n", data["text/html"]) + "</div>"
    return f"```text\n{data['text/plain']}\n```" if "text/plain" in data else ""
