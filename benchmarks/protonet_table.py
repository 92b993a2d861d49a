"""Table I of paper 002 for ``protonet`` and ``protonet_ce``, and structures that were never in
training.

    python benchmarks/protonet_table.py --structures ../shared/data/structures/10A --threads 2

Five structures; for every SNR a set is simulated, and for every class split (three train, two
unseen) ``protonet_ce`` runs on it and evaluates 1,000 episodes of the unseen classes, with
attention and without: its first stage is the whole of ``protonet``, so both methods are compared on
the same episodes. With ``--parts unseen``, a run of ``protonet`` trained on all five structures
names others from one and five examples each, among particles of five structures that are none of
these. Each cell appends one line of JSON; cells that are in the file already are skipped.
``--markdown`` prints the tables.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from cryoet_core.evaluation.significance import paired_t
from cryoet_core.plugins.discovery import load_trainer
from cryoet_core.plugins.interfaces import Labels
from cryoet_core.runs.run import Run
from cryoet_core.store import Subtomograms, open_subtomograms

FIVE = ("2uv8", "3iyd", "1wcm", "4v6x", "4cr2")
"""For the paper's 5LQW, 1I6V, 6A5L, 5T2C and 5MPA. 3iyd and 1wcm, both RNA polymerases, are the
hard pair.
"""
SPLITS = (("3iyd", "1wcm"), ("2uv8", "4cr2"), ("4v6x", "3iyd"))
"""The unseen classes of each split."""
NEW = ("3j9i", "1bxn", "6cvm", "4v1w", "5t4o")
STRANGERS = ("3cf3", "5wek", "1w6t", "2cg9", "6utj")
SNRS = ("100", "0.1", "0.05", "0.03", "0.01")
PUBLISHED = {5: (0.963, 0.867, 0.798, 0.776, 0.570), 1: (0.892, 0.745, 0.657, 0.677, 0.525)}
KINDS = {
    "protonet": "without attention",
    "protonet_ce": "",
    "protonet, descriptors alone": "descriptors alone",
    "protonet, network alone": "network alone",
}
"""What the rows of the table are called in a run of ``protonet_ce``."""
SHOTS = (1, 5)
KEY = ("part", "snr", "unseen", "seed")


def command(*words: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "cryoet_core.cli.main", *map(str, words)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"cryoet {' '.join(map(str, words))}\n{done.stderr}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()


def simulate(
    args: argparse.Namespace, names: tuple[str, ...], per_class: int, snr: str, seed: int, out: Path
) -> Path:
    paths = [str(args.structures / f"{name}.mrc") for name in names]
    command(
        *(
            "simulate",
            "subtomograms",
            "--structures",
            *paths,
            "--per-class",
            per_class,
            "--voxel-size",
            12,
        ),
        *("--snr", snr, "--cs", 2.0, "--seed", seed, "--out", out, "--json"),
    )
    return out


def run(
    args: argparse.Namespace, method: str, store: Path, out: Path, seed: int, *options: object
) -> dict[str, Any]:
    words = (
        "run",
        method,
        "--data",
        store,
        "--out",
        out,
        "--seed",
        seed,
        *options,
        "--no-report",
        "--json",
    )
    return command(*words, "--threads", args.threads)


# ---- episodes of unseen classes ------------------------------------------------------------------


def episode_cells(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for seed, unseen in enumerate(SPLITS):
        for snr in args.snrs:
            yield {"part": "episodes", "snr": snr, "unseen": ",".join(unseen), "seed": seed}


def measure_episodes(
    args: argparse.Namespace, cell: dict[str, Any], folder: Path
) -> dict[str, Any]:
    store = folder / f"{cell['snr']}.h5"
    if not store.exists():
        simulate(args, FIVE, args.per_class, cell["snr"], 0, store)
    train = [name for name in FIVE if name not in cell["unseen"].split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"
        options = ("--train-classes", ",".join(train), "--evaluation-episodes", args.episodes)
        facts = run(args, "protonet_ce", store, out, cell["seed"], *options)
        rows = json.loads((out / "episodes.json").read_text())["rows"]
    return {"per_class": args.per_class, "rows": rows, "wall_seconds": facts["wall_seconds"]}


# ---- structures that were never in training ------------------------------------------------------


def unseen_cells(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for snr in args.snrs:
        yield {"part": "unseen", "snr": snr, "unseen": "", "seed": 0}


def measure_unseen(args: argparse.Namespace, cell: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Draws of the examples and of the particles to be named; the mean over the draws."""
    store = folder / f"{cell['snr']}.h5"
    if not store.exists():
        simulate(args, FIVE, args.per_class, cell["snr"], 0, store)
    found = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        facts = run(
            args, "protonet", store, out / "run", 0, "--unseen", 0, "--evaluation-episodes", 0
        )
        unknown = simulate(
            args, (*NEW, *STRANGERS), args.unknown, cell["snr"], 1, out / "unknown.h5"
        )
        # what `cryoet predict RUN --support FIVE_EACH.h5 --data UNKNOWN.h5` does, for many draws in
        # one process
        opened = Run.open(out / "run", quiet=True)
        labeller, data = (
            load_trainer("protonet")(opened.config).load(opened),
            open_subtomograms([unknown]),
        )
        pool = open_subtomograms(
            [simulate(args, NEW, 5 * args.draws, cell["snr"], 2, out / "support.h5")]
        )
        rank = np.array([(pool.labels[:i] == label).sum() for i, label in enumerate(pool.labels)])
        for draw in range(args.draws):
            for shot in SHOTS:
                support = pool.subset((rank >= 5 * draw) & (rank < 5 * draw + shot))
                named = labeller.with_support(support, opened)  # type: ignore[attr-defined]
                found[shot].append(score(named.label(data.without_labels(), opened), data))
    rows = [
        {"shot": shot} | {k: float(np.mean([d[k] for d in draws])) for k in draws[0]}
        for shot, draws in found.items()
    ]
    return {
        "per_class": args.per_class,
        "unknown": args.unknown,
        "draws": args.draws,
        "rows": rows,
    } | {"wall_seconds": facts["wall_seconds"]}


def score(labels: Labels, data: Subtomograms) -> dict[str, float]:
    """accuracy: of members, by the most probable class; named: members named rightly when "none"
    may be said; none: strangers called none; members_none: members called none; auroc: of the
    distance, strangers from members; confidence: the mean largest probability of members, to be
    compared with the accuracy."""
    truth = np.array(data.class_names)[data.labels]
    member = np.isin(truth, NEW)
    nearest = np.array(labels.classes)[labels.probabilities.argmax(1)]
    right = (nearest == truth)[member]
    return {
        "accuracy": float(right.mean()),
        "named": float((right & (labels.labels[member] >= 0)).mean()),
        "none": float((labels.labels[~member] < 0).mean()),
        "members_none": float((labels.labels[member] < 0).mean()),
        "auroc": float(roc_auc_score(~member, labels.extra["distance"])),
        "confidence": float(labels.probabilities.max(1)[member].mean()),
    }


PARTS = {"episodes": (episode_cells, measure_episodes), "unseen": (unseen_cells, measure_unseen)}


# ---- tables --------------------------------------------------------------------------------------


def episodes_markdown(lines: list[dict[str, Any]]) -> list[str]:
    """Means over the splits with the range of the splits; then the paired test of the two
    methods.
    """
    cells: dict[tuple[str, int, str], dict[str, float]] = defaultdict(dict)
    for line in (x for x in lines if x["part"] == "episodes"):
        for row in (r for r in line["rows"] if r["of"] == "unseen classes"):
            cells[row["embedding"], row["shot"], line["snr"]][line["unseen"]] = row["accuracy"]
    if not cells:
        return []
    out = [
        "| shots | method | " + " | ".join(f"SNR {snr}" for snr in SNRS) + " |",
        "|" + "---|" * (len(SNRS) + 2),
    ]
    for shot in SHOTS:
        out.append(
            f"| {shot} | published | " + " | ".join(f"{x:.3f}" for x in PUBLISHED[shot]) + " |"
        )
        for name, kind in KINDS.items():
            found = [list(cells[kind, shot, snr].values()) for snr in SNRS]
            shown = [
                f"{np.mean(f):.3f} ({min(f):.3f} to {max(f):.3f}, {len(f)})" if f else "not run"
                for f in found
            ]
            out.append(f"| {shot} | {name} | {' | '.join(shown)} |")
    for shot in SHOTS:
        pairs = [(cells["without attention", shot, snr], cells["", shot, snr]) for snr in SNRS]
        matched = [(a[split], b[split]) for a, b in pairs for split in a]
        if len(matched) > 2:
            one, other = map(np.array, zip(*matched, strict=True))
            test = paired_t(one, other)
            out.append(
                f"\n{shot}-shot, protonet minus protonet_ce over {len(matched)} cells (SNR and "
                "split): "
                f"{test.difference:+.4f}, t = {test.t:.2f}, {test.degrees} degrees of freedom, p = "
                f"{test.p:.3g}"
            )
    return out


def unseen_markdown(lines: list[dict[str, Any]]) -> list[str]:
    found = [line for line in lines if line["part"] == "unseen"]
    if not found:
        return []
    columns = ("accuracy", "named", "none", "members_none", "auroc", "confidence")
    out = ["", "| SNR | shots | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 2)]
    for line in found:
        for row in line["rows"]:
            values = " | ".join(f"{row[column]:.3f}" for column in columns)
            out.append(f"| {line['snr']} | {row['shot']} | {values} |")
    return out


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--structures", type=Path, help="folder with one MRC map per structure, 10 Å voxels"
    )
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/protonet.jsonl"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--snrs", nargs="+", choices=SNRS, default=list(SNRS))
    parser.add_argument("--per-class", type=int, default=200)
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument(
        "--unknown", type=int, default=40, help="particles of each structure that are to be named"
    )
    parser.add_argument("--draws", type=int, default=5, help="draws of the examples")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--markdown", action="store_true", help="only print the tables of what is measured"
    )
    args = parser.parse_args()
    if not args.markdown:
        done = {tuple(line[key] for key in KEY) for line in read(args.results)}
        with tempfile.TemporaryDirectory() as folder:
            for part in args.parts:
                cells, measure = PARTS[part]
                for cell in cells(args):
                    if tuple(cell[key] for key in KEY) in done:
                        continue
                    line = (
                        cell
                        | measure(args, cell, Path(folder))
                        | {"commit": commit(), "threads": args.threads}
                    )
                    with args.results.open("a") as sink:
                        sink.write(json.dumps(line) + "\n")
                    print({k: v for k, v in line.items() if k != "rows"}, flush=True)
    lines = read(args.results)
    print("\n".join(episodes_markdown(lines) + unseen_markdown(lines)))


if __name__ == "__main__":
    main()
