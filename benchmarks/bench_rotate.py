"""Rotating a batch of 32^3 volumes: ours against scipy's cubic spline, side by side in one process.

OMP_NUM_THREADS=2 python benchmarks/bench_rotate.py
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage

from cryoet_core.algorithms.transforms import random_rotations, rotate


def best_time(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the quickest of ``repeats`` calls, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--box", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    volumes = torch.randn(
        options.batch, 1, options.box, options.box, options.box, generator=generator
    )
    matrices = random_rotations(options.batch, generator)
    arrays, inverses = volumes[:, 0].numpy(), matrices.transpose(1, 2).double().numpy()
    centre = np.full(3, float(options.box // 2))

    def with_scipy() -> None:
        for volume, inverse in zip(arrays[:16], inverses[:16], strict=True):
            ndimage.affine_transform(volume, inverse, offset=centre - inverse @ centre, order=3)

    times = {
        "scipy_cubic_ms": best_time(with_scipy, max(2, options.repeats // 2))
        / min(16, options.batch)
        * 1e3,
        "trilinear_ms": best_time(lambda: rotate(volumes, matrices), options.repeats)
        / options.batch
        * 1e3,
        "fourier_ms": best_time(lambda: rotate(volumes, matrices, mode="fourier"), 2)
        / options.batch
        * 1e3,
    }
    facts = {
        "box": options.box,
        "threads": torch.get_num_threads(),
        **{name: round(value, 3) for name, value in times.items()},
        "trilinear_ratio": round(times["scipy_cubic_ms"] / times["trilinear_ms"], 2),
        "fourier_ratio": round(times["scipy_cubic_ms"] / times["fourier_ms"], 2),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
