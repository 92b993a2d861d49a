"""2-D tilt stacks to subtomograms: Fourier insertion against what it must give, geometry, real
particles.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch

from cryoet_core.algorithms.insertion import Insertion, TiltSeries
from cryoet_core.formats.tiltgeometry import read_tilt_series
from cryoet_core.store import open_subtomograms
from cryoet_core.support.errors import UserError

Command = Callable[..., Any]
BOX, VOXEL = 24, 10.0


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def series(angles: list[float], defocus: float = 3.0) -> TiltSeries:
    """Tilts about y, in degrees: the image's x is (cos, 0, sin) of the tomogram, its y the
    tomogram's.
    """
    t = np.radians(angles)
    zero, one = np.zeros_like(t), np.ones_like(t)
    axes = np.stack([np.stack([np.cos(t), zero, np.sin(t)], 1), np.stack([zero, one, zero], 1)], 1)
    n = len(angles)
    return TiltSeries(
        torch.from_numpy(axes).float(),
        torch.full((n,), defocus),
        torch.zeros(n),
        torch.ones(n),
        amplitude_contrast=0.1,
    )


def blobs(
    centres: list[tuple[float, float, float]],
) -> tuple[np.ndarray, Callable[[TiltSeries], np.ndarray]]:
    """Gaussian blobs at voxels (z, y, x) from the middle, and their exact projections along each
    tilt's beam.
    """
    grid = np.stack(np.meshgrid(*[np.arange(BOX) - BOX // 2] * 3, indexing="ij"), -1)
    volume = sum(np.exp(-((grid - c) ** 2).sum(-1) / 8) for c in np.array(centres))

    def projected(tilts: TiltSeries) -> np.ndarray:
        plane = np.stack(np.meshgrid(*[np.arange(BOX) - BOX // 2] * 2, indexing="ij"), -1)  # y, x
        images = np.zeros((len(tilts), BOX, BOX))
        for number, (ax, ay) in enumerate(tilts.axes.numpy()):
            for z, y, x in centres:
                place = np.array([np.dot(ay, (x, y, z)), np.dot(ax, (x, y, z))])
                images[number] += np.exp(-((plane - place) ** 2).sum(-1) / 8)
        return images

    return np.asarray(volume), projected


def plain(insertion: Insertion) -> Insertion:
    """Without CTF: the same slices with a transfer of 1."""
    insertion.gain = torch.ones_like(insertion.gain)
    density = torch.zeros(BOX**3)
    for target, share in zip(insertion.target, insertion.share, strict=True):
        density.index_add_(0, target, share)
    insertion.filter = 1 / (density.view(BOX, BOX, BOX) + 0.01 * density.mean())
    return insertion


def test_all_tilts_give_the_particle_back() -> None:
    volume, projected = blobs([(0, 0, 0), (3, -2, 5), (-4, 4, 1)])
    tilts = series(list(np.linspace(-90, 89, 180)))
    insertion = plain(Insertion(tilts, BOX, VOXEL, premultiplied=True))
    cube = insertion(torch.from_numpy(projected(tilts))[None])[0].numpy()
    assert correlation(cube, volume) > 0.98
    peak = np.unravel_index(cube.argmax(), cube.shape)
    assert np.abs(np.array(peak) - BOX // 2).max() == 0


def test_a_limited_range_leaves_its_wedge_empty() -> None:
    from cryoet_core.algorithms.fourier import radial_frequency, wedge_mask

    tilts = series(list(np.linspace(-60, 60, 121)))
    assert tilts.axis() == "y"
    assert sorted(tilts.tilts().tolist()) == pytest.approx(
        list(np.linspace(-60, 60, 121)), abs=1e-3
    )
    insertion = Insertion(tilts, BOX, VOXEL, premultiplied=True)
    images = torch.randn(1, len(tilts), BOX, BOX, generator=torch.Generator().manual_seed(0))
    power = torch.fft.fftn(insertion(images)[0]).abs().square()
    # a slice reaches one voxel to each side of its plane, which is an angle that shrinks outwards
    shell = radial_frequency(BOX, full=True) * BOX
    far = (shell > 7) & (shell < 10)
    missed = far & (wedge_mask(BOX, (-72.0, 72.0), full=True) == 0)
    seen = far & (wedge_mask(BOX, (-60.0, 60.0), full=True) == 1)
    assert int(missed.sum()) > 100
    assert float(power[missed].mean() / power[seen].mean()) < 0.02


def test_ctf_weighting_undoes_the_contrast_reversals() -> None:
    from cryoet_core.algorithms.fourier import ctf

    volume, projected = blobs([(0, 0, 0), (3, -2, 5), (-4, 4, 1)])
    tilts = series(list(np.linspace(-90, 89, 180)), defocus=6.0)
    ky, kx = np.meshgrid(np.fft.fftfreq(BOX), np.fft.rfftfreq(BOX), indexing="ij")
    transfer = -ctf(torch.from_numpy(np.hypot(ky, kx) / VOXEL), 6.0, 2.7, 300.0, 0.1)
    spectra = torch.fft.rfft2(torch.from_numpy(projected(tilts)).float())
    once, twice = (torch.fft.irfft2(spectra * transfer**power, s=(BOX, BOX)) for power in (1, 2))
    raw = Insertion(tilts, BOX, VOXEL, premultiplied=False)(once[None])
    multiplied = Insertion(tilts, BOX, VOXEL, premultiplied=True)(twice[None])
    torch.testing.assert_close(raw, multiplied, atol=1e-4, rtol=1e-3)
    untreated = plain(Insertion(tilts, BOX, VOXEL, premultiplied=True))(once[None])
    assert correlation(raw[0].numpy(), volume) > correlation(untreated[0].numpy(), volume)
    assert correlation(raw[0].numpy(), volume) > 0.8


def test_particles_together_are_as_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    insertion = Insertion(series([-40.0, 0.0, 35.0]), BOX, VOXEL, premultiplied=True)
    images = torch.randn(3, 3, BOX, BOX, generator=generator)
    together = insertion(images)
    alone = torch.cat([insertion(part[None]) for part in images])
    torch.testing.assert_close(together, alone)


def write_set(
    folder: Path, angles: list[float], *, own_file: bool, visible: str, images: int
) -> tuple[Path, Path]:
    """A particle star with one stack and its tomogram set, projections as matrices or as RELION 5's
    angles.
    """
    if own_file:
        rows = "\n".join(f"0.0 {angle} 0.0 30000 30000 {i}.0" for i, angle in enumerate(angles))
        columns = ["rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot"]
        link, value = "_rlnTomoTiltSeriesStarFile\n", "tilts.star"
    else:
        lines = []
        for i, angle in enumerate(np.radians(angles)):
            x = f"[{np.cos(angle)},0,{np.sin(angle)},0]"
            lines.append(f"{x} [0,1,0,0] 30000 30000 {i}.0")
        rows, columns, link, value = "\n".join(lines), ["rlnTomoProjX", "rlnTomoProjY"], "", ""
    columns += ["rlnDefocusU", "rlnDefocusV", "rlnMicrographPreExposure"]
    table = "loop_\n" + "".join(f"_{column}\n" for column in columns) + rows + "\n"
    tomograms = f"data_global\nloop_\n_rlnTomoName\n_rlnVoltage\n{link}TS_1 300 {value}\n"
    if own_file:
        (folder / "tilts.star").write_text(f"data_TS_1\n{table}")
    else:
        tomograms += f"data_TS_1\n{table}"
    (folder / "tomograms.star").write_text(tomograms)
    stack = np.random.default_rng(0).normal(0, 1, (images, BOX, BOX)).astype(np.float32)
    with mrcfile.new(folder / "one.mrcs", stack, overwrite=True) as file:
        file.voxel_size = VOXEL
    (folder / "particles.star").write_text(
        "data_general\n_rlnTomoSubTomosAre2DStacks "
        "1\n\ndata_optics\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n"
        f"_rlnCtfDataAreCtfPremultiplied\n1 {VOXEL} "
        "1\n\ndata_particles\nloop_\n_rlnTomoName\n_rlnImageName\n"
        f"_rlnOpticsGroup\n_rlnTomoVisibleFrames\nTS_1 one.mrcs 1 {visible}\n"
    )
    return folder / "particles.star", folder / "tomograms.star"


def test_matrices_and_angles_say_the_same(tmp_path: Path) -> None:
    angles = [-50.0, -10.0, 0.0, 30.0]
    (tmp_path / "4").mkdir(), (tmp_path / "5").mkdir()
    _, four = write_set(tmp_path / "4", angles, own_file=False, visible="[1,1,1,1]", images=4)
    _, five = write_set(tmp_path / "5", angles, own_file=True, visible="[1,1,1,1]", images=4)
    one, other = read_tilt_series(four, ["TS_1"])["TS_1"], read_tilt_series(five, ["TS_1"])["TS_1"]
    torch.testing.assert_close(one.axes, other.axes, atol=1e-6, rtol=0)
    assert one.tilts().tolist() == pytest.approx(angles, abs=1e-4)
    assert one.dose.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_import_of_stacks_with_all_or_only_the_visible_images(
    here: Command, tmp_path: Path
) -> None:
    for images in (4, 3):
        folder = tmp_path / str(images)
        folder.mkdir()
        star, tomograms = write_set(
            folder, [-50.0, -10.0, 0.0, 30.0], own_file=True, visible="[1,0,1,1]", images=images
        )
        out = folder / "set.h5"
        done = here(
            *(
                "data",
                "import",
                star,
                "--tomograms",
                tomograms,
                "--contrast",
                "bright",
                "--out",
                out,
                "--json",
            )
        )
        assert done.returncode == 0, done.stderr
        facts = json.loads(done.stdout)
        assert (facts["n"], facts["box"], facts["voxel_size"]) == (1, BOX, VOXEL)
        assert facts["tilt_range"] == [-50.0, 30.0]


def test_what_does_not_fit_gets_one_line(here: Command, tmp_path: Path) -> None:
    star, tomograms = write_set(
        tmp_path, [-50.0, 0.0, 30.0], own_file=False, visible="[1,1]", images=3
    )
    out = ("--contrast", "bright", "--out", tmp_path / "set.h5")
    assert "give the tomogram set with --tomograms" in here("data", "import", star, *out).stderr
    done = here("data", "import", star, "--tomograms", tomograms, *out)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "rlnTomoVisibleFrames of row 0 (from 0) has 2 entries" in done.stderr
    star, tomograms = write_set(
        tmp_path, [-50.0, 0.0, 30.0], own_file=False, visible="[1,1,1]", images=2
    )
    assert (
        "do not fit their tilt series"
        in here("data", "import", star, "--tomograms", tomograms, *out).stderr
    )
    with pytest.raises(UserError, match="tomogram TS_9 is not in it"):
        read_tilt_series(tomograms, ["TS_9"])
    assert not (tmp_path / "set.h5").exists()


def test_real_ribosomes_agree_with_another_reconstruction(
    shared_data: Path, here: Command, tmp_path: Path
) -> None:
    folder, name = (
        shared_data / "real" / "EMPIAR-10499",
        "warptools_test_4-tomos_10-ptcls_box-32_angpix-12",
    )
    text = (folder / f"{name}.star").read_text().replace(f"{name}/", f"{folder}/")
    there = [
        line for line in text.splitlines() if "Unt_083." not in line and "Unt_088." not in line
    ]
    (tmp_path / "particles.star").write_text("\n".join(there) + "\n")
    tomograms = folder / f"{name}_tomograms.star"
    options = ("--contrast", "bright", "--out", tmp_path / "set.h5")
    done = here("data", "import", tmp_path / "particles.star", "--tomograms", tomograms, *options)
    assert done.returncode == 0, done.stderr
    data = open_subtomograms([tmp_path / "set.h5"])
    known = np.load(shared_data / "real" / "EMPIAR-10499_subtomograms_20x32_12A.npz")
    np.testing.assert_allclose(
        data.positions, known["coords_xyz_12A_voxels"][:, ::-1] * 12, atol=0.1
    )
    reference = known["subtomograms"]
    subtomograms = data.read(slice(None)).reshape(reference.shape).astype(float)
    found = [correlation(a, b.astype(float)) for a, b in zip(subtomograms, reference, strict=True)]
    assert min(found) > 0.9
