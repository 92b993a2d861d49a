"""The documents: commands exist with the options they show, links lead somewhere, quoted files are
the files.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from cryoet_core.cli import main as program

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "plugins").glob("*/README.md")]
)
OTHERS = {"minimal"}  # methods of third parties that the documents speak of


def commands(page: Path) -> list[str]:
    """Lines of indented or fenced blocks that call the program, continued lines joined."""
    text = page.read_text().replace("\\\n", " ")
    return [" ".join(line.split()) for line in re.findall(r"^ {4}(cryoet .*)$", text, re.M)]


CALLS = [pytest.param(page, call, id=f"{page.parent.name}/{page.name}: "
    f"{call[:60]}") for page in PAGES
         for call in commands(page)]  # fmt: skip


@pytest.mark.parametrize(("page", "call"), CALLS)
def test_a_command_and_its_options_exist(page, call):
    words = shlex.split(call, comments=True)[1:]
    while words and words[0] == "--debug":
        words = words[1:]
    if words[:1] == ["run"] and words[1] in OTHERS:
        return
    found: Any = _command(words)
    names = {
        name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)
    }
    unknown = [word for word in words if word.startswith("--") and word not in names]
    assert not unknown, f"{page.name}: {unknown}"


def _command(words: list[str]) -> Any:
    app = typer.Typer(callback=program._root)
    entry = next(command for command in program.COMMANDS if command.name == words[0])
    program._mount(app, entry, words[1:])
    found: Any = typer.main.get_command(app)
    for word in words:
        if not hasattr(found, "commands"):
            break
        assert word in found.commands, f"no command {word}"
        found = found.commands[word]
    return found


def test_there_are_commands_to_check():
    assert len(CALLS) > 15


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", linked.read_text(), re.M)
            assert anchor in {
                re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles
            }, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_files_of_the_core_and_the_plugins_that_are_named_exist(page):
    named = re.findall(
        r"`((?:cryoet_core|plugins|examples|benchmarks|docs)/[\w/.-]+)`", page.read_text()
    )
    missing = [
        name for name in named if not ((ROOT / name).exists() or (page.parent / name).exists())
    ]
    assert not missing


@pytest.mark.parametrize("name", ["pyproject.toml", "cryoet_minimal.py"])
def test_the_plugin_that_is_shown_is_the_example(name):
    shown = re.findall(
        r"^```\w+\n(.*?)^```", (ROOT / "docs" / "write-a-plugin.md").read_text(), re.M | re.S
    )
    assert (ROOT / "examples" / "cryoet-minimal" / name).read_text() in shown


@pytest.mark.parametrize("method", ["disca", "invariants"])
def test_options_in_the_tables_of_a_method_are_its_own(method):
    """``--option`` in a plugin's README is an option of its method or of every run."""
    found: Any = _command(["run", method])
    names = {
        name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)
    }
    text = (ROOT / "plugins" / method / "README.md").read_text()
    assert set(re.findall(r"`(--[a-z-]+)", text)) <= names


def test_functions_that_the_walk_names_exist():
    """Each part of `module.function`, `Class.method` or a bare name in the page of one volume is
    defined somewhere.
    """
    page = (ROOT / "docs" / "architecture.md").read_text()
    words = re.findall(r"`([\w.]+)`", page[page.index("## One subtomogram") :])
    files = (".py", ".h5", ".star", ".html", ".json")
    named = {part for word in words if not word.endswith(files) for part in word.split(".")}
    sources = [
        path for folder in ("cryoet_core", "plugins") for path in (ROOT / folder).rglob("*.py")
    ]
    known = {
        name for path in sources for name in re.findall(r"(?:def|class) (\w+)", path.read_text())
    }
    known |= {path.stem for path in sources} | {path.parent.name for path in sources}
    assert named - known - {"data", "fast"} == set()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")), ids=lambda path: path.name
)
def test_a_notebook_is_kept_without_outputs(path):
    """Outputs would carry the paths of one machine; ``make notebooks`` executes them."""
    code = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


def test_the_site_has_every_page():
    """Each page of ``docs`` stands in the navigation of ``mkdocs.yml``."""
    text = (ROOT / "mkdocs.yml").read_text()
    pages = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if page not in text] == []
