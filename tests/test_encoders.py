"""Encoders by name, and encoders that another run has trained."""

from pathlib import Path

import pytest
import torch

from cryoet_core.runs import encoders
from cryoet_core.runs.checkpoint import save
from cryoet_core.support.errors import UserError


class Small(torch.nn.Module):
    def __init__(self, box: int, dim: int = 3) -> None:
        super().__init__()
        if box < 4:
            raise ValueError("expected boxes of at least 4 voxels")
        self.dim = dim
        self.layer = torch.nn.Linear(box**3, dim)

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        return self.layer(volumes.flatten(1))


class Pooled(torch.nn.Module):
    """Has the same weights for any box."""

    def __init__(self, box: int) -> None:
        super().__init__()
        self.dim, self.layer = 3, torch.nn.Conv3d(1, 3, 3)

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        return self.layer(volumes).mean((2, 3, 4))


@pytest.fixture(autouse=True)
def two_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"small.small": Small, "small.pooled": Pooled}
    monkeypatch.setattr(encoders, "load_encoder", known.__getitem__)


def a_run(folder: Path, module: torch.nn.Module, state: dict) -> Path:
    from cryoet_core.runs.runfolder import _FORMAT, _VERSION, CONFIG
    from cryoet_core.support.files import write_json

    folder.mkdir()
    write_json(folder / CONFIG, {"format": _FORMAT, "version": _VERSION, "method": "small"})
    save(folder / "checkpoints" / "model.safetensors", encoders.encoder_tensors(module), state)
    return folder


def test_an_encoder_comes_back_with_its_weights(tmp_path: Path) -> None:
    first = encoders.build_encoder("small.small", 5, dim=7)
    folder = a_run(tmp_path / "run", first, encoders.encoder_record("small.small", 5, dim=7))
    second, record = encoders.pretrained_encoder(folder, box=5, expect="small.small")
    volumes = torch.randn(4, 1, 5, 5, 5)
    assert torch.equal(first(volumes), second(volumes))
    assert record == {"name": "small.small", "box": 5, "options": {"dim": 7}}


def test_an_encoder_that_pools_works_on_any_box(tmp_path: Path) -> None:
    first = encoders.build_encoder("small.pooled", 5)
    folder = a_run(tmp_path / "run", first, encoders.encoder_record("small.pooled", 5))
    second, record = encoders.pretrained_encoder(folder, box=8, expect="small.pooled")
    volumes = torch.randn(4, 1, 8, 8, 8)
    assert torch.equal(first(volumes), second(volumes))
    assert record["box"] == 8


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    module = encoders.build_encoder("small.small", 5)
    folder = a_run(tmp_path / "run", module, encoders.encoder_record("small.small", 5))
    with pytest.raises(UserError, match="trained on box size 5, the data has 6"):
        encoders.pretrained_encoder(folder, box=6)
    with pytest.raises(UserError, match=r"holds the encoder small\.small, not cssl\.rb3d"):
        encoders.pretrained_encoder(folder, expect="cssl.rb3d")
    with pytest.raises(UserError, match="trains no encoder"):
        encoders.pretrained_encoder(a_run(tmp_path / "other", module, {}))
    with pytest.raises(UserError, match="run"):
        encoders.pretrained_encoder(tmp_path / "nothing")


def test_a_box_that_the_encoder_refuses_is_said() -> None:
    with pytest.raises(
        UserError,
        match=r"encoder small\.small: cannot be built for box size 2: expected boxes",
    ):
        encoders.build_encoder("small.small", 2)
