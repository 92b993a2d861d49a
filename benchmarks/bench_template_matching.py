"""A rotation of a template-matching search beside the cost of its Fourier transforms alone, in one
process.

OMP_NUM_THREADS=1 python benchmarks/bench_template_matching.py --edge 120 --diameter 25
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable

import torch
from cryoet_template_matching.matcher import Matcher, box_of
from cryoet_template_matching.rotations import rotation_set

from cryoet_core.algorithms.fourier import wedge_mask


def best_time(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Milliseconds of the quickest of ``repeats`` calls, after one that is not counted; on a CPU of
    processor time.
    """
    clock, times = time.perf_counter if device.type == "cuda" else time.process_time, []
    for _ in range(repeats + 1):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return min(times[1:]) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edge", type=int, default=120, help="of the tile, voxels")
    parser.add_argument("--diameter", type=float, default=25.0, help="of the particle, voxels")
    parser.add_argument(
        "--batch", type=int, default=2, help="rotations that are transformed together"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device, radius = torch.device(options.device), options.diameter / 2
    generator = torch.Generator().manual_seed(0)
    side = 2 * math.ceil(radius) + 4
    weights = wedge_mask(box_of(radius), (-60, 60), full=True)
    matcher = Matcher(
        torch.rand(side, side, side, generator=generator), radius, weights, device=device
    )
    volume = torch.randn((options.edge,) * 3, generator=generator).to(device)
    rotations = rotation_set(30.0)
    batch, few, many = options.batch, options.batch, 5 * options.batch

    def search(count: int) -> float:
        return best_time(
            lambda: matcher.search(volume, rotations[:count], batch), options.repeats, device
        )

    # what a tile costs once cancels out in the difference
    rotation = (search(many) - search(few)) / (many - few)
    axes = (-3, -2, -1)
    pairs = torch.randn((batch + 1) // 2, *volume.shape, dtype=torch.complex64, device=device)
    real = volume.expand(batch, -1, -1, -1).contiguous()
    half = torch.fft.rfftn(real, dim=axes)
    packed = best_time(
        lambda: torch.fft.ifftn(torch.fft.fftn(pairs, dim=axes), dim=axes), options.repeats, device
    )
    plain = best_time(lambda: torch.fft.rfftn(real, dim=axes), options.repeats, device) + best_time(
        lambda: torch.fft.irfftn(half, s=volume.shape, dim=axes), options.repeats, device
    )
    facts = {
        "edge": options.edge,
        "template": matcher.edge,
        "batch": batch,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "rotation_ms": round(rotation, 2),
        "own_transforms_ms": round(packed / batch, 2),
        "real_transforms_ms": round(plain / batch, 2),
        "ratio": round(rotation / (packed / batch), 2),
        "ratio_to_real": round(rotation / (plain / batch), 2),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
