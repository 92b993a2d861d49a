"""Matched accuracy of ``disca`` and ``invariants`` on simulated sets of real structures: the table
of the README.

    python benchmarks/disca_table.py --structures ../shared/data/structures/10A \
        --rows plain --seeds 0 1 2 --results benchmarks/results/disca.jsonl

Every cell simulates its set, runs both methods with K free in 2..15 and labels hidden, and appends
one line of JSON; cells that are in the file already are skipped, so an interrupted table goes on.
``--markdown`` prints the table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

SETS = {
    "easy5": (12.0, ("4v7r", "4cr2", "3j9i", "1bxn", "4v94")),
    "hard8": (10.0, ("1bxn", "6cvm", "4v1w", "3cf3", "3iyd", "1wcm", "5wek", "1w6t")),
}
SNRS = ("100", "0.1", "0.03", "0.01")
ROWS = {
    "plain": (),
    "crowding 3": ("--crowding", "3"),
    "defocus 3-6": ("--defocus", "3", "6"),
    "off-centre 4": ("--max-shift", "4"),
    "30% empty": ("--empty-fraction", "0.3"),
}
METHODS = ("invariants", "disca")


def command(*words: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "cryoet_core.cli.main", *words], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"cryoet {' '.join(words)}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()


def measure(
    args: argparse.Namespace, row: str, name: str, snr: str, seed: int
) -> list[dict[str, object]]:
    voxel, structures = SETS[name]
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "set.h5"
        paths = [str(args.structures / f"{s}.mrc") for s in structures]
        command(
            *(
                "simulate",
                "subtomograms",
                "--structures",
                *paths,
                "--per-class",
                str(args.per_class),
            ),
            *(
                "--voxel-size",
                str(voxel),
                "--snr",
                snr,
                "--cs",
                "2.0",
                "--seed",
                str(seed),
                *ROWS[row],
            ),
            *("--out", str(store), "--json"),
        )
        lines = []
        for method in METHODS:
            facts = command(
                *(
                    "run",
                    method,
                    "--data",
                    str(store),
                    "--out",
                    str(Path(folder) / method),
                    "--seed",
                    str(seed),
                ),
                *("--no-report", "--json", "--threads", str(args.threads)),
            )
            wanted = (
                "n",
                "k",
                "matched_accuracy",
                "balanced_accuracy",
                "ari",
                "nmi",
                "wall_seconds",
                "peak_memory",
            )
            cell = {
                "row": row,
                "set": name,
                "snr": snr,
                "seed": seed,
                "method": method,
                "commit": commit(),
            }
            lines.append(cell | {"threads": args.threads} | {key: facts.get(key) for key in wanted})
    return lines


def markdown(results: Path) -> str:
    cells: dict[tuple[str, str, str, str], list[dict[str, float]]] = defaultdict(list)
    for line in results.read_text().splitlines():
        cell = json.loads(line)
        cells[cell["row"], cell["set"], cell["method"], cell["snr"]].append(cell)
    out = [
        "| data | set | method | " + " | ".join(f"SNR {s}" for s in SNRS) + " | K found | seconds |"
    ]
    out.append("|" + "---|" * (len(SNRS) + 5))
    for row in ROWS:
        for name in SETS:
            for method in METHODS:
                found = [cells.get((row, name, method, snr), []) for snr in SNRS]
                if not any(found):
                    continue
                scores = [
                    f"{sum(c['matched_accuracy'] for c in f) / len(f):.3f}" if f else "not run"
                    for f in found
                ]
                ks = " / ".join(",".join(str(c["k"]) for c in f) for f in found)
                seconds = [c["wall_seconds"] for f in found for c in f]
                took = f"{min(seconds):.0f}-{max(seconds):.0f}"
                out.append(f"| {row} | {name} | {method} | {' | '.join(scores)} | {ks} | {took} |")
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--structures", type=Path, help="folder with one MRC map per structure, 10 Å voxels"
    )
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/disca.jsonl"))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--snrs", nargs="+", choices=SNRS, default=list(SNRS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--per-class", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--markdown", action="store_true", help="only print the table of what is measured"
    )
    args = parser.parse_args()
    if not args.markdown:
        done = set()
        if args.results.exists():
            done = {
                tuple(json.loads(x)[k] for k in ("row", "set", "snr", "seed"))
                for x in args.results.open()
            }
        for seed in args.seeds:
            for row in args.rows:
                for name in args.sets:
                    for snr in args.snrs:
                        if (row, name, snr, seed) in done:
                            continue
                        lines = measure(args, row, name, snr, seed)
                        with args.results.open("a") as sink:
                            sink.writelines(json.dumps(line) + "\n" for line in lines)
                        for line in lines:
                            print(line, flush=True)
    print(markdown(args.results))


if __name__ == "__main__":
    main()
