"""Does an encoder pretrained on some structures help ``disca`` to sort others that it has not seen?

    python benchmarks/cssl_transfer.py --structures ../shared/data/structures/10A --seeds 0 1

A method pretrains on one set of structures without labels; ``disca --no-refine`` then sorts another
set with its own network, with the same encoder from random weights, and with the pretrained one,
each with and without the rotation-invariant descriptors beside the network's features. The labels
are seen by the score alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from cssl_table import BOX, VOXEL, pretrain, simulate
from disca_table import commit

from cryoet_core.tasks.session import run_method

SEEN = ("1bxn", "6cvm", "3j9i", "1wcm", "1aon")
UNSEEN = ("4v1w", "3cf3", "3iyd", "5wek", "1w6t")
NETWORKS = ("own", "random", "pretrained")
DESCRIPTORS = {"without": (False,), "with": (True,), "both": (False, True)}
KEYS = (
    "snr",
    "seed",
    "network",
    "descriptors",
    "k_given",
    "per_class",
    "bin",
    "method",
    "epochs",
    "iterations",
)
Cell = dict[str, Any]


def measure(args: argparse.Namespace, snr: str, seed: int, done: set[tuple[Any, ...]]) -> None:
    cells: list[Cell] = [
        {
            "snr": snr,
            "seed": seed,
            "network": network,
            "descriptors": descriptors,
            "per_class": args.per_class,
        }
        | {
            "bin": args.bin,
            "method": args.method,
            "epochs": args.epochs,
            "iterations": args.iterations,
            "k_given": k,
        }
        for descriptors in DESCRIPTORS[args.descriptors]
        for k in args.k
        for network in NETWORKS
    ]
    cells = [cell for cell in cells if key(cell) not in done]
    if not cells:
        return
    common: dict[str, Any] = {
        "preset": "fast",
        "report": False,
        "quiet": True,
        "threads": args.threads,
    }
    common |= {"precision": args.precision, "device": args.device, "seed": seed}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "seen").mkdir()
        (folder / "unseen").mkdir()
        _, plain = simulate(args, SEEN, snr, seed, folder / "seen")
        labelled, _ = simulate(args, UNSEEN, snr, seed + 1000, folder / "unseen")
        seconds = pretrain(args, args.method, plain, folder / "encoder", common)
        for number, cell in enumerate(cells):
            options: dict[str, Any] = {
                "refine": False,
                "align_averages": False,
                "iterations": args.iterations,
            }
            options |= {"join_invariants": cell["descriptors"], "max_shift": 2.0}
            options |= (
                {"k_min": cell["k_given"], "k_max": cell["k_given"]} if cell["k_given"] else {}
            )
            options |= {"bin": 1} if args.bin > 1 else {}  # they have been averaged
            options |= (
                {} if cell["descriptors"] or cell["network"] == "pretrained" else {"init": "random"}
            )
            options |= {} if cell["network"] == "own" else {"encoder": "cssl.rb3d"}
            options |= (
                {"weights": str(folder / "encoder")} if cell["network"] == "pretrained" else {}
            )
            facts = run_method(
                "disca", {"data": [labelled]}, options, out=folder / f"disca{number}", **common
            )
            cell |= {
                name: facts.get(name)
                for name in ("k", "matched_accuracy", "ari", "nmi", "wall_seconds")
            }
            cell |= {"pretraining_seconds": seconds, "commit": commit()}
            cell |= {"threads": args.threads, "precision": args.precision}
            with args.results.open("a") as sink:
                sink.write(json.dumps(cell) + "\n")
            print(cell, flush=True)


def key(cell: Cell) -> tuple[Any, ...]:
    return tuple(cell[name] for name in KEYS)


def markdown(results: Path) -> str:
    """Mean matched accuracy, and the number of clusters where disca chose it."""
    found: dict[tuple[Any, ...], dict[str, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for cell in map(json.loads, results.open()):
        found[cell["snr"], cell["iterations"], cell["k_given"], cell["descriptors"]][
            cell["network"]
        ].append(cell)
    heads = ("disca's own network", "cssl.rb3d from random weights", "cssl.rb3d pretrained")
    out = [
        f"| SNR | rounds | clusters | descriptors beside | {' | '.join(heads)} | seeds |",
        "|" + "---|" * 8,
    ]
    for (snr, rounds, k, descriptors), cells in sorted(found.items(), reverse=True):
        shown = [_shown(cells[name], bool(k)) for name in NETWORKS]
        seeds = max(len(values) for values in cells.values())
        words = (
            snr,
            rounds,
            f"{k}, given" if k else "by BIC",
            "yes" if descriptors else "no",
            *shown,
            seeds,
        )
        out.append(f"| {' | '.join(map(str, words))} |")
    return "\n".join(out)


def _shown(cells: list[Cell], given: bool) -> str:
    if not cells:
        return "not run"
    by_seed = sorted(cells, key=lambda cell: int(cell["seed"]))
    scores = " ".join(f"{cell['matched_accuracy']:.2f}" for cell in by_seed)
    counts = "" if given else f", K {' '.join(str(cell['k']) for cell in by_seed)}"
    return f"{np.mean([cell['matched_accuracy'] for cell in cells]):.3f} ({scores}{counts})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--structures", type=Path, help="folder with one MRC map per structure, 10 Å voxels"
    )
    parser.add_argument(
        "--results", type=Path, default=Path("benchmarks/results/cssl_transfer.jsonl")
    )
    parser.add_argument("--method", choices=("simclr", "moco", "swav"), default="simclr")
    parser.add_argument(
        "--descriptors", choices=DESCRIPTORS, default="both", help="beside the network's features"
    )
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--bin", type=int, default=1)
    parser.add_argument("--snrs", nargs="+", default=["inf", "0.05"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, help="of pretraining; default: the preset's")
    parser.add_argument("--iterations", type=int, default=3, help="rounds of disca")
    parser.add_argument(
        "--k", nargs="+", type=int, default=[0, len(UNSEEN)], help="clusters of disca; 0: by BIC"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("auto", "32", "bf16"), default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--markdown", action="store_true", help="only print the table of what is measured"
    )
    args = parser.parse_args()
    if not args.markdown:
        done = (
            {key(json.loads(line)) for line in args.results.open()}
            if args.results.exists()
            else set()
        )
        for seed in args.seeds:
            for snr in args.snrs:
                measure(args, snr, seed, done)
    print(
        f"matched accuracy of disca --no-refine on structures unseen by the encoder, {BOX}^3 of "
        f"{VOXEL:g} Å\n"
    )
    print(markdown(args.results))


if __name__ == "__main__":
    main()
