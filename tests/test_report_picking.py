"""The report of a run that picks: scores, curve, hits and misses on slices, the tomograms' rows,
what is left out.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from cryoet_core.evaluation.detection import detection_report
from cryoet_core.formats.picks.store_file import save_picks
from cryoet_core.picks.table import Picks, join
from cryoet_core.report import write_report
from cryoet_core.report.drawing import plots
from cryoet_core.report.drawing.tomogram_slices import Rings, drawn, planes, side_by_side
from cryoet_core.report.facts import gather
from cryoet_core.report.picking import sections
from cryoet_core.report.surveys import hits_of
from cryoet_core.runs import runfolder
from cryoet_core.support import files
from cryoet_core.tomograms import ArrayVolume, Tomogram, open_tomograms
from cryoet_core.tomograms.writer import TomogramWriter

VOXEL, SHAPE = 10.0, (20, 48, 40)
EXTENT = (np.array(SHAPE) - 1) * VOXEL
RADIUS = 40.0


def centres(seed: int, n: int = 10) -> np.ndarray:
    """Points on a grid that is wider than the radius, so that matches are plain."""
    steps = np.stack(
        np.meshgrid(*(np.arange(60, end - 40, 110) for end in EXTENT), indexing="ij"), -1
    ).reshape(-1, 3)
    return np.random.default_rng(seed).permutation(steps)[:n]


def make_run(
    folder: Path, *, scored: bool = True, truth: bool = True, later: bool = False, **facts
) -> Path:
    """Two tomograms of 8 particles each; 6 hits, 2 misses and 3 false picks in each, and one that
    failed.
    """
    data, parts, known = folder / "tomo.h5", [], []
    with TomogramWriter(data) as writer:
        for index, name in enumerate(("first", "second & last")):
            points = centres(index, 11)
            known.append(Picks.of(points[:8], name, class_names=("ribosome",)))
            found = np.concatenate([points[:6] + 8.0, points[8:]])
            scores = (
                np.concatenate([2 + np.arange(6) / 6, 1 + np.arange(3) / 3]) if scored else None
            )
            parts.append(Picks.of(found, name, scores=scores, class_names=("ribosome",)))
            volume = np.random.default_rng(index).normal(size=SHAPE).astype(np.float32)
            writer.add(name, volume, voxel_size=VOXEL, picks=known[-1])
    picks = join(parts)
    record = {
        "format": "cryoet run", "version": 1, "method": "no-such-picker", "preset": "fast", "seed": 0,
        "inputs": {"data": [str(data)]}, "reading": {}, "options": {}, "config": {"diameter": 90.0},
    }  # fmt: skip
    status = {"status": "done", "facts": {"data": {"n": 2, "voxel_size": VOXEL, "density_sign": 1}}}
    run = runfolder.make(folder / "run", "no-such-picker", record, status | facts)
    rows = [
        {"name": name, "status": "done", "picks": 9, "seconds": 3.5, "message": ""}
        for name in dict.fromkeys(picks.tomograms)
    ]
    rows.append(
        {"name": "third", "status": "failed", "picks": 0, "seconds": 0.0, "message": "holds <NaN>"}
    )
    files.write_json(run / "status.json", rows)
    save_picks(run / "picks.h5", picks)
    scores = detection_report(picks, join(known), RADIUS, voxel_size=VOXEL)
    if truth:
        files.write_json(run / "evaluation.json", scores)
    if later:
        other = run / "predictions" / "other"
        other.mkdir(parents=True)
        files.write_json(other / "status.json", rows[:2])
        files.write_json(other / "request.json", {"files": [{"path": str(data)}], "reading": {}})
        files.write_json(other / "evaluation.json", scores)
        save_picks(other / "picks.h5", picks)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


def text_of(html: str) -> str:
    html = re.sub(r"<(script|style).*?</\1>", " ", html, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_the_report_has_every_part_and_the_right_numbers(run):
    html = write_report(run).read_text()
    titles = re.findall(r"<h2>(.*?)</h2>", html)
    assert titles == [
        "Agreement with the known particles", "Precision, recall and scores", "Tomograms", "Picks in the tomograms",
        "Configuration", "Origin",
    ]  # fmt: skip
    words = text_of(html)
    assert "all 16 18 0.667 0.750 0.706" in words
    assert "hits (6) missed particles (2) false picks (3)" in words
    assert "failed : holds &lt;NaN&gt;" in words
    assert "3 tomograms, 7.0 s in all, 1 failed (33.3 %)" in words
    assert "second &amp; last" in words
    assert "left no predictions" not in words
    assert "Picking · voxels of 10.00 Å" in words
    assert not re.findall(
        r"(?:src|href)=\"(?!data:|#)[^\"]", re.sub(r"<script.*?</script>", "", html, flags=re.S)
    )


def test_hits_misses_and_false_picks_are_those_planted(run):
    (survey,) = gather(run).surveys
    assert survey.diameter == 90.0
    truth = open_tomograms([run.parent / "tomo.h5"]).picks
    hits, false, missed = hits_of(survey, truth)
    assert sorted(hits.tolist()) == [0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14]
    assert sorted(false.tolist()) == [6, 7, 8, 15, 16, 17]
    assert sorted(missed.tolist()) == [6, 7, 14, 15]
    # a truth that is not the one compared with shows nothing rather than something wrong
    assert hits_of(survey, truth.select(np.arange(10))) is None
    assert hits_of(survey, None) is None


def test_truth_that_was_kept_is_taken_before_that_of_the_data(tmp_path):
    run = make_run(tmp_path)
    files.write_json(
        run / "evaluation.json",
        detection_report(Picks.empty(("ribosome",)), known := few(), RADIUS),
    )
    save_picks(run / "picks.h5", Picks.empty(("ribosome",)))
    save_picks(run / "truth.h5", known)
    (survey,) = gather(run).surveys
    assert len(survey.truth) == 3
    hits, false, missed = hits_of(survey, survey.truth)
    assert (len(hits), len(false), len(missed)) == (0, 0, 3)
    assert "precision 0.000" in text_of(write_report(run).read_text())


def few() -> Picks:
    return Picks.of(centres(5, 3), "first", class_names=("ribosome",))


def test_without_truth_there_are_scores_pictures_and_times(tmp_path):
    run = make_run(tmp_path, truth=False)
    titles = re.findall(r"<h2>(.*?)</h2>", html := write_report(run).read_text())
    assert titles[:3] == ["Scores of the picks", "Tomograms", "Picks in the tomograms"]
    assert "picks (9)" in text_of(html)
    assert "missed particles" not in html


def test_without_scores_there_is_no_curve(tmp_path):
    titles = re.findall(
        r"<h2>(.*?)</h2>", write_report(make_run(tmp_path, scored=False)).read_text()
    )
    assert titles[:3] == [
        "Agreement with the known particles",
        "Tomograms",
        "Picks in the tomograms",
    ]


def test_data_that_is_gone_and_damaged_files_are_said(tmp_path):
    run = make_run(tmp_path)
    (tmp_path / "tomo.h5").unlink()
    html = text_of(write_report(run).read_text())
    assert "No pictures: tomo.h5 is no longer where the run found it." in html
    assert "all 16 18" in html
    (run / "picks.h5").write_bytes(b"broken")
    (run / "evaluation.json").write_text("{")
    html = text_of(write_report(run).read_text())
    assert "picks.h5 is damaged and was left out." in html
    assert "evaluation.json is damaged and was left out." in html
    assert "3 tomograms" in html


def test_a_later_prediction_that_was_evaluated_has_its_own_parts(tmp_path):
    run = make_run(tmp_path, truth=False, later=True)
    html = write_report(run).read_text()
    assert "Agreement with the known particles, other" in html
    assert "Tomograms, other" in html
    assert html.count("hits (6)") == 2


def test_a_failed_run_says_so(tmp_path):
    run = make_run(tmp_path, status="failed", reason="the disk is full")
    assert "This run failed: the disk is full." in text_of(write_report(run).read_text())


def test_a_run_without_tomograms_has_none_of_this():
    assert sections(()) == []


# ---- slices and plots ----------------------------------------------------------------------------


def test_slabs_lie_where_the_picks_are_and_rings_where_their_spheres_are_cut():
    volume = np.zeros((20, 30, 40), np.float32)
    volume[5, 10, 25] = 100
    tomogram = Tomogram("t", ArrayVolume(volume), VOXEL)
    picks = np.array([[50.0, 100, 250], [50, 200, 100], [150, 10, 10]])
    z, y, x = planes(tomogram, picks, 40.0)
    assert (z.axis, z.at, z.pixels.shape) == (0, 50.0, (30, 40))
    assert (y.pixels.shape, x.pixels.shape) == ((20, 40), (30, 20))
    assert np.unravel_index(z.pixels.argmax(), z.pixels.shape) == (10, 25)
    svg = drawn(z, [Rings(picks, "#123456", "2 2", "here")], 40.0)
    circles = {
        tuple(map(float, found)) for found in re.findall(r'cx="(.*?)" cy="(.*?)" r="(.*?)"', svg)
    }
    assert circles == {(25.5, 10.5, 4.0), (10.5, 20.5, 4.0)}
    assert 'stroke="#123456" stroke-dasharray="2 2"' in svg
    near = drawn(z, [Rings(picks + np.array([24.0, 0, 0]), "#123456")], 40.0)
    assert {float(r) for r in re.findall(r' r="(.*?)"', near)} == {3.2}
    across = drawn(x, [Rings(np.array([[50.0, 100, x.at]]), "#123456")], 40.0)
    assert re.search(r'cx="5.5" cy="10.5"', across)
    assert side_by_side([z, y, x], [], 40.0).count("<svg") == 3


def test_large_slices_are_shrunk_with_their_rings():
    tomogram = Tomogram(
        "t",
        ArrayVolume(np.random.default_rng(0).normal(size=(4, 900, 1520)).astype(np.float32)),
        VOXEL,
    )
    (plane,) = planes(tomogram, np.array([[20.0, 4000, 8000]]), 100.0, axes=(0,))
    assert plane.pixels.shape == (450, 760)
    assert plane.size == pytest.approx(2 * VOXEL)
    assert 'cx="400.5" cy="200.5"' in drawn(
        plane, [Rings(np.array([[20.0, 4000, 8000]]), "#000")], 100.0
    )


def test_the_curve_marks_the_best_threshold_and_all_picks():
    truth = Picks.of(centres(0), "t")
    found = np.concatenate([centres(0)[:8], [[1e4, 0, 0], [2e4, 0, 0]]])
    picks = Picks.of(found, "t", scores=np.arange(10, 0, -1))
    scores = detection_report(picks, truth, RADIUS)
    plot = plots.precision_recall(scores)
    marked = [
        (r.data_source.data["x"], r.data_source.data["y"])
        for r in plot.renderers
        if len(r.data_source.data["x"]) == 1
    ]
    assert [(x[0], y[0]) for x, y in marked] == [(0.8, 1.0), (0.8, 0.8)]
