"""What the coordinates of picks mean, found from the density: planted blobs, misread in every way;
and the page.
"""

from __future__ import annotations

import json
import re

import mrcfile
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cryoet_core.inspection.density import judge
from cryoet_core.inspection.offset import offset
from cryoet_core.inspection.page import inspect
from cryoet_core.inspection.sheet import groups, montage
from cryoet_core.picks.hypotheses import (
    GIVEN,
    Hypothesis,
    every_combination,
    likeliest_cause,
    single_changes,
)
from cryoet_core.picks.table import Picks, join
from cryoet_core.store import open_subtomograms
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import ArrayVolume, Tomogram, Tomograms

VOXEL, SHAPE = 12.0, (36, 84, 100)
EXTENT = (np.array(SHAPE) - 1) * VOXEL
CENTRE = np.array(SHAPE) // 2 * VOXEL
RIGHT = np.random.default_rng(0).uniform(0.1, 0.9, (60, 3)) * EXTENT


def blobs(noise: float) -> Tomogram:
    """A tomogram with a blob of 120 Å at each of RIGHT, in noise of so many times their height."""
    volume = np.zeros(SHAPE, np.float32)
    volume[tuple(np.rint(RIGHT / VOXEL).astype(int).T)] = 1
    volume = gaussian_filter(volume, 3)
    volume += np.random.default_rng(1).normal(0, noise * volume.max(), SHAPE)
    return Tomogram("t", ArrayVolume(volume.astype(np.float32)), VOXEL)


@pytest.fixture(scope="module")
def planted():
    return blobs(0.8)


@pytest.mark.parametrize(
    ("read", "found"),
    [
        (RIGHT, "as given"),
        (RIGHT[:, [0, 2, 1]], "y and x swapped"),
        (RIGHT[:, ::-1], "z and x swapped"),
        (RIGHT[:, [1, 2, 0]], "axes in another order (x is z, z is y, y is x)"),
        (np.where([False, True, False], EXTENT - RIGHT, RIGHT), "y flipped"),
        (RIGHT - CENTRE, "counted from the centre"),
        (RIGHT + CENTRE, "counted from the corner, not the centre"),
        (RIGHT / 2, "coordinates × 2"),
        (RIGHT * 4, "coordinates / 4"),
        (
            np.where([True, False, False], EXTENT - RIGHT, RIGHT)[:, ::-1] / 2,
            "z and x swapped, coordinates × 2, z",
        ),
    ],
)
def test_the_verdict_names_how_coordinates_were_misread(planted, read, found):
    verdict = judge([planted], Picks.of(read, "t"), 120.0)
    assert str(verdict.best.hypothesis).startswith(found)
    assert verdict.clear
    assert not verdict.dark
    assert verdict.best.errors > 15
    assert verdict.best.contrast > 2
    assert verdict.given_is_best == (found == "as given")
    assert (found in verdict.words()) == (found != "as given" or "as given" in verdict.words())
    assert verdict.rows[0].hypothesis == GIVEN


def test_picks_that_mean_nothing_fit_nothing(planted):
    for seed in (10, 11, 12):
        random = np.random.default_rng(seed).uniform(0, 1, (150, 3)) * EXTENT
        verdict = judge([planted], Picks.of(random, "t"))
        assert not verdict.clear
        assert "Nothing stands out" in verdict.words()


def test_dark_protein_is_said(planted):
    dark = Tomogram("t", planted.volume, VOXEL, -1)
    verdict = judge([dark], Picks.of(RIGHT, "t"), 120.0)
    assert verdict.given_is_best
    assert verdict.dark
    assert "Protein is dark there" in verdict.words()
    assert verdict.best.contrast == pytest.approx(
        -judge([planted], Picks.of(RIGHT, "t"), 120.0).best.contrast, rel=0.1
    )


def test_several_tomograms_count_together_and_large_ones_are_made_coarser(planted, monkeypatch):
    monkeypatch.setattr("cryoet_core.inspection.density._COARSE_VOXELS", 60_000)
    other = Tomogram("u", planted.volume, VOXEL)
    picks = join([Picks.of(RIGHT[:20, ::-1], "t"), Picks.of(RIGHT[20:, ::-1], "u")])
    verdict = judge([planted, other], picks, 150.0)
    assert str(verdict.best.hypothesis) == "z and x swapped"
    assert verdict.n_picks == 60


def test_hypotheses_undo_what_they_name():
    shape, voxel = np.array([10, 20, 30]), 2.0
    points = np.random.default_rng(0).uniform(0, 18, (5, 3))
    one = Hypothesis(order=(2, 0, 1), flip=(True, False, True), scale=4.0, origin=1)
    moved = one.positions(points, shape, voxel)
    inner = points[:, [2, 0, 1]] * 4 + (shape // 2) * voxel
    np.testing.assert_allclose(moved[:, 1], inner[:, 1])
    np.testing.assert_allclose(moved[:, [0, 2]], ((shape - 1) * voxel - inner)[:, [0, 2]])
    assert one.changes == 5
    assert str(GIVEN) == "as given"
    everything = list(every_combination())
    assert everything[0] == GIVEN
    assert len({str(one) for one in everything}) == len(everything) == 720
    assert set(single_changes()) <= set(everything)


def test_no_cause_is_named_where_none_explains_it():
    assert likeliest_cause(np.array([[-50.0, 0, 0], [5000.0, 0, 0]]), (10, 10, 10), 10.0) is None


@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (0.0, 0.5, 0.0), (1.0, 0.0, -1.0)])
def test_picks_that_are_off_by_half_a_voxel_are_noticed(shift):
    data = Tomograms((blobs(0.2),))
    exact = np.rint(RIGHT / VOXEL) * VOXEL  # where the blobs are
    off = offset(data, Picks.of(exact + np.array(shift) * VOXEL, "t"), 120.0)
    assert np.abs(off.vector + np.array(shift) * VOXEL).max() < 2.5
    assert off.matters(VOXEL) == any(shift)
    assert off.error < 2.5
    assert offset(data, Picks.of(exact[:5], "t"), 120.0) is None


# ---- contact sheet and page ----------------------------------------------------------------------


def test_groups_are_best_middle_and_worst_and_their_averages_show_the_particle(planted):
    order = np.random.default_rng(0).permutation(60)
    picks = Picks.of(RIGHT, "t", scores=order)
    best, middle, worst = groups(Tomograms((planted,)), picks, 120.0)
    assert [group.title for group in (best, middle, worst)] == [
        "Best by score",
        "Middle by score",
        "Worst by score",
    ]
    assert best.scores.tolist() == list(range(59, 39, -1))
    assert worst.scores.tolist() == list(range(20))
    assert set(middle.scores) == set(range(20, 40))
    for group in (best, middle, worst):
        size = len(group.average)
        assert group.averaged == 20
        edge = group.average[[0, -1]].mean()
        peak = group.average[
            size // 2 - 1 : size // 2 + 2, size // 2 - 1 : size // 2 + 2, size // 2
        ].mean()
        assert peak > edge + 0.3
    (only,) = groups(
        Tomograms((planted,)), Picks.of(np.vstack([RIGHT, [[-99.0, 0, 0]]]), "t"), 120.0
    )
    assert (only.title, len(only.tiles), only.averaged) == ("Picks, drawn at random", 24, 60)
    assert groups(Tomograms((planted,)), Picks.of(np.full((2, 3), -500.0), "t"), 120.0) == []


def test_a_montage_has_every_tile_at_its_place():
    tiles = np.arange(14)[:, None, None] * np.ones((14, 5, 5))
    sheet = montage(tiles)
    assert sheet.shape == (11, 71)
    assert (sheet[0, 0], sheet[0, 6], sheet[6, 0]) == (0, 1, 12)


def test_the_page_shows_a_wrong_convention_and_loads_nothing(planted, tmp_path):
    picks = Picks.of(RIGHT[:, [0, 2, 1]], "t", scores=np.linspace(0, 1, 60))
    facts = inspect(
        Tomograms((planted,)),
        picks,
        tmp_path / "i.html",
        named="<a>.star on t.mrc",
        notes=["a & b"],
    )
    html = (tmp_path / "i.html").read_text()
    assert facts["best"] == "y and x swapped"
    assert not facts["given_is_best"]
    json.dumps(facts)
    for words in (
        "y and x swapped",
        "&lt;a&gt;.star on t.mrc",
        "a &amp; b",
        "Best by score",
        "Read as: y and x",
    ):
        assert words in html
    assert html.count("<circle") > 20
    assert html.count("data:image/png") >= 3 + 2 * 4
    assert not re.findall(
        r"(?:src|href)=\"(?!data:|#)[^\"]", re.sub(r"<script.*?</script>", "", html, flags=re.S)
    )
    assert '<p class="banner">' in html
    good = inspect(Tomograms((planted,)), Picks.of(RIGHT, "t"), tmp_path / "i.html", diameter=120.0)
    assert good["given_is_best"]
    assert '<p class="banner good">' in (tmp_path / "i.html").read_text()
    moved = inspect(
        Tomograms((planted,)), Picks.of(RIGHT + 2 * VOXEL, "t"), tmp_path / "i.html", diameter=120.0
    )
    assert "What they pick is brightest" in moved["verdict"]
    assert '<p class="banner">' in (tmp_path / "i.html").read_text()
    with pytest.raises(UserError, match="`diameter` -1"):
        inspect(Tomograms((planted,)), picks, tmp_path / "i.html", diameter=-1.0)


# ---- commands ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(planted, tmp_path_factory):
    """The tomogram with dark protein as MRC, and stars of the right picks and of some with z and x
    swapped.
    """
    folder = tmp_path_factory.mktemp("files")
    with mrcfile.new(folder / "t.mrc") as file:
        file.set_data(-planted.read())
        file.voxel_size = VOXEL
    for name, positions in (("right", RIGHT), ("swapped", RIGHT[:, ::-1])):
        rows = "\n".join(
            f"t.mrc {x:.4f} {y:.4f} {z:.4f} {x / 1000:.4f}" for z, y, x in positions / VOXEL
        )
        columns = (
            "MicrographName",
            "CoordinateX",
            "CoordinateY",
            "CoordinateZ",
            "AutopickFigureOfMerit",
        )
        heads = "\n".join(f"_rln{column} #{index}" for index, column in enumerate(columns, 1))
        (folder / f"{name}.star").write_text(f"data_\n\nloop_\n{heads}\n{rows}\n")
    return folder


def test_extract_writes_a_store_and_says_what_it_left_out(here, files, tmp_path):
    done = here("data", "extract", "--picks", files / "right.star", "--data", files / "t.mrc", "--box", 16,
                "--voxel-size", 15, "--min-score", 0.01, "--out", "p.h5", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    found = open_subtomograms(tmp_path / "p.h5")
    assert (facts["n"], facts["picks"], facts["voxel_size"]) == (len(found), 60, 15.0)
    assert facts["n"] + facts["not_chosen"] + facts["left_out"]["at the edge"] == 60
    average = found.read(slice(None)).mean(0)
    assert average[6:11, 6:11, 6:11].mean() > average[[0, -1]].mean() + 0.3
    assert found.provenance[0]["cut"]["voxel_size"] == 15.0
    done = here("data", "extract", "--picks", files / "right.star", "--data", files / "t.mrc", "--box", 16,
                "--out", "p.h5")  # fmt: skip
    assert (done.returncode, "exists already" in done.stderr) == (2, True)
    done = here("data", "extract", "--picks", files / "right.star", "--data", files / "t.mrc", "--box", 12,
                "--out", "p.h5", "--limit", 20, "--edge", "pad", "--overwrite")  # fmt: skip
    assert done.stdout.startswith("p.h5: 20 subtomograms of 60 picks\n"), done.stderr
    assert "not chosen by score: 40" in done.stdout


def test_extract_refuses_picks_outside_in_one_line(here, files, tmp_path):
    words = (
        "data",
        "extract",
        "--picks",
        files / "swapped.star",
        "--data",
        files / "t.mrc",
        "--box",
        16,
        "--out",
        "p.h5",
    )
    done = here(*words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "of 60 picks lie outside" in done.stderr
    assert not (tmp_path / "p.h5").exists()
    done = here(*words, "--drop-outside", "--contrast", "dark")
    assert done.returncode == 0, done.stderr
    assert re.search(r"note: picks left out: \d+ outside", done.stdout)
    done = here(
        "data",
        "extract",
        "--data",
        files / "t.mrc",
        "--contrast",
        "dark",
        "--box",
        16,
        "--out",
        "q.h5",
    )
    assert (done.returncode, "--picks: missing" in done.stderr) == (2, True)


def test_inspect_names_the_swapped_axes(here, files, tmp_path):
    done = here(
        "data",
        "inspect",
        "--picks",
        files / "swapped.star",
        "--data",
        files / "t.mrc",
        "--diameter",
        120,
    )
    assert done.returncode == 0, done.stderr
    assert "(z and x swapped)" in done.stdout
    assert "outside of their tomogram:" in done.stdout
    assert "contrast taken as dark" in done.stdout
    assert "swapped.star on t.mrc" in (tmp_path / "inspect.html").read_text()
