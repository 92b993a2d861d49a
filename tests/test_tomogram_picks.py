"""The contrast of tomograms, and picks that belong to them: seen or said, never guessed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tomogram_files import BRIGHT, SHAPE, a_store, noise, one_line, refusal, write_mrc, write_zarr

from cryoet_core.picks.table import Picks
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import TomogramOptions, open_tomograms
from cryoet_core.tomograms import attaching as placing
from cryoet_core.tomograms.contrast import sign_at_picks
from cryoet_core.tomograms.reading import Draft
from cryoet_core.tomograms.volume import ArrayVolume

# ---- contrast ------------------------------------------------------------------------------------


def particles(
    count: int = 30, sign: int = 1, noise_level: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A volume of 10 Å voxels with balls of radius 60 Å, and their centres in Å."""
    random = np.random.default_rng(seed)
    values = random.normal(0, noise_level, (40, 80, 80))
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in values.shape), indexing="ij"))
    centres = random.uniform(8, [32, 72, 72], (count, 3))
    for centre in centres:
        values += sign * 0.3 * (((grid - centre[:, None, None, None]) ** 2).sum(0) < 36)
    return values.astype(np.float32), centres * 10


@pytest.mark.parametrize("sign", [1, -1])
def test_the_density_at_the_picks_tells_the_contrast(sign: int) -> None:
    values, centres = particles(sign=sign)
    verdict = sign_at_picks(ArrayVolume(values), 10.0, centres)
    assert verdict.sign == sign
    assert ("bright" if sign > 0 else "dark") in str(verdict)
    random = np.random.default_rng(5).uniform(0, [390, 790, 790], (60, 3))
    assert sign_at_picks(ArrayVolume(values), 10.0, random).sign == 0
    few, coarse = (
        sign_at_picks(ArrayVolume(values), size, centres[:n])
        for size, n in ((10.0, 4), (400.0, 20))
    )
    assert (few.sign, str(few)) == (0, "not clear (4 picks, it takes 10)")
    assert (coarse.sign, str(coarse)) == (0, "not clear (20 picks in voxels of this size)")
    assert sign_at_picks(ArrayVolume(noise((40, 80, 80))), 10.0, centres).sign == 0
    values[:20] = np.nan
    assert sign_at_picks(ArrayVolume(values), 10.0, centres).sign == sign


def test_hollow_particles_do_not_confuse() -> None:
    values, centres = particles(sign=-1)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in values.shape), indexing="ij"))
    for centre in centres / 10:
        values[((grid - centre[:, None, None, None]) ** 2).sum(0) < 9] += 0.3
    assert sign_at_picks(ArrayVolume(values), 10.0, centres).sign == -1


@pytest.fixture
def given_picks(monkeypatch: pytest.MonkeyPatch) -> Callable[[Picks], None]:
    """Have any pick file say these."""
    return lambda picks: monkeypatch.setattr(placing, "read", lambda file, drafts, notes: picks)


def test_contrast_is_said_or_seen_never_guessed(
    tmp_path: Path, given_picks: Callable[[Picks], None]
) -> None:
    values, centres = particles(sign=-1)
    path = write_mrc(tmp_path / "T.mrc", values)
    assert "give `contrast` dark or `contrast` bright" in refusal(path, TomogramOptions())
    (found,) = open_tomograms(path, TomogramOptions(default_contrast="dark"))
    assert (found.density_sign, found.notes) == (-1, ("T: contrast taken as dark",))
    given_picks(Picks.of(centres, "T"))
    picks = (tmp_path / "labels.star",)
    for reading in (
        TomogramOptions(picks=picks),
        TomogramOptions(picks=picks, default_contrast="bright"),
    ):
        data = open_tomograms(path, reading)
        assert data.tomograms[0].density_sign == -1
        assert "contrast from the density at the picks: dark" in data.notes[0]
    assert open_tomograms(path, TomogramOptions(picks=picks, contrast="dark")).notes == ()
    line = refusal(path, TomogramOptions(picks=picks, contrast="bright"))
    assert "`contrast` bright, but the density at the picks is dark" in line
    given_picks(Picks.of(np.random.default_rng(5).uniform(0, [390, 790, 790], (60, 3)), "T"))
    assert "at the picks it is not clear" in refusal(path, TomogramOptions(picks=picks))
    assert (
        open_tomograms(path, TomogramOptions(picks=picks, contrast="bright"))
        .tomograms[0]
        .density_sign
        == 1
    )


def test_options_that_make_no_sense(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "T.mrc")
    wrong: Any = "white"
    assert "`contrast` white" in refusal(path, TomogramOptions(contrast=wrong))
    assert "`voxel_size` -3" in refusal(path, TomogramOptions(contrast="dark", voxel_size=-3))
    assert "`tilt_range` 60 -60" in refusal(
        path, TomogramOptions(contrast="dark", tilt_range=(60, -60))
    )


# ---- picks to tomograms --------------------------------------------------------------------------


def drafts(*names: str) -> list[Draft]:
    return [Draft(name, ArrayVolume(noise()), f"{name}.mrc", 10.0) for name in names]


def picks_in(*names: str) -> Picks:
    picks = Picks.of(np.full((len(names), 3), 20.0), "")
    picks.tomograms[:] = names
    return picks


def assigned(
    picks: Picks, *names: str, file: str = "labels.star"
) -> tuple[dict[str, int], list[str]]:
    notes: list[str] = []
    found = placing.assigned(picks, Path(file), drafts(*names), notes)
    for name, part in found.items():
        assert set(part.tomograms) == {name}
    return {name: len(part) for name, part in found.items()}, notes


def test_picks_find_their_tomogram_by_name() -> None:
    assert assigned(picks_in("A", "B", "A"), "B", "A") == ({"A": 2, "B": 1}, [])
    assert assigned(picks_in("x/TS_1.mrc", "TS_10.rec"), "TS_1", "TS_10") == (
        {"TS_1": 1, "TS_10": 1},
        [],
    )
    assert assigned(picks_in("", ""), "only") == ({"only": 2}, [])
    assert assigned(picks_in(""), "TS_1", "TS_2", file="x/TS_2.coords") == ({"TS_2": 1}, [])
    found, notes = assigned(picks_in("TS_1"), "rec_TS_1_10.00Apx")
    assert found == {"rec_TS_1_10.00Apx": 1}
    assert notes == ["labels.star: picks in TS_1 are taken for tomogram rec_TS_1_10.00Apx"]
    found, notes = assigned(picks_in("A", "Z", "Z"), "A")
    assert found == {"A": 1}
    assert notes == ["labels.star: picks in Z are left out (2): not among the tomograms given"]


@pytest.mark.parametrize(
    ("picks", "names", "words"),
    [
        (("Z",), ("A", "B"), "picks in Z, which matches no tomogram; expected A, B"),
        (("A", "TS_3"), ("A", "TS_03"), "picks in TS_3, which matches no tomogram; expected TS_03"),
        (
            ("",),
            ("A", "B"),
            "picks that do not say in which tomogram they are (1); expected one of A, B",
        ),
        (("TS_1",), ("TS_1_a", "TS_1_b"), "matches no tomogram"),
        (("a_TS", "b_TS"), ("TS",), "could each be tomogram TS"),
        (("TS_1",), ("TS_10",), "matches no tomogram"),
    ],
)
def test_names_that_match_nothing_are_said(
    picks: tuple[str, ...], names: tuple[str, ...], words: str
) -> None:
    with pytest.raises(UserError) as caught:
        assigned(picks_in(*picks), *names)
    assert words in one_line(caught.value)


@pytest.mark.parametrize(
    ("positions", "words"),
    [
        ([[90.0, 30, 40]], r"the likeliest cause: z and x swapped"),
        ([[100.0, 140, 180]], "the likeliest cause: coordinates / 2"),
        (
            [[9000.0, 10, 10], [0, 0, 0]],
            r"1 of 2 picks lies outside of it \(z, y, x 9000, 10, 10 Å; expected 0 to 50",
        ),
        ([[-30.0, 10, 10]], "lies outside"),
    ],
)
def test_picks_outside_are_refused_with_what_would_explain_them(
    positions: list[list[float]], words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        placing.refuse_outside(drafts("A")[0], Picks.of(np.array(positions), "A"))
    assert "`voxel_size`" in one_line(caught.value)
    placing.refuse_outside(drafts("A")[0], Picks.of(np.array([[-9.0, 0, 0], [59, 79, 99]]), "A"))


def test_given_picks_replace_those_in_a_store(
    tmp_path: Path, given_picks: Callable[[Picks], None]
) -> None:
    path = a_store(tmp_path / "s.h5", picks=Picks.of(np.full((5, 3), 20.0), "A"))
    given_picks(picks_in("B"))
    data = open_tomograms(path, TomogramOptions(picks=(tmp_path / "labels.star",)))
    assert data.tomograms[0].picks is None, (
        "they may be the whole truth, of which the user gives a part"
    )
    assert data.tomograms[1].picks is not None
    assert data.notes == ("picks in the files of A are set aside for those given",)


# ---- copick --------------------------------------------------------------------------------------


def a_project(folder: Path, runs: tuple[str, ...] = ("TS_1", "TS_2")) -> Path:
    for run in runs:
        spacing = folder / "project" / "ExperimentRuns" / run / "VoxelSpacing10.000"
        spacing.mkdir(parents=True)
        write_zarr(spacing / "wbp.zarr", noise(seed=len(run)))
    config = {"pickable_objects": [], "overlay_root": f"local://{folder / 'project'}/"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "config.json"


def test_a_copick_project(tmp_path: Path) -> None:
    config = a_project(tmp_path)
    for path in (config, tmp_path / "project"):
        data = open_tomograms(path, BRIGHT)
        assert [(found.name, found.voxel_size, found.shape) for found in data] == [
            ("TS_1", 10.0, SHAPE),
            ("TS_2", 10.0, SHAPE),
        ]
    image = tmp_path / "project" / "ExperimentRuns" / "TS_2" / "VoxelSpacing10.000" / "wbp.zarr"
    assert open_tomograms(image, BRIGHT).tomograms[0].name == "TS_2", (
        "an image in a project has its run's name"
    )
    relative = {"pickable_objects": [], "overlay_root": "local://project"}
    (tmp_path / "relative.json").write_text(json.dumps(relative))
    assert len(open_tomograms(tmp_path / "relative.json", BRIGHT)) == 2


def test_a_copick_project_with_a_choice(tmp_path: Path) -> None:
    config = a_project(tmp_path, ("TS_1",))
    run = tmp_path / "project" / "ExperimentRuns" / "TS_1"
    (run / "VoxelSpacing20.000").mkdir()
    write_zarr(run / "VoxelSpacing20.000" / "wbp.zarr", noise((5, 6, 7)), scales=(20.0,))
    assert "10, 20 Å; expected one size; choose by `voxel_size`" in refusal(config)
    (found,) = open_tomograms(config, TomogramOptions(contrast="bright", voxel_size=20.0))
    assert found.shape == (5, 6, 7)
    write_zarr(run / "VoxelSpacing20.000" / "denoised.zarr", noise((5, 6, 7)), scales=(20.0,))
    line = refusal(config, TomogramOptions(contrast="bright", voxel_size=20.0))
    assert "2 tomograms of 20 Å (denoised, wbp)" in line
    (found,) = open_tomograms(run / "VoxelSpacing20.000" / "denoised.zarr", BRIGHT)
    assert found.name == "TS_1"


def test_copick_configurations_without_data_here(tmp_path: Path) -> None:
    for root in ("local:///nowhere/at/all", "s3://bucket/x", None):
        config = {"pickable_objects": [], "overlay_root": root}
        (tmp_path / "c.json").write_text(json.dumps(config))
        assert "data is not here" in refusal(tmp_path / "c.json")
    (tmp_path / "other.json").write_text("[1, 2]")
    assert "a JSON file" in refusal(tmp_path / "other.json")
    (tmp_path / "p" / "ExperimentRuns" / "TS_1").mkdir(parents=True)
    assert "without tomograms" in refusal(tmp_path / "p")


# ---- real files ----------------------------------------------------------------------------------


def test_every_real_file_opens_or_is_refused_with_a_reason(shared_data: Path) -> None:
    opened: dict[str, Any] = {}
    refused: list[str] = []
    for path in sorted([*(shared_data / "real").iterdir(), *(shared_data / "headers").iterdir()]):
        for reading in (
            TomogramOptions(contrast="dark"),
            TomogramOptions(contrast="dark", voxel_size=10.0),
        ):
            try:
                (found,) = open_tomograms(path, reading)
                found.statistics()
                opened[path.name] = found
                break
            except UserError as error:
                refused.append(one_line(error).removeprefix(str(path)))
    assert len(opened) >= 40
    assert all(line.startswith(": ") for line in refused)
    virions = opened["EMD-1155_HIV1_virions_16.4A.ccp4"]
    assert (virions.shape, virions.voxel_size) == ((281, 91, 141), 16.4)
    assert opened["cylindra_13pf_MT.mrc.gz"].voxel_size == pytest.approx(10.52)
    assert opened["omezarr_4x4x4.zarr"].shape == (4, 4, 4)
    for name in (
        "header_only.mrc",
        "SYN_nan_inf.mrc",
        "SYN_mode4_complex64.mrc",
        "invalid_axes_10_11_12.mrc",
    ):
        assert name not in opened


def test_the_contrast_of_a_real_tomogram_is_seen_at_its_densest_places(shared_data: Path) -> None:
    path = shared_data / "real" / "cylindra_13pf_MT.mrc.gz"
    (found,) = open_tomograms(path, BRIGHT)
    values = found.read()
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(values, 4)
    peaks = np.argsort(smooth.ravel())[::-1][::200][:40]
    positions = np.stack(np.unravel_index(peaks, values.shape), axis=1) * found.voxel_size
    assert sign_at_picks(found.volume, found.voxel_size, positions).sign == 1


def test_picks_of_a_copick_project_come_with_it(tmp_path: Path) -> None:
    config = a_project(tmp_path)
    for user, session, name, count in (
        ("me", "1", "ribosome", 3),
        ("me", "1", "atpase", 2),
        ("you", "2", "atpase", 1),
    ):
        folder = tmp_path / "project" / "ExperimentRuns" / "TS_2" / "Picks"
        folder.mkdir(exist_ok=True)
        points = [
            {"location": {"x": 40.0 + i, "y": 30.0, "z": 20.0}, "score": 0.5} for i in range(count)
        ]
        facts = {
            "pickable_object_name": name,
            "user_id": user,
            "session_id": session,
            "run_name": "TS_2",
        }
        text = json.dumps(facts | {"voxel_spacing": 10.0, "unit": "angstrom", "points": points})
        (folder / f"{user}_{session}_{name}.json").write_text(text)
    data = open_tomograms(config, BRIGHT)
    assert data.tomograms[0].picks is None
    picks = data.tomograms[1].picks
    assert picks is not None
    assert picks.class_names == ("ribosome",)
    np.testing.assert_allclose(picks.positions, [[20, 30, 40], [20, 30, 41], [20, 30, 42]])
    assert any(
        "picks of atpase by several users (me_1_atpase.json, you_2_atpase.json)" in note
        for note in data.notes
    )
    chosen = tmp_path / "project" / "ExperimentRuns" / "TS_2" / "Picks" / "you_2_atpase.json"
    data = open_tomograms(config, TomogramOptions(contrast="bright", picks=(chosen,)))
    assert [None if found.picks is None else len(found.picks) for found in data] == [None, 1]


def test_coordinates_in_voxels_and_from_the_middle_use_the_tomogram(tmp_path: Path) -> None:
    write_mrc(tmp_path / "TS_1.mrc", voxel_size=8.0)
    (tmp_path / "TS_1.coords").write_text("3 4 5\n6 7 4\n")
    (found,) = open_tomograms(
        tmp_path / "TS_1.mrc", TomogramOptions(contrast="bright", picks=(tmp_path / "TS_1.coords",))
    )
    assert found.picks is not None
    np.testing.assert_allclose(found.picks.positions, [[40, 32, 24], [32, 56, 48]])
    names = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
    (tmp_path / "c.star").write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnTomoTiltSeriesPixelSize\n1 "
        "2.0\n\ndata_particles\n\nloop_\n"
        "_rlnTomoName\n_rlnOpticsGroup\n"
        + "".join(f"_{name}\n" for name in names)
        + "TS_1 1 8.0 -16.0 0.0\n"
    )
    (found,) = open_tomograms(
        tmp_path / "TS_1.mrc", TomogramOptions(contrast="bright", picks=(tmp_path / "c.star",))
    )
    assert found.picks is not None
    np.testing.assert_allclose(found.picks.positions, [[24.0, 16.0, 48.0]])
