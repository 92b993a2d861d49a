"""The picker and the trained network of docs/write-a-plugin.md: as shown, and sound."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cryoet_core.testing import run_checks

ROOT = Path(__file__).parent.parent
EXAMPLES = {"ball_picker": "cryoet-ball-picker", "small_network": "cryoet-small-network"}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples on the path, with the metadata that pip would write."""
    for name, folder in EXAMPLES.items():
        module = f"cryoet_{name}"
        info = tmp_path / f"{module}-0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {folder}\nVersion: 0.1\n")
        (info / "entry_points.txt").write_text(f"[cryoet]\n{name} = {module}\n")
        monkeypatch.syspath_prepend(ROOT / "examples" / folder)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_the_guide_passes_the_kit(name: str) -> None:
    found = {result.check: (result.status, result.reason) for result in run_checks(name)}
    assert not {name: facts for name, facts in found.items() if facts[0] == "failed"}
    assert found["check_learns"][0] == found["check_device"][0] == "passed"


@pytest.mark.usefixtures("installed")
def test_another_method_can_build_the_encoder_of_the_guide() -> None:
    import torch

    from cryoet_core.runs.encoders import build_encoder
    from cryoet_core.support.errors import UserError

    encoder = build_encoder("small_network.small", box=16, dim=5)
    assert encoder(torch.zeros(2, 1, 16, 16, 16)).shape == (2, encoder.dim) == (2, 5)
    with pytest.raises(UserError, match="expected boxes of at least 8 voxels"):
        build_encoder("small_network.small", box=4)


@pytest.mark.parametrize("folder", EXAMPLES.values())
def test_the_guide_shows_the_module_as_it_is(folder: str) -> None:
    page = (ROOT / "docs" / "write-a-plugin.md").read_text()
    shown = re.findall(r"^```\w+\n(.*?)^```", page, re.M | re.S)
    (module,) = (ROOT / "examples" / folder).glob("*.py")
    assert module.read_text() in shown
