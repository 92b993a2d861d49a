"""The suites: every published figure has its place, and a wrong file gets one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cryoet_core.benchmark.plan import BenchmarkPlan, fits
from cryoet_core.benchmark.recipes import Stock, words_of_options
from cryoet_core.benchmark.suite import (
    Suite,
    SuiteTable,
    builtin_names,
    filled,
    load_suite,
    load_suites,
)
from cryoet_core.plugins.config import Config, option
from cryoet_core.plugins.discovery import PluginInfo
from cryoet_core.plugins.interfaces import InputSpec, Trainer
from cryoet_core.support.errors import UserError

PRINTED = {
    ("paper001", "T1"): 125,
    ("paper001", "T2 S1"): 20,
    ("paper001", "T2 S2"): 20,
    ("paper001", "T3"): 5,
    ("paper001", "T4"): 4,
    ("paper001", "T5"): 4,
    ("paper002", "T1 clustering"): 10,
    ("paper002", "T1 few-shot"): 10,
    ("paper002", "T2 clustering"): 4,
    ("paper002", "T2 few-shot"): 4,
    ("paper003", "T1"): 48,
    ("paper003", "T2"): 8,
    ("paper004", "T1"): 42,
    ("paper004", "T2"): 46,
    ("more", "segmentation"): 0,
}
"""How many figures the papers print (of the ablation on EMPIAR-10304 the six that can be read)."""


def table(suite: str, name: str) -> SuiteTable:
    return next(table for table in load_suite(suite).table if table.id == name)


def printed(
    suite: str, name: str, entry: str, *values: str, metric: int = 0
) -> tuple[float, float | None] | None:
    found = table(suite, name)
    chosen = next(row for row in found.entry if row.label == entry)
    return found.printed(chosen, tuple(zip(found.axes, values, strict=True)), metric)


def test_every_published_figure_has_its_place():
    counts = {
        (suite.name, each.id): sum(
            each.printed(entry, condition, index) is not None
            for entry in each.entry
            for condition in each.conditions()
            for index in range(len(each.metrics))
        )
        for suite in load_suites(())
        for each in suite.table
    }
    assert counts == PRINTED


def test_figures_stand_where_the_papers_print_them():
    assert printed("paper001", "T1", "FSFT", "0.5", "0.03") == (0.203, None)
    assert printed("paper001", "T1", "Deep CORAL", "0.05", "1000") == (0.034, None)
    assert printed("paper001", "T2 S2", "FSFT", "7", "0.1") == (0.971, None)
    assert printed("paper002", "T1 few-shot", "ProtoNet3D", "0.05", metric=1) == (0.657, 0.028)
    assert printed("paper002", "T2 clustering", "DISCA", "rat-neuron") == (0.95, None)
    assert printed("paper003", "T1", "MoCo", "0.5", "0.03") == (56.5, 0.7)
    assert printed("paper003", "T2", "random init", "0.25") == (46.5, 0.9)
    assert printed("paper004", "T1", "pu_picker, 30 %", "10304", metric=2) == (78.0, None)
    assert printed("paper004", "T2", "no PU", "10499", "0.7", metric=1) == (9.2, None)
    assert printed("paper004", "T2", "no PU", "10304", "0.05") is None


def test_every_scale_has_something_to_run_and_smoke_is_one_condition_of_a_table():
    for suite in load_suites(()):
        for each in suite.table:
            assert len(each.conditions("smoke")) <= 1, f"{suite.name} {each.id}"
            assert each.conditions("paper") == each.conditions()
        assert any(each.conditions("small") for each in suite.table)


def test_variables():
    assert filled(["{a}-{b}", 3, "x"], {"a": "1", "b": "2"}) == ["1-2", 3, "x"]
    with pytest.raises(UserError, match=r"no variable 'c'; there are a"):
        filled("{c}", {"a": "1"})


def test_options_become_words():
    options = {
        "per-class": 8,
        "ctf": False,
        "beads": True,
        "tilt-range": [-60, 60],
        "weights": None,
    }
    words = [
        "--per-class",
        "8",
        "--no-ctf",
        "--beads",
        "--tilt-range",
        "-60",
        "60",
        "--weights",
        "none",
    ]
    assert words_of_options(options, several=True) == words
    assert words_of_options({"shots": [1, 5]}) == ["--shots", "1,5"]


WRONG = {
    "not TOML": ("name =", "not a TOML file"),
    "unknown key": ('name = "x"\ntitle = "x"\ntable = []\ntabel = []\n', "tabel: no such key"),
    "shape": (
        'name = "x"\ntitle = "x"\n[[table]]\nid = "T"\ntitle = "t"\ninputs = {}\nmetrics = ["f1"]\n'
        'axes = {snr = ["1"]}\n[[table.entry]]\nlabel = "a"\nmethod = "a"\npublished.f1 = [1.0, '
        "2.0]\n",
        r"published f1 is not of the shape \[1\]",
    ),
    "two kinds": (
        'name = "x"\ntitle = "x"\ntable = []\n[data.a]\nfiles = "a"\nsimulate = "tomogram"\n',
        "one of simulate",
    ),
    "evaluation": (
        'name = "x"\ntitle = "x"\n[[table]]\nid = "T"\ntitle = "t"\ninputs = {}\nmetrics = '
        '["f1"]\nevaluate = ["r5"]\n',
        r"no \[evaluate.r5\]",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_suite_gets_one_line(case: str, tmp_path: Path):
    text, reason = WRONG[case]
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=reason) as error:
        load_suite(str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_suite_is_told_its_neighbours():
    with pytest.raises(UserError, match="did you mean paper004, "):
        load_suite("paper005")
    assert builtin_names() == ["paper001", "paper002", "paper003", "paper004", "more"]


def test_the_suite_that_the_documents_show(tmp_path: Path):
    page = (Path(__file__).parent.parent / "docs" / "benchmark.md").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(re.findall(r"^```toml\n(.*?)^```", page, re.M | re.S)[0])
    assert load_suite(str(path)).table[0].conditions("smoke") == [(("snr", "1"),)]


# ---- from suites to cells ------------------------------------------------------------------------


class ThingConfig(Config):
    classes: int = option(2, "number of classes")
    share: float = option(0.5, "share of labels")


class Thing(Trainer):
    name, task, summary = "thing", "clustering", "a thing"
    inputs = {"data": InputSpec("cubes")}  # noqa: RUF012
    Config = ThingConfig
    tiny = {"classes": 3}  # noqa: RUF012

    def fit(self, inputs, run):
        raise NotImplementedError

    def load(self, run):
        raise NotImplementedError


INSTALLED = {"thing": PluginInfo("thing", "cryoet-thing", "1", "thing", status="ok", trainer=Thing)}

SUITE = """
name = "mine"
title = "two tables that share runs"
[data.cubes]
simulate = "subtomograms"
phantoms = 2
structures = ["a", "b"]
options = { snr = "{snr}", seed = "{seed}", per-class = 50 }
smoke = { per-class = 4 }
[data.real]
files = "noble"
about = "seven classes"
[[table]]
id = "A"
title = "scores"
task = "clustering"
inputs = { data = "cubes" }
axes = { snr = ["1", "0.1"] }
at.smoke = { snr = ["1"] }
metrics = ["ari"]
[[table.entry]]
label = "another"
method = "another"
[[table]]
id = "B"
title = "seconds"
inputs = { data = "cubes" }
values = { snr = "1" }
metrics = ["fit_seconds"]
[[table.entry]]
label = "Thing"
method = "thing"
[[table]]
id = "C"
title = "real"
task = "clustering"
needs = ["share"]
inputs = { data = "real" }
options = { share = 0.25, nothing_has_this = 1 }
metrics = ["ari"]
"""


def plan(tmp_path: Path, scale: str = "smoke", seeds: int = 2, **stock: object) -> BenchmarkPlan:
    path = tmp_path / "mine.toml"
    path.write_text(SUITE)
    suites = [load_suite(str(path))]
    return BenchmarkPlan(
        suites,
        scale,
        seeds,
        Stock(tmp_path / "data", scale, **stock),
        INSTALLED,
        custom=[str(path)],
    )


def test_places_of_a_plan(tmp_path: Path):
    made = plan(tmp_path)
    found = {place.label: place for place in made.places}
    assert list(found) == [
        "mine A another, snr 1", "mine A another, snr 0.1", "mine A thing, snr 1", "mine A thing, "
            "snr 0.1",
        "mine B Thing", "mine C thing",
    ]  # fmt: skip
    assert found["mine A another, snr 1"].reason == "the method another is not installed"
    assert found["mine A thing, snr 0.1"].reason == "not part of the scale smoke"
    assert found["mine A thing, snr 0.1"].command.endswith("--method thing --scale paper")
    assert found["mine C thing"].reason == "needs --files noble=PATH (seven classes)"
    assert found["mine C thing"].command.endswith("--scale smoke --files noble=PATH")
    assert found["mine C thing"].command.startswith(
        f"cryoet benchmark --suite {tmp_path / 'mine.toml'} "
    )


def test_tables_that_ask_for_the_same_run_share_it(tmp_path: Path):
    made = plan(tmp_path)
    found = {place.label: place for place in made.places}
    assert found["mine A thing, snr 1"].cells == found["mine B Thing"].cells
    assert len(made.cells) == 2
    words = [" ".join(cell.words) for cell in made.cells.values()]
    assert "--preset fast --seed 0 --classes 3" in words[0]
    assert "--seed 1" in words[1]
    sources = [cell.sources[0] for cell in made.cells.values()]
    assert "--snr 1 --seed 0 --per-class 4" in " ".join(sources[0].words)
    assert len({source.key for source in sources}) == 2


def test_the_key_of_a_cell_depends_on_what_is_run_and_not_on_where(tmp_path: Path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    assert list(plan(one).cells) == list(plan(other).cells)
    assert not set(plan(one).cells) & set(plan(one, "small").cells)


def test_maps_that_are_missing_are_named(tmp_path: Path):
    maps = tmp_path / "maps"
    maps.mkdir()
    (maps / "a.mrc").write_bytes(b"x")
    reasons = {
        place.reason for place in plan(tmp_path, structures=maps).places if place.table.id == "B"
    }
    assert reasons == {f"--structures {maps}: has no b"}


def test_a_file_that_is_not_what_the_recipe_says(tmp_path: Path):
    wrong = tmp_path / "noble.h5"
    wrong.write_bytes(b"nothing")
    reasons = [
        place.reason
        for place in plan(tmp_path, files={"noble": wrong}).places
        if place.table.id == "C"
    ]
    assert str(wrong) in reasons[0]


def test_which_methods_fit():
    suite = Suite.model_validate(
        {
            "name": "x",
            "title": "x",
            "table": [{"id": "T", "title": "t", "inputs": {"data": "d"}, "metrics": ["f1"]}],
        }
    )
    for task, needs, expected in (
        ("clustering", [], True),
        ("picking", [], False),
        ("clustering", ["depth"], False),
    ):
        found = suite.table[0].model_copy(update={"task": task, "needs": needs})
        assert fits(INSTALLED["thing"], found) is expected
    assert not fits(
        INSTALLED["thing"],
        suite.table[0].model_copy(update={"task": "clustering", "inputs": {"other": "d"}}),
    )
