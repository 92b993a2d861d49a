"""``autoencoder`` on simulated sets of real structures (table I of paper 002), and Dice of
``edss3d`` in a tomogram.

    python benchmarks/autoencoder_table.py --structures ../shared/data/structures/10A
    python benchmarks/autoencoder_table.py --structures ../shared/data/structures/10A --edss

Without ``--edss``: for each SNR and seed a set of five complexes is simulated and ``autoencoder``
sorts it into five clusters, labels hidden; a line of JSON has matched accuracy beside chance,
majority and the yardstick ``invariants``. With ``--edss``: a tomogram is simulated, ``dog`` picks
in it, the picks are cut out, ``autoencoder`` clusters them, ``edss3d`` learns from the clusters
that the tool itself suggests and segments the tomogram; the line has the foreground Dice against
the simulated occupancy. Finished cells are skipped; ``--markdown`` prints the tables.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from cryoet_autoencoder.dice import compare
from disca_table import command, commit

STRUCTURES = ("4v7r", "4cr2", "3j9i", "1bxn", "4v94")
VOXEL = 12.0
SNRS = ("100", "0.1", "0.05", "0.03", "0.01")
PUBLISHED = {"100": 0.215, "0.1": 0.214, "0.05": 0.212, "0.03": 0.203, "0.01": 0.20}
"""Paper 002, table I, column Autoencoder: 5 x 1000 cubes."""
ROWS = {"default": (), "no pose": ("--no-pose",), "smoothing 2": ("--smoothing", "2")}
KEY = ("part", "row", "snr", "seed", "per_class", "epochs")


def maps(args: argparse.Namespace) -> list[str]:
    return [str(args.structures / f"{name}.mrc") for name in STRUCTURES]


def table_cell(
    args: argparse.Namespace, cell: dict[str, object], folder: Path
) -> dict[str, object]:
    """Simulate a set and cluster it."""
    store, out, snr, seed = folder / "set.h5", folder / "run", str(cell["snr"]), str(cell["seed"])
    command(
        *(
            "simulate",
            "subtomograms",
            "--structures",
            *maps(args),
            "--per-class",
            str(args.per_class),
        ),
        *(
            "--voxel-size",
            str(VOXEL),
            "--snr",
            snr,
            "--cs",
            "2.0",
            "--seed",
            seed,
            "--out",
            str(store),
            "--json",
        ),
    )
    facts = command(
        *(
            "run",
            "autoencoder",
            "--data",
            str(store),
            "--k",
            str(len(STRUCTURES)),
            "--epochs",
            str(args.epochs),
        ),
        *(*ROWS[str(cell["row"])], "--preset", args.preset, "--out", str(out), "--seed", seed),
        *("--threads", str(args.threads), "--json"),
    )
    rows = [json.loads(line) for line in (out / "metrics.jsonl").open()]
    best = min(
        (row for row in rows if "explained_variance" in row), key=lambda row: row["validation_loss"]
    )
    yardstick = json.loads((out / "yardsticks.json").read_text())["invariants"]["matched_accuracy"]
    wanted = ("n", "matched_accuracy", "ari", "nmi", "majority", "wall_seconds", "peak_memory")
    return {
        **{key: facts.get(key) for key in wanted},
        "chance": 1 / len(STRUCTURES),
        "invariants": yardstick,
        "epochs_run": len(rows),
        "explained_variance": best["explained_variance"],
        "active_units": best["active_units"],
    }


def edss_cell(args: argparse.Namespace, cell: dict[str, object], folder: Path) -> dict[str, object]:
    """From a simulated tomogram to the Dice of its segmentation."""
    tomogram, cubes, seed = folder / "tomogram.h5", folder / "cubes.h5", str(cell["seed"])
    run = ("--seed", seed, "--threads", str(args.threads), "--json")
    command(
        *("simulate", "tomogram", "--structures", *maps(args), "--shape", *map(str, args.shape)),
        *(
            "--voxel-size",
            str(VOXEL),
            "--copies",
            str(args.copies),
            "--snr",
            str(cell["snr"]),
            "--membranes",
            "2",
        ),
        *("--beads", "3", "--seed", seed, "--out", str(tomogram), "--json"),
    )
    picked = command(
        *("run", "dog", "--data", str(tomogram), "--diameter", "220", "--threshold", "2.5"),
        *("--out", str(folder / "dog"), "--no-report", *run),
    )
    cut = command(
        *(
            "data",
            "extract",
            "--data",
            str(tomogram),
            "--picks",
            str(folder / "dog" / "picks" / "tomogram.star"),
        ),
        *("--box", "24", "--out", str(cubes), "--json"),
    )
    clustered = command(
        *(
            "run",
            "autoencoder",
            "--data",
            str(cubes),
            "--k",
            str(args.clusters),
            "--epochs",
            str(args.epochs),
        ),
        *(
            "--batch-size",
            "16",
            "--preset",
            args.preset,
            "--out",
            str(folder / "autoencoder"),
            *run,
        ),
    )
    segmented = command(
        *(
            "run",
            "edss3d",
            "--clusters",
            str(folder / "autoencoder"),
            "--keep",
            "auto",
            "--data",
            str(tomogram),
        ),
        *(
            "--epochs",
            str(args.epochs),
            "--preset",
            args.preset,
            "--out",
            str(folder / "edss3d"),
            *run,
        ),
    )
    [agreement] = compare(folder / "edss3d", [tomogram])
    table = json.loads((folder / "autoencoder" / "tables.json").read_text())[0]
    return {
        "shape": args.shape,
        "copies": args.copies,
        "picks": picked["n"],
        "cubes": cut["n"],
        "suggested": sum(row[-1] == "yes" for row in table["rows"]),
        "clusters": len(table["rows"]),
        **{
            key: agreement[key]
            for key in ("foreground_dice", "precision", "recall", "found_share", "known_share")
        },
        "parts": segmented["n"],
        "seconds_autoencoder": clustered["wall_seconds"],
        "seconds_edss3d": segmented["wall_seconds"],
    }


def measure(args: argparse.Namespace, cell: dict[str, object]) -> dict[str, object]:
    measured = edss_cell if cell["part"] == "edss" else table_cell
    if args.folder is not None:
        name = "-".join(str(cell[key]).replace(" ", "_") for key in KEY)
        (args.folder / name).mkdir(parents=True)
        return measured(args, cell, args.folder / name)
    with tempfile.TemporaryDirectory() as folder:
        return measured(args, cell, Path(folder))


def markdown(results: Path) -> str:
    lines = [json.loads(line) for line in results.open()] if results.exists() else []
    parts = (
        _table([x for x in lines if x["part"] == "table"]),
        _dice([x for x in lines if x["part"] == "edss"]),
    )
    return "\n\n".join(part for part in parts if part)


def _table(lines: Sequence[dict[str, float]]) -> str:
    if not lines:
        return ""
    cells: dict[tuple[object, ...], list[dict[str, float]]] = defaultdict(list)
    for line in lines:
        cells[line["row"], line["per_class"], line["epochs"], line["snr"]].append(line)
    out = [
        f"| | per class | epochs | {' | '.join(f'SNR {snr}' for snr in SNRS)} | seconds |",
        "|" + "---|" * 9,
    ]
    for row, per_class, epochs in sorted({key[:3] for key in cells}, key=str):
        found = [cells.get((row, per_class, epochs, snr), []) for snr in SNRS]
        seconds = [line["wall_seconds"] for some in found for line in some]
        shown = [_means(some, "matched_accuracy") for some in found]
        took = f"{min(seconds):.0f}-{max(seconds):.0f}"
        out.append(
            f"| autoencoder, {row} | {per_class} | {epochs} | {' | '.join(shown)} | {took} |"
        )
    beside = [
        [line for line in lines if line["snr"] == snr and line["row"] == "default"] for snr in SNRS
    ]
    out.append(
        "| invariants (K by BIC) | | | "
        f"{' | '.join(_means(some, 'invariants') for some in beside)} | |"
    )
    out.append(
        f"| chance, majority | | | {' | '.join([f'{1 / len(STRUCTURES):.3f}'] * len(SNRS))} | |"
    )
    out.append(
        "| paper 002, autoencoder | 1000 | | "
        f"{' | '.join(f'{PUBLISHED[snr]:.3f}' for snr in SNRS)} | |"
    )
    return "\n".join(out)


def _means(lines: Sequence[dict[str, float]], name: str) -> str:
    if not lines:
        return "not run"
    mean = sum(line[name] for line in lines) / len(lines)
    return f"{mean:.3f}" + (f" ({len(lines)})" if len(lines) > 1 else "")


def _dice(lines: Sequence[dict[str, float]]) -> str:
    if not lines:
        return ""
    out = [
        "| SNR | seed | picks, cubes | clusters suggested | foreground Dice | precision | recall | "
        "parts | seconds |"
    ]
    out.append("|" + "---|" * 9)
    for line in lines:
        seconds = f"{line['seconds_autoencoder']:.0f} + {line['seconds_edss3d']:.0f}"
        out.append(
            f"| {line['snr']} | {line['seed']} | {line['picks']}, {line['cubes']} | "
            f"{line['suggested']} of "
            f"{line['clusters']} | {line['foreground_dice']:.3f} | {line['precision']:.3f} | "
            f"{line['recall']:.3f} | "
            f"{line['parts']} | {seconds} |"
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
        "--results", type=Path, default=Path("benchmarks/results/autoencoder.jsonl")
    )
    parser.add_argument("--edss", action="store_true", help="the segmentation instead of the table")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=["default"])
    parser.add_argument("--snrs", nargs="+", choices=SNRS, help="default: all; with --edss 0.1")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--per-class", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--preset", choices=("fast", "paper"), default="fast")
    parser.add_argument(
        "--shape", nargs=3, type=int, default=[96, 384, 384], help="of the tomogram, voxels z y x"
    )
    parser.add_argument("--copies", type=int, default=70, help="of each structure in the tomogram")
    parser.add_argument("--clusters", type=int, default=20, help="of the picks")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="keep what is simulated and run in here")
    parser.add_argument(
        "--markdown", action="store_true", help="only print the tables of what is measured"
    )
    args = parser.parse_args()
    args.folder = args.folder and args.folder.absolute()
    if not args.markdown:
        run(args)
    print(markdown(args.results))


def run(args: argparse.Namespace) -> None:
    known = [json.loads(line) for line in args.results.open()] if args.results.exists() else []
    done = {tuple(line[key] for key in KEY) for line in known}
    part = "edss" if args.edss else "table"
    for seed in args.seeds:
        for row in ("default",) if args.edss else args.rows:
            for snr in args.snrs or (("0.1",) if args.edss else SNRS):
                cell: dict[str, object] = {"part": part, "row": row, "snr": snr, "seed": seed}
                cell |= {
                    "per_class": args.copies if args.edss else args.per_class,
                    "epochs": args.epochs,
                }
                if tuple(cell[key] for key in KEY) in done:
                    continue
                line = (
                    cell
                    | {"preset": args.preset, "threads": args.threads, "commit": commit()}
                    | measure(args, cell)
                )
                with args.results.open("a") as sink:
                    sink.write(json.dumps(line) + "\n")
                print(line, flush=True)


if __name__ == "__main__":
    main()
