"""Templates from maps and models: size, centre, polarity, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from cryoet_template_matching.template import Template, ball, read_template
from torch import Tensor

from cryoet_core.support.errors import UserError

Make = Callable[..., Tensor]


@pytest.fixture
def density(body: Make) -> np.ndarray:
    return body(24, 1.6).numpy()


def write(path: Path, values: np.ndarray, voxel_size: float = 5.0) -> Path:
    with mrcfile.new(path) as file:
        file.set_data(values.astype(np.float32))
        file.voxel_size = voxel_size
    return path


def middle_of(template: Template) -> np.ndarray:
    """The centre of mass from the middle voxel, in voxels."""
    grid = np.indices(template.density.shape) - template.density.shape[0] // 2
    weights = np.clip(template.density, 0, None)
    return (grid * weights).sum(axis=(1, 2, 3)) / weights.sum()


def test_a_map_comes_to_other_voxels(tmp_path: Path, density: np.ndarray) -> None:
    template = read_template(write(tmp_path / "body.mrc", density), 2.0)
    assert (template.name, template.voxel_size) == ("body", 5.0)
    assert np.abs(middle_of(template)).max() < 0.1
    coarse = template.at(10.0)
    assert float(coarse.sum()) * 8 == pytest.approx(float(density.sum()), rel=0.02)
    assert template.at(5.0).shape == template.density.shape
    assert read_template(tmp_path / "body.mrc", 10.0).voxel_size == 10.0


def test_the_middle_is_the_mass_or_the_box(tmp_path: Path, density: np.ndarray) -> None:
    moved = np.roll(np.pad(density, 4), (3, 0, -2), axis=(0, 1, 2))
    path = write(tmp_path / "moved.mrc", moved)
    by_mass, by_box = read_template(path, 2.0), read_template(path, 2.0, centre="box")
    assert np.abs(middle_of(by_mass)).max() < 0.1
    own = middle_of(read_template(write(tmp_path / "still.mrc", density), 2.0, centre="box"))
    np.testing.assert_allclose(middle_of(by_box) - own, [3, 0, -2], atol=0.1)
    assert by_box.radius > by_mass.radius


def test_background_and_units_do_not_matter(tmp_path: Path, density: np.ndarray) -> None:
    plain = read_template(write(tmp_path / "a.mrc", density), 2.0)
    other = read_template(write(tmp_path / "b.mrc", 80 * density - 300), 2.0)
    assert other.radius == pytest.approx(plain.radius, abs=0.01)
    np.testing.assert_allclose(other.at(10.0) / 80, plain.at(10.0), atol=1e-3)


def test_a_dark_template_needs_the_option(tmp_path: Path, density: np.ndarray) -> None:
    path = write(tmp_path / "dark.mrc", 5 - density)
    with pytest.raises(UserError, match="give `template_contrast` dark"):
        read_template(path, 2.0)
    found = read_template(path, 2.0, contrast="dark")
    expected = read_template(write(tmp_path / "bright.mrc", density), 2.0)
    np.testing.assert_allclose(found.density, expected.density, atol=1e-5)
    with pytest.raises(UserError, match="give `template_contrast` bright"):
        read_template(tmp_path / "bright.mrc", 2.0, contrast="dark")


def test_the_header_may_be_corrected(tmp_path: Path, density: np.ndarray) -> None:
    wrong = read_template(write(tmp_path / "wrong.mrc", density, 1.0), 2.0, voxel_size=5.0)
    right = read_template(write(tmp_path / "right.mrc", density), 2.0)
    assert wrong.radius == pytest.approx(right.radius)
    np.testing.assert_allclose(wrong.density, right.density)


def test_a_model_is_put_on_the_wanted_voxels(tmp_path: Path) -> None:
    atoms = [(0, 0, 0), (30, 0, 0), (0, 20, 0), (0, 0, -10)]
    lines = [
        f"ATOM  {i:5d}  CA  ALA A{i:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C  "
        for i, (x, y, z) in enumerate(atoms, 1)
    ]
    (tmp_path / "model.pdb").write_text("\n".join([*lines, "END", ""]))
    template = read_template(tmp_path / "model.pdb", 4.0)
    assert (template.name, template.voxel_size) == ("model", 4.0)
    assert np.abs(middle_of(template)).max() < 0.5
    assert 20 < template.radius < 35


def test_radius_of_a_ball() -> None:
    found = ball(100.0, 5.0)
    assert found.radius == 50.0
    assert float(found.density.sum()) * 125 == pytest.approx(4 / 3 * np.pi * 50**3, rel=0.02)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.mrc", "gone.mrc"),
        ("text.mrc", "no MRC header"),
        ("body.png", "1 bytes; expected an MRC file"),
        ("flat.mrc", "one value only"),
        ("thin.mrc", "at least 4 voxels"),
        ("gone.pdb", "no such file"),
        ("unscaled.mrc", "voxel size none in its header; expected one; see `template_voxel_size`"),
    ],
)
def test_what_is_no_template_is_refused(
    tmp_path: Path, density: np.ndarray, name: str, message: str
) -> None:
    (tmp_path / "text.mrc").write_text("x" * 2000)
    (tmp_path / "body.png").write_bytes(b"1")
    write(tmp_path / "flat.mrc", np.ones((8, 8, 8)))
    write(tmp_path / "thin.mrc", density[:2])
    write(tmp_path / "unscaled.mrc", density, 0.0)
    with pytest.raises(UserError, match=message) as caught:
        read_template(tmp_path / name, 2.0)
    assert "\n" not in str(caught.value)
