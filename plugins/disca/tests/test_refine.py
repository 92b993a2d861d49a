"""The last step: how many densities it starts with, and what it says where it finds none."""

from __future__ import annotations

import json

import numpy as np
import torch

from cryoet_core.algorithms.pose_mixture import Parameters
from cryoet_core.store import SubtomogramWriter
from cryoet_core.tasks.session import run_method


def test_noise_is_no_density(tmp_path):
    """Cubes of pure noise: no density explains them, the notes say so, and the clusters stay."""
    noise = np.random.default_rng(0).normal(size=(24, 16, 16, 16)).astype(np.float32)
    with SubtomogramWriter(tmp_path / "noise.h5", 16, 12.0, tilt_range=(-60, 60)) as writer:
        writer.append(noise)
    options = {
        "k_min": 1,
        "k_max": 2,
        "iterations": 1,
        "components": 3,
        "max_shift": 0,
        "blocks": 2,
    }
    facts = run_method(
        "disca",
        {"data": [tmp_path / "noise.h5"]},
        options,
        out=tmp_path / "run",
        report=False,
        quiet=True,
    )
    notes = json.loads((tmp_path / "run" / "notes.json").read_text())
    assert any("found nothing" in note for note in notes)
    assert facts["k"] <= 2


def test_an_idle_empty_component_goes():
    from cryoet_disca.refine import without_idle_empty

    templates, noise = torch.ones(2, 8, 8, 8), torch.ones(3)
    idle = without_idle_empty(
        Parameters(templates, torch.tensor([0.6, 0.3995, 0.0005]), noise), 100
    )
    assert len(idle.weights) == 2
    assert torch.allclose(idle.weights.sum(), torch.tensor(1.0))
    used = Parameters(templates, torch.tensor([0.5, 0.3, 0.2]), noise)
    assert without_idle_empty(used, 100) is used
