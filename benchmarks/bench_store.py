"""Random batches from the store against a plain float16 memory map, side by side in one process.

    python benchmarks/bench_store.py [--count 20000] [--box 32] [--batch 256] [--json FILE]

Measured in rounds that alternate, best of each: volumes per second of ``np.memmap`` fancy indexing
(float16 out), of ``Subtomograms.read_stored`` (float16 out), of ``Subtomograms.read`` (float32
out), and of standardised batches of ``DeviceVolumes`` held in memory and streamed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cryoet_core.runs.volumes import DeviceVolumes
from cryoet_core.store import SubtomogramWriter, open_subtomograms


def main() -> None:
    """Write a data set, measure, print one line each and the ratios to the plain memory map."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--box", type=int, default=32)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(Path(folder), options.count, options.box, options.batch, options.rounds)
    plain = rates["plain memory map"]
    for name, rate in rates.items():
        print(f"{name:32s} {rate:10.0f} volumes/s   {rate / plain:5.2f} x the plain memory map")
    if options.json:
        options.json.write_text(
            json.dumps(
                {"options": vars(options) | {"json": None}, "volumes_per_s": rates}, indent=1
            )
        )


def measure(folder: Path, count: int, box: int, batch: int, rounds: int) -> dict[str, float]:
    """Best rate of each way of reading ``count`` volumes in random order, in volumes per second."""
    store, raw = folder / "store.h5", folder / "raw.f2"
    generator = np.random.default_rng(0)
    started = time.perf_counter()
    with SubtomogramWriter(store, box, 10.0, n=count) as writer, raw.open("wb") as plain_file:
        for first in range(0, count, 1024):
            volumes = generator.standard_normal(
                (min(1024, count - first), box, box, box), dtype=np.float32
            )
            writer.append(volumes)
            plain_file.write(volumes.astype(np.float16).tobytes())
    print(f"wrote {count} volumes of {box}^3 twice in {time.perf_counter() - started:.1f} s")
    plain = np.memmap(raw, dtype=np.float16, mode="r", shape=(count, box, box, box))
    data = open_subtomograms(store)
    held, streamed = DeviceVolumes(data), DeviceVolumes(data, max_memory=0)
    order = generator.permutation(count)
    parts = [order[i : i + batch] for i in range(0, count, batch)]
    ways: dict[str, Callable[[], None]] = {
        "plain memory map": lambda: _each(parts, lambda rows: plain[rows]),
        "store, as stored": lambda: _each(parts, data.read_stored),
        "store, float32": lambda: _each(parts, data.read),
        "device volumes, held": lambda: _each(held.batches(batch, order), lambda part: part),
        "device volumes, streamed": lambda: _each(
            streamed.batches(batch, order), lambda part: part
        ),
    }
    best = dict.fromkeys(ways, 0.0)
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            best[name] = max(best[name], count / (time.perf_counter() - begun))
    return best


def _each(parts: object, use: Callable[..., object]) -> None:
    for part in parts:  # type: ignore[attr-defined]
        use(part)


if __name__ == "__main__":
    main()
