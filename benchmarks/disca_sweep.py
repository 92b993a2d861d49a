"""Width, depth and resolution of the network in ``disca``'s fast preset: what they cost and what
they bring.

    python benchmarks/disca_sweep.py --structures ../shared/data/structures/10A

Two settings of the method for each network: the network's features alone (started by the
invariants' clusters), and joined with the invariants as the preset does. Both without the
refinement, whose labels would hide the difference. Cells that are in the file are skipped;
``--markdown`` prints the table.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from disca_table import SETS, command, commit

CELLS = (("easy5", "0.1"), ("hard8", "0.1"))
NETWORKS = (  # bin, blocks, width
    (4, 3, 8),
    (2, 5, 4),
    (2, 5, 8),
    (2, 5, 16),
    (2, 5, 32),
    (2, 3, 16),
    (1, 5, 8),
    (1, 10, 16),
)
SETTINGS = {"network alone": ("--no-join-invariants",), "joined": ()}


def measure(args: argparse.Namespace, name: str, snr: str) -> None:
    done = (
        {key(json.loads(line)) for line in args.results.open()} if args.results.exists() else set()
    )
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
                "0",
                "--out",
                str(store),
                "--json",
            ),
        )
        for number, network in enumerate(NETWORKS):
            for setting, options in SETTINGS.items():
                cell = dict(zip(("bin", "blocks", "width"), network, strict=True))
                cell |= {"set": name, "snr": snr, "setting": setting}
                if key(cell) in done:
                    continue
                facts = command(
                    *(
                        "run",
                        "disca",
                        "--data",
                        str(store),
                        "--out",
                        str(Path(folder) / f"{number}-{setting}"),
                    ),
                    *(
                        "--no-refine",
                        "--no-align-averages",
                        "--no-report",
                        "--json",
                        "--threads",
                        str(args.threads),
                    ),
                    *(
                        word
                        for at in ("bin", "blocks", "width")
                        for word in (f"--{at}", str(cell[at]))
                    ),
                    *("--iterations", str(args.iterations), *options),
                )
                wanted = ("k", "matched_accuracy", "wall_seconds")
                line = cell | {
                    "commit": commit(),
                    "iterations": args.iterations,
                    "threads": args.threads,
                }
                line |= {"per_class": args.per_class} | {at: facts[at] for at in wanted}
                with args.results.open("a") as sink:
                    sink.write(json.dumps(line) + "\n")
                print(line, flush=True)


def key(cell: dict[str, object]) -> tuple[object, ...]:
    return tuple(cell[at] for at in ("bin", "blocks", "width", "set", "snr", "setting"))


def markdown(results: Path) -> str:
    cells = {key(cell): cell for cell in map(json.loads, results.open())}
    columns = [(name, snr, setting) for name, snr in CELLS for setting in SETTINGS]
    out = [
        "| bin | blocks | width | "
        + " | ".join(f"{n}, SNR {s}, {how}" for n, s, how in columns)
        + " | seconds |"
    ]
    out.append("|" + "---|" * (len(columns) + 4))
    for network in NETWORKS:
        found = [cells.get((*network, *column)) for column in columns]
        if not any(found):
            continue
        scores = [f"{c['matched_accuracy']:.3f} (K {c['k']})" if c else "not run" for c in found]
        seconds = [c["wall_seconds"] for c in found if c]
        out.append(
            f"| {' | '.join(map(str, (*network, *scores)))} | "
            f"{min(seconds):.0f}-{max(seconds):.0f} |"
        )
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--structures", type=Path, help="folder with one MRC map per structure, 10 Å voxels"
    )
    parser.add_argument(
        "--results", type=Path, default=Path("benchmarks/results/disca_sweep.jsonl")
    )
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--markdown", action="store_true", help="only print the table of what is measured"
    )
    args = parser.parse_args()
    if not args.markdown:
        for name, snr in CELLS:
            measure(args, name, snr)
    print(markdown(args.results))


if __name__ == "__main__":
    main()
