"""Cubes of noise, as tests of the store write them."""

from __future__ import annotations

import numpy as np


def cubes(count: int, box: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1, 2, (count, box, box, box)).astype(np.float16)
