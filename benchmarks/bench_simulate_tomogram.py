"""How long ``cryoet simulate tomogram`` takes for 128 x 512 x 512 voxels with 400 particles,
writing included.

OMP_NUM_THREADS=2 python benchmarks/bench_simulate_tomogram.py
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import torch

from cryoet_core.simulate.shapes.phantoms import PHANTOMS, load_phantom
from cryoet_core.simulate.tomogram_files import write_tomograms
from cryoet_core.simulate.tomogram_settings import ROUTES, TomogramSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=3, default=(128, 512, 512))
    parser.add_argument("--particles", type=int, default=400)
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--routes", nargs="+", default=list(ROUTES))
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    start = time.perf_counter()
    structures = [load_phantom(name, 5.0, 20.0) for name in list(PHANTOMS)[: options.classes]]
    facts: dict[str, object] = {
        "shape": list(options.shape),
        "threads": torch.get_num_threads(),
        "device": options.device,
        "machine_load": round(os.getloadavg()[0], 1),
        "structures_s": round(time.perf_counter() - start, 2),
    }
    with tempfile.TemporaryDirectory() as folder:
        for route in options.routes:
            settings = TomogramSettings(
                shape=tuple(options.shape),
                copies=(options.particles // options.classes,),
                membranes=6,
                filaments=4,
                beads=20,
                route=route,
            )
            wall, busy = time.perf_counter(), time.process_time()
            path = Path(folder) / f"{route}.h5"
            write_tomograms(path, structures, settings, device=options.device)
            facts[route] = {
                "wall_s": round(time.perf_counter() - wall, 1),
                "cpu_s": round(time.process_time() - busy, 1),
                "peak_GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
                "file_MB": round(path.stat().st_size / 1e6),
            }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
