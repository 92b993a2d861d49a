"""Which views teach most: read-outs of SimCLR's features after a short pretraining with one thing
changed at a time.

    python benchmarks/cssl_views.py --structures ../shared/data/structures/10A \
        --count 5 --per-class 60 --bin 2

Linear probe and ten nearest neighbours on frozen features, from all training labels, on validation
and test part together. Sets, split and random numbers are those of ``cssl_table.py``. Finished
cells are skipped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from cryoet_cssl.methods import Simclr, fresh_encoder
from cryoet_cssl.parts import parts_of
from cryoet_cssl.readouts import accuracy_on, linear_probe, nearest_neighbours, unit_features
from cssl_table import SNRS, STRUCTURES, simulate
from disca_table import commit

from cryoet_core.runs.run import Run
from cryoet_core.store import open_subtomograms

GEOMETRY = {"crop_probability": 0.5, "shift": 0.1, "zoom": 0.1}
PAPER = GEOMETRY | {
    "full_so3": False,
    "angle": 45.0,
    "crop": (0.707, 1.0),
    "affine_probability": 0.5,
}
PAPER |= {"wedge": 0.0, "noise": 0.0, "growth": 0.0}
VARIANTS: dict[str, dict[str, Any] | None] = {
    "random weights": None,
    "default": {},
    "paper": PAPER,
    "crop, zoom, shift of a tenth": GEOMETRY,
    "shift of a tenth": {"shift": 0.1},
    "no shift": {"shift": 0.0},
    "no shift, no noise": {"shift": 0.0, "noise": 0.0},
    "no noise": {"noise": 0.0},
    "crop": {"crop_probability": 0.5},
    "zoom": {"zoom": 0.1},
    "full from the start": {"growth": 0.0},
    "beam alone": {"full_so3": False},
    "no wedge": {"wedge": 0.0},
    "CTF noise": {"noise_colour": "ctf"},
    "filled with noise": {"fill": "noise"},
    "no projection norm": {"projection_norm": False},
}
"""What differs from the preset ``fast``; "paper": its views, the turn up to 45 degrees about the
beam.
"""
KEYS = ("variant", "snr", "seed", "structures", "per_class", "bin", "epochs")


def measure(
    args: argparse.Namespace, variant: str, labelled: Path, folder: Path, seed: int
) -> dict[str, Any]:
    """Read-outs after the pretraining of one variant."""
    data = open_subtomograms(labelled)
    changed = VARIANTS[variant]
    config = Simclr.Config.from_layers("fast", {}, {"epochs": args.epochs, **(changed or {})})
    options: dict[str, Any] = {
        "seed": seed,
        "quiet": True,
        "threads": args.threads,
        "precision": args.precision,
    }
    run = Run.create("simclr", config, {"data": [labelled]}, folder, **options)
    parts = parts_of(data, 1.0, seed)
    if changed is None:
        encoder, _ = fresh_encoder(config, data.box, run)
    else:
        encoder, _, _ = Simclr(config).pretrained(data.without_labels(), parts.train, run)
    volumes, rest = run.volumes(data), np.concatenate([parts.val, parts.test])
    learnt, others = (unit_features(encoder, volumes, rows, run) for rows in (parts.learnt, rest))
    found: dict[str, Any] = {
        name: accuracy_on(make(learnt, data.labels[parts.learnt]), others, data.labels[rest])
        for name, make in (("probe", linear_probe), ("neighbours", nearest_neighbours))
    }
    rows = run.metrics()
    last = (
        {name: round(rows[-1][name], 4) for name in ("loss", "partner_found", "feature_std")}
        if rows
        else {}
    )
    return found | last | {"seconds": run.facts["timings"].get("pretrain")}


def markdown(results: Path) -> str:
    cells: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for cell in map(json.loads, results.open()):
        cells[cell["variant"]][cell["snr"]].append(cell)
    snrs = [snr for snr in SNRS if any(snr in found for found in cells.values())]
    heads = " | ".join(f"probe, SNR {snr} | neighbours, SNR {snr}" for snr in snrs)
    out = [f"| views | {heads} | seeds |", "|" + "---|" * (2 * len(snrs) + 2)]
    for variant in VARIANTS:
        found = cells.get(variant)
        if not found:
            continue
        shown = [
            f"{np.mean([cell[name] for cell in found[snr]]):.3f}" if found[snr] else "not run"
            for snr in snrs
            for name in ("probe", "neighbours")
        ]
        out.append(
            f"| {variant} | {' | '.join(shown)} | {max(len(some) for some in found.values())} |"
        )
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--structures", type=Path, help="folder with one MRC map per structure, 10 Å voxels"
    )
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/cssl_views.jsonl"))
    parser.add_argument(
        "--count", type=int, default=10, help="structures, the first so many of the list"
    )
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--bin", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--snrs", nargs="+", choices=SNRS, default=["inf", "0.05"])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("auto", "32", "bf16"), default="auto")
    parser.add_argument(
        "--markdown", action="store_true", help="only print the table of what is measured"
    )
    args = parser.parse_args()
    done = set()
    if args.results.exists():
        done = {tuple(cell[name] for name in KEYS) for cell in map(json.loads, args.results.open())}
    for seed in () if args.markdown else args.seeds:
        for snr in args.snrs:
            with tempfile.TemporaryDirectory() as name:
                labelled = None
                for number, variant in enumerate(args.variants):
                    cell: dict[str, Any] = {
                        "variant": variant,
                        "snr": snr,
                        "seed": seed,
                        "structures": args.count,
                    }
                    cell |= {"per_class": args.per_class, "bin": args.bin, "epochs": args.epochs}
                    if tuple(cell[name] for name in KEYS) in done:
                        continue
                    if labelled is None:
                        labelled, _ = simulate(
                            args, STRUCTURES[: args.count], snr, seed, Path(name)
                        )
                    cell |= measure(args, variant, labelled, Path(name) / f"run{number}", seed)
                    cell |= {
                        "commit": commit(),
                        "threads": args.threads,
                        "precision": args.precision,
                    }
                    with args.results.open("a") as sink:
                        sink.write(json.dumps(cell) + "\n")
                    print(cell, flush=True)
    print(markdown(args.results))


if __name__ == "__main__":
    main()
