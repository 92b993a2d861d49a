"""A real ribosome map, found at 15 degrees in a simulated tomogram of it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from cryoet_template_matching.config import TemplateMatchingConfig
from cryoet_template_matching.rotations import angle_between
from cryoet_template_matching.template import read_template
from cryoet_template_matching.template_matching import TemplateMatchingPicker

from cryoet_core.simulate.shapes.structures import load_structure
from cryoet_core.simulate.specimen import simulate_tomogram
from cryoet_core.simulate.tomogram_settings import TomogramSettings
from cryoet_core.tomograms import ArrayVolume, Tomogram

VOXEL = 24.0


def test_finds_a_ribosome_within_a_step(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "real" / "libtilt_ribo_16A.mrc"
    settings = TomogramSettings(
        shape=(20, 26, 36),
        voxel_size=VOXEL,
        copies=(2,),
        margin=5.0,
        snr=0.1,
        defocus=(4.0,),
        seed=2,
    )
    truth = simulate_tomogram([load_structure(path, VOXEL)], settings, name="t")
    tomogram = Tomogram("t", ArrayVolume(truth.volume), VOXEL, tilt_range=(-60.0, 60.0))
    run = SimpleNamespace(
        scratch=tmp_path,
        device=torch.device("cpu"),
        max_memory=1 << 30,
        progress=lambda over, _: over,
        say=lambda _: None,
        timer=lambda _: contextlib.nullcontext(),
    )
    config = TemplateMatchingConfig(
        template=str(path), angular_step=15.0, search_voxel_size="data", ctf="modulated"
    )
    picks = TemplateMatchingPicker(config, read_template(path, VOXEL)).pick(tomogram, run)  # type: ignore[arg-type]
    known = truth.picks
    gaps = np.linalg.norm(known.positions[:, None] - picks.positions[None, : len(known)], axis=-1)
    assert gaps.min(axis=1).max() < VOXEL
    assert picks.rotations is not None
    assert known.rotations is not None
    found = torch.from_numpy(picks.rotations[gaps.argmin(axis=1)])
    assert float(angle_between(found, torch.from_numpy(known.rotations)).max()) < 15
