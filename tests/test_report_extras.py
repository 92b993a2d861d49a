"""Tables, scatter plots and pictures that a method leaves for its report."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from cryoet_core.report import extras


def facts(folder: Path, **parts: list) -> SimpleNamespace:
    return SimpleNamespace(
        folder=folder, **({"tables": [], "scatters": [], "pictures": []} | parts)
    )


def test_a_table_shows_numbers_to_the_right_and_its_note(tmp_path: Path) -> None:
    table = {
        "title": "Stages",
        "columns": ["stage", "accuracy"],
        "rows": [["1 <b>", 0.37215], ["2", None]],
        "note": "n",
    }
    (section,) = extras.tables(facts(tmp_path, tables=[table]))
    assert section.title == "Stages"
    assert "<td>1 &lt;b&gt;</td><td class=num>0.372</td>" in section.html
    assert "<td class=num>–</td>" in section.html
    assert '<p class="caption">n</p>' in section.html


def test_scatter_plots_hold_every_point(tmp_path: Path) -> None:
    groups = [
        {"name": "source", "x": [1.0, 2.0], "y": [3.0, 4.0]},
        {"name": "target", "x": [0.5], "y": [0.1]},
    ]
    (section,) = extras.scatters(
        facts(tmp_path, scatters=[{"title": "Domains", "panels": [{"groups": groups}]}])
    )
    (plot,) = section.plots.values()
    drawn = [renderer.data_source.data for renderer in plot.renderers]
    assert [list(data["x"]) for data in drawn] == [[1.0, 2.0], [0.5]]
    assert "source" in section.html
    assert "target" in section.html


def test_pictures_stand_in_the_page_and_only_those_of_the_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "pictures").mkdir(parents=True)
    for path in (run / "pictures" / "a.png", tmp_path / "secret.png"):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    shown = [
        {"file": "pictures/a.png", "caption": "first"},
        {"file": "../secret.png"},
        {"file": "pictures/gone.png"},
    ]
    (section,) = extras.pictures(facts(run, pictures=[{"title": "Centres", "pictures": shown}]))
    assert section.html.count("data:image/png;base64,") == 1
    assert "first" in section.html
    assert section.html.count("is missing") == 2


def test_damaged_parts_are_said_to_be_so(tmp_path: Path) -> None:
    damaged = [3, {}, {"columns": 1}, json.loads('{"rows": [[1]], "columns": ["a", "b"]}')]
    for part in damaged:
        assert "damaged" in extras.tables(facts(tmp_path, tables=[part]))[0].html
    scatters = [{"panels": [{"groups": [{"x": [1], "y": []}]}]}, {}, 3]
    assert all(
        "damaged" in section.html for section in extras.scatters(facts(tmp_path, scatters=scatters))
    )
    assert "damaged" in extras.pictures(facts(tmp_path, pictures=[{"pictures": [1]}]))[0].html
