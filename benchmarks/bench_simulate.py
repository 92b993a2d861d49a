"""How many subtomograms a second ``cryoet simulate subtomograms`` makes and writes.

OMP_NUM_THREADS=2 python benchmarks/bench_simulate.py
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import torch

from cryoet_core.simulate.generation import write_subtomograms
from cryoet_core.simulate.settings import SimulationSettings
from cryoet_core.simulate.shapes.phantoms import PHANTOMS, load_phantom

CASES: dict[str, dict[str, object]] = {
    "plain": {},
    "mixed_defocus": {"defocus": (3.0, 6.0)},
    "crowding_3": {"crowding": 3},
    "clean_stored": {"clean": True},
    "aitom_snr": {"snr_mode": "aitom"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--per-class", type=int, default=200)
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--box", type=int, default=32)
    parser.add_argument("--voxel-size", type=float, default=12.0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    start = time.perf_counter()
    names = list(PHANTOMS)[: options.classes]
    structures = [load_phantom(n, options.voxel_size / 2, 2 * options.voxel_size) for n in names]
    facts: dict[str, object] = {
        "box": options.box,
        "threads": torch.get_num_threads(),
        "device": options.device,
        "load": {
            "structures_s": round(time.perf_counter() - start, 2),
            "machine_load": round(os.getloadavg()[0], 1),
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        warm_up = SimulationSettings(per_class=8, box=options.box, voxel_size=options.voxel_size)
        write_subtomograms(Path(folder) / "warm_up.h5", structures, warm_up, device=options.device)
        for name, changes in CASES.items():
            settings = SimulationSettings(
                per_class=options.per_class,
                box=options.box,
                voxel_size=options.voxel_size,
                **changes,  # type: ignore[arg-type]
            )
            wall, busy = time.perf_counter(), time.process_time()
            path = Path(folder) / f"{name}.h5"
            count = write_subtomograms(path, structures, settings, device=options.device)
            wall, busy = time.perf_counter() - wall, time.process_time() - busy
            facts[name] = {
                "per_second": round(count / wall, 1),
                "cpu_ms_per_cube": round(busy / count * 1e3, 2),
            }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
