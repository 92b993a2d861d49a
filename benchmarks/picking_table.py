"""How well pickers find 80S ribosomes in crowded simulated tomograms, by the share of particles
that is labelled.

    python benchmarks/picking_table.py --structures ../shared/data/structures/10A --seeds 0 1 2

For each seed two tomograms of 128 x 256 x 256 voxels of 10 Å are simulated: 100 ribosomes, 50 each
of five other species (fatty acid synthase and 26S proteasome are nearly as large), membranes and
gold beads. A share of the ribosomes in the first is labelled; every method then picks in both and
is scored against all ribosomes, within one particle radius: "same" is the first tomogram, "new" the
second, of which nothing was labelled. F1 is that of the method's own threshold, best F1 that of the
best threshold for each. pu_picker is told the number of ribosomes, but where it says unknown;
template_matching has the true structure. ``--target`` looks for another of the species. Finished
cells are skipped; ``--markdown`` prints the table.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from disca_table import command, commit

from cryoet_core.evaluation.significance import holm, paired_t
from cryoet_core.formats.picks import write_picks
from cryoet_core.tomograms import open_tomograms

SPECIES = ("4v7r", "2uv8", "4cr2", "3j9i", "4v94", "6cvm")
DIAMETERS = {"4v7r": 280, "2uv8": 270, "4v94": 180, "3j9i": 180}
"""Å, of those that may be the target."""
LARGEST = "4v7r"
SHARES = (0.05, 0.1, 0.3, 0.5, 0.7)
COPIES = {name: 100 if name == LARGEST else 50 for name in SPECIES}
UNKNOWN = "pu_picker, copies unknown"
LEARNERS = {
    "pu_picker": ("pu_picker",),
    UNKNOWN: ("pu_picker",),
    "pu_picker contrast": ("pu_picker", "--lambda1", "0.1"),
    "pu_picker no-pu": ("pu_picker", "--variant", "no-pu"),
    "slice_tracing": ("slice_tracing",),
}
OTHERS = ("dog", "template_matching")
SCORES = ("precision", "recall", "f1", "best_f1", "ap")


def simulate(args: argparse.Namespace, snr: str, seed: int, folder: Path) -> list[Path]:
    """The tomogram to learn from and a new one."""
    paths = [folder / "same.h5", folder / "new.h5"]
    maps = [str(args.structures / f"{name}.mrc") for name in SPECIES]
    for number, path in enumerate(paths):
        command(
            *(
                "simulate",
                "tomogram",
                "--structures",
                *maps,
                "--shape",
                "128",
                "256",
                "256",
                "--voxel-size",
                "10",
            ),
            *(
                "--copies",
                *map(str, COPIES.values()),
                "--snr",
                snr,
                "--membranes",
                "3",
                "--beads",
                "5",
            ),
            *("--seed", str(1000 * number + seed), "--out", str(path), "--json"),
        )
    return paths


def label(tomogram: Path, name: str, share: float, seed: int, out: Path) -> int:
    """Write a share of the target's centres; their number."""
    truth = open_tomograms([tomogram]).picks
    assert truth is not None
    target = truth.of_class(name)
    count = max(1, round(share * len(target)))
    chosen = np.random.default_rng(seed).permutation(len(target))[:count]
    write_picks(out, target.select(np.sort(chosen)), "csv")
    return count


def measure(
    args: argparse.Namespace,
    cell: dict[str, object],
    words: tuple[str, ...],
    paths: list[Path],
    out: Path,
) -> None:
    """Run a method, score it in both tomograms, append a line."""
    options = ("--threads", str(args.threads), "--json", "--no-report", "--seed", str(cell["seed"]))
    facts = command("run", *words, "--data", str(paths[0]), "--out", str(out), *options)
    line = cell | {
        "commit": commit(),
        "threads": args.threads,
        "wall_seconds": facts["wall_seconds"],
    }
    for path in paths:
        scored = command(
            *("evaluate", str(out), "--data", str(path), "--particle", args.target),
            *("--radius", str(DIAMETERS[args.target] / 2)),
            *("--threads", str(args.threads), "--json"),
        )
        line |= {f"{path.stem}_{name}": scored[name] for name in SCORES}
    with args.results.open("a") as sink:
        sink.write(json.dumps(line) + "\n")
    print(line, flush=True)


def run(args: argparse.Namespace, snr: str, seed: int) -> None:
    done = (
        {key(json.loads(line)) for line in args.results.open()} if args.results.exists() else set()
    )
    cells: list[dict[str, object]] = [
        {"snr": snr, "seed": seed, "method": method, "share": share}
        for share in args.shares
        for method in args.methods
        if method in LEARNERS
    ]
    cells += [
        {"snr": snr, "seed": seed, "method": name, "share": None}
        for name in args.methods
        if name in OTHERS
    ]
    if args.target != LARGEST:
        cells = [cell | {"target": args.target} for cell in cells]
    cells = [cell for cell in cells if key(cell) not in done]
    if not cells:
        return
    diameter = ("--diameter", str(DIAMETERS[args.target]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = simulate(args, snr, seed, folder)
        for number, cell in enumerate(cells):
            words: tuple[str, ...]
            if cell["share"] is not None:
                labels = folder / f"labels{number}.csv"
                cell["labels"] = label(
                    paths[0], args.target, float(str(cell["share"])), seed, labels
                )
                words = (*LEARNERS[str(cell["method"])], "--picks", str(labels), *diameter)
                if words[0] == "pu_picker" and cell["method"] != UNKNOWN:
                    words += ("--copies", str(COPIES[args.target]))
            elif cell["method"] == "dog":
                words = ("dog", *diameter)
            else:
                words = (
                    "template_matching",
                    "--template",
                    str(args.structures / f"{args.target}.mrc"),
                )
                words += ("--angular-step", args.angular_step)
            measure(args, cell, words, paths, folder / f"run{number}")


def key(cell: dict[str, object]) -> tuple[object, ...]:
    return (*(cell[name] for name in ("snr", "seed", "method", "share")), target_of(cell))


def target_of(cell: dict[str, object]) -> str:
    return str(cell.get("target", LARGEST))


def markdown(lines: list[dict[str, Any]]) -> str:
    cells: dict[tuple[object, ...], list[dict[str, float]]] = defaultdict(list)
    for cell in lines:
        cells[cell["snr"], cell["method"], cell["share"]].append(cell)
    heads = [f"{share:.0%} labelled" for share in SHARES]
    out = [f"| SNR | method | {' | '.join(heads)} | seconds |", "|" + "---|" * (len(SHARES) + 3)]
    for snr in sorted({str(k[0]) for k in cells}, reverse=True):
        for method in (*LEARNERS, *OTHERS):
            found = [
                cells.get((snr, method, None if method in OTHERS else share), [])
                for share in SHARES
            ]
            if not any(found):
                continue
            seconds = [cell["wall_seconds"] for some in found for cell in some]
            shown = [_cell(some) for some in found]
            shown = [shown[0]] + [""] * (len(SHARES) - 1) if method in OTHERS else shown
            out.append(
                f"| {snr} | {method} | {' | '.join(shown)} | {min(seconds):.0f}-{max(seconds):.0f} "
                "|"
            )
    return "\n".join(out)


def _cell(found: list[dict[str, float]]) -> str:
    if not found:
        return "not run"
    names = ("same_f1", "new_f1", "new_ap")
    # a method that finds nothing has no F1 in its report
    means = [sum(cell[name] or 0.0 for cell in found) / len(found) for name in names]
    return " / ".join(f"{mean:.3f}" for mean in means) + f" ({len(found)})"


def compared(lines: list[dict[str, Any]]) -> list[str]:
    """pu_picker beside each other method: paired t tests over tomograms, Holm's correction.

    A tomogram's difference is the mean over the shares for which both methods were run.
    """
    found = {key(cell)[:4]: cell for cell in lines}
    out = []
    for snr in sorted({str(k[0]) for k in found}, reverse=True):
        tests = {}
        for other in (*list(LEARNERS)[1:], *OTHERS):
            gaps: dict[tuple[object, str], list[float]] = defaultdict(list)
            for (_, seed, _, share), cell in (
                (k, c) for k, c in found.items() if k[0] == snr and k[2] == "pu_picker"
            ):
                beside = found.get((snr, seed, other, None if other in OTHERS else share))
                for name in ("same_f1", "new_f1") if beside else ():
                    gaps[seed, name].append((cell[name] or 0.0) - (beside[name] or 0.0))
            means = [sum(some) / len(some) for some in gaps.values()]
            if len(means) > 2:
                tests[other] = (paired_t(means, [0.0] * len(means)), len(means))
        corrected = holm([test.p for test, _ in tests.values()])
        words = [
            f"{o} {t.difference:+.3f} ({n} tomograms, p {p:.1g})"
            for (o, (t, n)), p in zip(tests.items(), corrected, strict=True)
        ]
        out.append(
            f"SNR {snr}, F1 of pu_picker minus that of others, paired, p by Holm: "
            f"{', '.join(words)}"
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--structures", type=Path, help="folder with one MRC map per structure, 10 Å voxels"
    )
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/picking.jsonl"))
    parser.add_argument("--snrs", nargs="+", default=["0.1", "0.03"])
    parser.add_argument("--target", choices=DIAMETERS, default=LARGEST)
    parser.add_argument("--shares", nargs="+", type=float, choices=SHARES, default=list(SHARES))
    parser.add_argument(
        "--methods", nargs="+", choices=(*LEARNERS, *OTHERS), default=[*LEARNERS, *OTHERS]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--angular-step", default="15", help="of template_matching, degrees")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--markdown", action="store_true", help="only print the table of what is measured"
    )
    args = parser.parse_args()
    if not args.markdown:
        for snr in args.snrs:
            for seed in args.seeds:
                run(args, snr, seed)
    print("F1 in the labelled tomogram / in a new one / average precision in the new one (seeds)")
    for target in DIAMETERS:
        lines = [cell for cell in map(json.loads, args.results.open()) if target_of(cell) == target]
        if lines:
            print("", target, "", markdown(lines), "", *compared(lines), sep="\n")


if __name__ == "__main__":
    main()
