"""report.html: its sections, numbers and pictures, what it leaves out, and that it loads nothing
from outside.
"""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import fake_run as fake
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from cryoet_core.evaluation.metrics import clustering_report
from cryoet_core.plugins import discovery
from cryoet_core.plugins.config import Config, option
from cryoet_core.report import write_report
from cryoet_core.report.drawing import images, palette, words
from cryoet_core.report.embedding import MOST, class_marks, embedding_map, sample
from cryoet_core.report.facts import gather
from cryoet_core.runs import runfolder
from cryoet_core.runs.predictions import read_predictions
from cryoet_core.store import open_subtomograms
from cryoet_core.support import files, provenance
from cryoet_core.support.errors import UserError

TITLES = {
    "notes": "Notes",
    "scores": "Agreement with the known classes",
    "averages": "Class averages",
    "embedding": "Map of the embedding",
    "selection": "Number of clusters",
    "certainty": "Certainty of the labels",
    "metrics": "Course of the training, by iteration",
    "errors": "Known and found classes",
    "config": "Configuration",
    "origin": "Origin",
}
NOT_INSTALLED = "no-such-method"


class Page(HTMLParser):
    """Headings, text, attributes and image addresses of a page, without scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self._open.append(tag)
        if tag == "h2":
            self.headings.append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if "script" in self._open or "style" in self._open:
            return
        self.words.append(data)
        if "h2" in self._open:
            self.headings[-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def pictures(self) -> list[str]:
        return [str(attrs["src"]) for tag, attrs in self.tags if tag == "img"]


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A finished clustering run with every artefact, its data and its report."""
    folder = tmp_path_factory.mktemp("full")
    data = fake.make_data(folder / "set.h5", 300, 5, 16)
    run = fake.make_run(folder / "run", data, NOT_INSTALLED, clusters=6)
    return run, data, write_report(run).read_text()


def made(
    folder: Path, n: int = 60, classes: int = 3, box: int = 8, labelled: bool = True, **options
) -> Path:
    data = fake.make_data(folder / "set.h5", n, classes, box, labelled=labelled)
    return fake.make_run(folder / "run", data, options.pop("method", NOT_INSTALLED), **options)


def report(run: Path) -> Page:
    return Page(write_report(run).read_text())


def test_every_section_is_there_in_order(full):
    page = Page(full[2])
    assert page.headings == list(TITLES.values())
    assert "Two clusters share a class; see the confusion matrix." in page.text


def test_nothing_is_loaded_from_outside(full):
    html = full[2]
    for tag, attrs in Page(html).tags:
        assert tag not in ("link", "iframe", "object", "embed", "base"), tag
        for name in ("src", "href", "data", "srcset", "poster"):
            assert name not in attrs or str(attrs[name]).startswith("data:"), (tag, attrs)
    styles = "".join(re.findall(r"<style>(.*?)</style>", html, re.S))
    assert "url(" not in styles
    assert "@import" not in styles
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in html


def test_numbers_are_those_of_the_metrics(full):
    run, data_path, html = full
    data = open_subtomograms([data_path])
    found = read_predictions(run).labels
    scores = clustering_report(data.labels, found.labels, data.class_names, found.classes)
    yardstick = files.read_json(run / "yardsticks.json")["invariants"]
    text = Page(html).text
    for key in (
        "matched_accuracy",
        "balanced_accuracy",
        "ari",
        "nmi",
        "homogeneity",
        "completeness",
        "purity",
    ):
        assert f"{scores[key]:.3f}" in text, key
        assert f"{yardstick[key]:.3f}" in text, key
    assert (
        f"invariants {yardstick['matched_accuracy']:.3f} majority {scores['majority']:.3f}" in text
    )
    assert "clusters K 6 5 known classes" in text
    matrix = re.search(r'<table class="confusion.*?</table>', html, re.S).group()
    counts = [
        [int(cell or 0) for cell in re.findall(r"<td[^>]*style=[^>]*>(\d*)", row)]
        for row in matrix.split("<tr>")[2:]
    ]
    assert counts == scores["confusion"]["counts"]
    for row in scores["per_class"]:
        assert f"{row['precision']:.3f} {row['recall']:.3f} {row['f1']:.3f}" in text


def test_class_averages_are_three_slices_each_with_count_and_share(full):
    run, _, html = full
    page = Page(html)
    assert len(page.pictures) == 6 * 3
    for address in page.pictures:
        picture = Image.open(
            io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,")))
        )
        assert picture.size == (16, 16)
        assert np.ptp(np.asarray(picture)) == 255
    labels = read_predictions(run).labels
    for i, name in enumerate(labels.classes):
        count = int((labels.labels == i).sum())
        assert f"{name} {count} particles, {100 * count / 300:.1f} %" in page.text


def test_the_map_knows_each_particle(full):
    run, data_path, html = full
    facts = gather(run)
    found = embedding_map(facts)
    source = found.plot.renderers[0].data_source.data
    labels, data = read_predictions(run).labels, open_subtomograms([data_path])
    assert source["row"].tolist() == list(range(300))
    assert source["cluster"] == [labels.classes[i] for i in labels.labels]
    assert source["class"] == [data.class_names[i] for i in data.labels]
    np.testing.assert_allclose(source["posterior"], labels.probabilities.max(1), atol=1e-4)
    assert all(address.startswith("data:image/png;base64,") for address in source["image"])
    assert found.layouts == ("t-SNE", "PCA")
    tip = next(tool.tooltips for tool in found.plot.tools if type(tool).__name__ == "HoverTool")
    assert all(f"@{name}" in tip for name in ("image", "cluster", "class", "posterior", "row"))
    assert source["image"][7] in html
    picture = Image.open(io.BytesIO(base64.b64decode(source["image"][7].split(",")[1])))
    assert picture.size == (3 * 16 + 2, 16)


def test_a_true_class_has_the_colour_of_its_cluster(full):
    facts = gather(full[0])
    marks = class_marks(facts)
    for cluster, name in facts.scores["matching"].items():
        expected = palette.mark(facts.classes.index(cluster))
        assert marks[facts.data.class_names.index(name)] == expected
    assert len({(m.colour, m.marker) for m in marks.values()}) == len(marks)
    assert len({palette.mark(i) for i in range(49)}) == 49


def test_scores_of_the_posterior_histogram_count_every_particle(full):
    facts = gather(full[0])
    assert facts.right().mean() == pytest.approx(facts.scores["matched_accuracy"])


def test_the_pages_plots_carry_units_and_no_logo(full):
    html = full[2]
    for label in ("number of clusters K", "BIC (lower is better)", "DDBI (lower is better)", "fraction of labels kept",
                  "training loss", "highest posterior "
                      "probability", "subtomograms", "iteration"):  # fmt: skip
        assert json.dumps(label)[1:-1] in html, label
    text = Page(html).text
    assert "voxels of 12.00 Å" in text
    assert "σ = 1 voxel (12\u00a0Å)" in " ".join(Page(html).words)
    assert "5 nm" in text


@pytest.mark.parametrize("missing", ["metrics", "selection", "averages", "notes", "embedding"])
def test_what_a_method_did_not_leave_is_left_out(tmp_path, missing):
    kept = ("metrics", "selection", "averages", "notes", "yardsticks", "embedding")
    run = made(tmp_path, artefacts=tuple(name for name in kept if name != missing))
    assert report(run).headings == [title for name, title in TITLES.items() if name != missing]


def test_a_method_that_leaves_only_labels(tmp_path):
    page = report(made(tmp_path, artefacts=()))
    assert page.headings == [
        TITLES[name] for name in ("scores", "certainty", "errors", "config", "origin")
    ]
    assert "No baseline was run beside this method" in page.text


def test_without_known_classes_there_is_a_table_of_the_clusters(tmp_path):
    page = report(made(tmp_path, labelled=False, clusters=4))
    assert "Classes in numbers" in page.headings
    assert TITLES["scores"] not in page.headings
    assert TITLES["errors"] not in page.headings
    assert "matched accuracy" not in page.text
    assert "true class" not in page.text


def test_data_that_is_gone_is_said_and_stored_scores_are_shown(tmp_path):
    run = made(tmp_path)
    scores = gather(run).scores
    files.write_json(run / "evaluation.json", scores)
    (tmp_path / "set.h5").unlink()
    page = report(run)
    assert "set.h5 is no longer where the run found it" in page.text
    assert f"{scores['matched_accuracy']:.3f}" in page.text
    assert "the data file was not found" in page.text
    assert embedding_map(gather(run)).with_slices is False


def test_data_is_found_from_any_folder(tmp_path, monkeypatch):
    """The command line may have named the files from another folder; predictions name them from the
    root.
    """
    (tmp_path / "sets").mkdir()
    fake.make_data(tmp_path / "sets" / "set.h5", 60, 3, 8)
    monkeypatch.chdir(tmp_path)
    found = {"fingerprints": {"data": [provenance.fingerprint(tmp_path / "sets" / "set.h5")]}}
    run = fake.make_run(tmp_path / "run", Path("sets/set.h5"), facts=found)
    (tmp_path / "sets" / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "sets" / "elsewhere")
    assert read_predictions(run).files == (str(tmp_path / "sets" / "set.h5"),)
    assert gather(run).data is not None


def test_the_pictures_say_how_the_averaged_particles_lie(tmp_path):
    run = made(tmp_path)
    assert "were not aligned" in report(run).text
    record = files.read_json(run / "config.json")
    record["config"]["align_averages"] = True
    files.write_json(run / "config.json", record)
    assert "aligned to one another by a search" in report(run).text


def test_a_phase_that_changes_the_number_of_clusters_is_named(tmp_path):
    run = made(tmp_path)
    selection = files.read_json(run / "model_selection.json")
    files.write_json(run / "model_selection.json", selection | {"chosen": 9})
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"step": 1, "phase": "refine", "k": 3, "log_evidence": 2.5}\n')
    text = report(run).text
    assert "clusters hold particles in the end, after the phase refine." in text
    assert "log evidence per particle" in (run / "report.html").read_text()


@pytest.mark.parametrize(("evidence", "said"), [(1e-8, True), (40.0, False)])
def test_classes_that_explain_nothing_are_called_so(tmp_path, evidence, said):
    run = made(tmp_path)
    with (run / "metrics.jsonl").open("a") as log:
        log.write(f'{{"step": 1, "phase": "refine", "log_evidence": {evidence}}}\n')
    assert ("hardly better than noise" in report(run).text) is said


def test_data_that_has_changed_is_not_taken_for_the_runs(tmp_path):
    run = made(tmp_path)
    (tmp_path / "set.h5").unlink()
    fake.make_data(tmp_path / "set.h5", 60, 3, 8, seed=5)
    assert "set.h5 has changed since the run" in report(run).text
    assert gather(run).data is None


def test_damaged_artefacts_are_named_and_left_out(tmp_path):
    run = made(tmp_path)
    (run / "model_selection.json").write_text("{")
    (run / "yardsticks.json").write_text("[1]")
    (run / "predictions.h5").write_text("no")
    (run / "metrics.jsonl").write_text('{"step": 0, "loss": 1.0}\n{"step": 1, "lo')
    page = report(run)
    for name in ("model_selection.json", "yardsticks.json", "predictions.h5"):
        assert f"{name} is damaged and was left out." in page.text
    assert "This run left no predictions." in page.text
    assert TITLES["selection"] not in page.headings
    assert TITLES["metrics"] in page.headings


def test_classification_runs(tmp_path):
    run = made(
        tmp_path, n=200, classes=4, classifies=True, wrong=0.3, artefacts=("metrics", "embedding")
    )
    facts = gather(run)
    assert facts.task == "classification"
    page = report(run)
    assert page.headings == [
        "Map of the embedding", "Certainty of the labels", "Course of the training, by step",
        "Known and found classes", "Configuration", "Origin",
    ]  # fmt: skip
    accuracy = float((read_predictions(run).labels.labels == facts.data.labels).mean())
    assert f"accuracy {accuracy:.3f} majority" in page.text
    assert f"macro F1 {facts.scores['macro']['f1']:.3f}" in page.text
    assert "Classification of 200 subtomograms" in page.text
    assert facts.right().mean() == pytest.approx(accuracy)


def test_many_classes_get_the_compact_matrix(tmp_path):
    run = made(tmp_path, n=120, classes=20, box=6, classifies=True, artefacts=())
    assert '<table class="confusion wide">' in write_report(run).read_text()


def test_four_particles(tmp_path):
    page = report(made(tmp_path, n=4, classes=2))
    assert page.headings == list(TITLES.values())
    assert "Clustering of 4 subtomograms" in page.text
    assert "1 particle," in page.text or "2 particles," in page.text


def test_a_constant_embedding_and_a_single_cluster(tmp_path):
    run = made(tmp_path, n=50, classes=1, wrong=0.0)
    import h5py

    with h5py.File(run / "predictions.h5", "r+") as file:
        file["embedding"][:] = 1.0
    page = report(run)
    assert TITLES["embedding"] in page.headings
    assert "one class for all" not in page.text  # any clusters agree with a single known class


def test_a_hundred_thousand_particles_are_sampled(tmp_path):
    run = made(tmp_path, n=100_000, classes=3, box=4, artefacts=("metrics", "averages"))
    import h5py

    with h5py.File(run / "predictions.h5", "r+") as file:
        file["embedding"] = np.random.default_rng(0).normal(size=(100_000, 2)).astype(np.float32)
    path = write_report(run)
    assert path.stat().st_size < 5e6
    assert f"{MOST:,} of 100,000 particles, drawn at random" in Page(path.read_text()).text


def test_a_thousand_particles_of_32_voxels_stay_below_five_megabytes(tmp_path):
    run = made(tmp_path, n=1000, classes=4, box=32, artefacts=("averages", "embedding"))
    assert write_report(run).stat().st_size < 5e6


def test_samples_hold_every_label():
    labels = np.repeat([0, 1, 2, -1], [5000, 3000, 7, 2])
    rows = sample(labels, 500)
    assert len(rows) == len(set(rows.tolist())) == 500
    assert (np.diff(rows) > 0).all()
    assert {
        int(label): int((labels[rows] == label).sum()) >= least
        for label, least in ((2, 5), (-1, 2))
    } == {
        2: True,
        -1: True,
    }
    share = (labels[rows] == 0).mean()
    assert abs(share - 5000 / 8009) < 0.07
    assert sample(labels[:3], 500).tolist() == [0, 1, 2]


def test_names_cannot_break_the_page(tmp_path, monkeypatch):
    names = ("</script><script>alert(1)</script>", "a&b <i>", "'q' \"d\" α")
    monkeypatch.setattr(fake, "NAMES", names)
    html = write_report(made(tmp_path)).read_text()
    assert "<script>alert" not in html
    page = Page(html)
    for name in names:
        assert name in page.text


def test_a_failed_run_says_why(tmp_path):
    record = {
        "format": "cryoet run",
        "version": 1,
        "method": "x",
        "preset": None,
        "seed": 0,
        "inputs": {},
    }
    facts = {"status": "failed", "reason": "RunError: the mixture collapsed", "fingerprints": {}}
    runfolder.make(tmp_path / "run", "x", record | {"options": {}, "config": {}}, facts)
    page = report(tmp_path / "run")
    assert "This run failed: RunError: the mixture collapsed." in page.text


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a run folder"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_writing_again_replaces_and_leaves_nothing_beside(tmp_path):
    run = made(tmp_path, artefacts=())
    before = {path.name for path in run.iterdir()}
    assert write_report(run) == write_report(run) == run / "report.html"
    assert {path.name for path in run.iterdir()} == before | {"report.html"}


def test_configuration_marks_where_a_value_comes_from(tmp_path, monkeypatch):
    class Options(Config):
        width: int = option(16, "channels of the first block", paper="64", presets={"fast": 8})
        rounds: int = option(20, "iterations at most")
        depth: int = option(10, "blocks of the network", presets={"fast": 6})
        reg: float = option(1e-5, "added to covariances")

    class Method:
        task, is_baseline = "clustering", False
        Config = Options

    monkeypatch.setattr(discovery, "load_trainer", lambda name: Method)
    text = report(
        made(tmp_path, artefacts=(), config={"width": 8, "rounds": 5, "depth": 10, "reg": 1e-5})
    ).text
    assert "--width 8 16 preset fast 64 channels of the first block" in text
    assert "--rounds 5 20 set iterations at most" in text
    assert "--depth 10 10 set blocks of the network" in text
    assert "--reg 1e-05 1e-05 added to covariances" in text


def test_several_phases_share_a_plot_with_a_legend(tmp_path):
    run = made(tmp_path, artefacts=())
    rows = [
        {"phase": phase, "step": i, "loss": 1 / (i + 1)}
        for phase in ("pretrain", "finetune")
        for i in range(5)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    html = write_report(run).read_text()
    assert html.count("training loss") == 1
    assert "pretrain" in html
    assert "finetune" in html


def test_clusters_without_particles_are_named_not_shown(tmp_path):
    run = made(tmp_path, n=40, classes=3, clusters=3, wrong=0.0, artefacts=("averages",))
    import h5py

    with h5py.File(run / "predictions.h5", "r+") as file:
        labels = file["labels"][:]
        file["labels"][:] = np.where(labels == 1, 0, labels)
    page = report(run)
    assert "Without particles: cluster_01." in page.text
    assert len(page.pictures) == 2 * 3


def test_smoothed_slices_are_those_of_the_smoothed_volume():
    volumes = np.random.default_rng(0).normal(size=(3, 12, 12, 12)).astype(np.float32)
    z, y, x = images.smoothed_slices(volumes, 1.0)
    for i, volume in enumerate(volumes):
        whole = gaussian_filter(volume, 1.0, truncate=3.0)
        expected = images.central_slices(whole)
        for ours, theirs in zip((z[i], y[i], x[i]), expected, strict=True):
            np.testing.assert_allclose(ours[4:8, 4:8], theirs[4:8, 4:8], atol=2e-3)


def test_strips_have_one_grey_scale_and_survive_bad_values():
    flat = images.strip([np.zeros((6, 6)), np.full((6, 6), np.nan)])
    assert flat.startswith("data:image/png;base64,")
    noise = np.random.default_rng(0).random((90, 90))
    wide = Image.open(
        io.BytesIO(base64.b64decode(images.strip([noise] * 3, 32, True).split(",")[1]))
    )
    assert wide.size == (3 * 36 + 2, 36)


def test_words():
    assert [words.number(x) for x in (0.9137, 1234.0, 2.5e-7, None, float("nan"), 0.0)] == [
        "0.914", "1,234", "2.50e-07", "–", "–", "0.000",
    ]  # fmt: skip
    assert [words.duration(x) for x in (0.41, 38.2, 245, 7800)] == [
        "0.4 s",
        "38 s",
        "4 min 05 s",
        "2 h 10 min",
    ]
    assert [words.size(x) for x in (100, 3.2e6, 1.3e9)] == ["100 B", "3.1 MB", "1.21 GB"]
    assert words.table(["a", "b"], [["<x>", 1.5]]) == (
        '<table class=""><thead><tr><th>a</th><th class=num>b</th></tr></thead>'
        "<tbody><tr><td>&lt;x&gt;</td><td class=num>1.500</td></tr></tbody></table>"
    )


def test_a_browser_draws_it_without_errors(full, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
        "--disable-background-networking"
    )
    flags += f" --disable-component-update --disable-sync --user-data-dir={tmp_path} --window-size=1280,3000"
    flags += " --enable-logging=stderr --virtual-time-budget=5000 --dump-dom"
    done = subprocess.run(
        [browser, *flags.split(), f"file://{full[0] / 'report.html'}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert any("document idle" in line for line in console), done.stderr[-2000:]
    assert not [
        line
        for line in console
        if "INFO:CONSOLE" not in line or "Error" in line or "Refused" in line
    ]
