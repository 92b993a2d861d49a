"""Accuracy by the share of the labels, after SimCLR, MoCo or SwAV and from random weights, on
simulated structures.

    python benchmarks/cssl_table.py --structures ../shared/data/structures/10A --seeds 0
    python benchmarks/cssl_table.py --structures ../shared/data/structures/10A \
        --count 5 --per-class 100 --bin 2 --epochs 40 --fine-tune-epochs 15

For each SNR and seed a set of ``--count`` structures is simulated at 32^3 voxels of 10 Å and split
60:20:20. A method pretrains once, on the training part without its labels; each share of the labels
is then learnt from its weights, and from random ones with the same seed, the same cubes and the
same number of steps. ``--bin 2`` averages 2^3 voxels, which leaves the SNR of the simulation what
it was. Every cell appends one line of JSON; finished cells are skipped; ``--markdown`` prints the
table and the paired tests.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from disca_table import commit

from cryoet_core.evaluation.significance import holm, paired_t
from cryoet_core.simulate.generation import write_subtomograms
from cryoet_core.simulate.settings import SimulationSettings
from cryoet_core.simulate.shapes.structures import load_structure
from cryoet_core.store import SubtomogramWriter, open_subtomograms
from cryoet_core.store.split import save_split, stratified
from cryoet_core.tasks.session import run_method

STRUCTURES = ("1bxn", "6cvm", "3j9i", "1wcm", "1aon", "4v1w", "3cf3", "3iyd", "5wek", "1w6t")
SNRS = ("inf", "0.05", "0.03")
FRACTIONS = (0.25, 0.5, 0.75, 1.0)
PRETRAINED = ("simclr", "moco", "swav")
METHODS = ("supervised", *PRETRAINED)
BOX, VOXEL = 32, 10.0
KEYS = (
    "snr",
    "seed",
    "method",
    "fraction",
    "structures",
    "per_class",
    "bin",
    "preset",
    "epochs",
    "fine_tune_epochs",
)
Cell = dict[str, Any]


def simulate(
    args: argparse.Namespace, names: tuple[str, ...], snr: str, seed: int, folder: Path
) -> tuple[Path, Path]:
    """A labelled store with a split, and its training part without labels."""
    raw, labelled, plain = (folder / f"{name}.h5" for name in ("raw", "labelled", "unlabelled"))
    loaded = [load_structure(args.structures / f"{name}.mrc", VOXEL) for name in names]
    settings = SimulationSettings(
        per_class=args.per_class, box=BOX, voxel_size=VOXEL, snr=float(snr), seed=seed
    )
    write_subtomograms(raw, loaded, settings)
    data = open_subtomograms(raw)
    volumes = torch.from_numpy(data.read(slice(None)))[:, None]
    binned = torch.nn.functional.avg_pool3d(volumes, args.bin)[:, 0].numpy()
    codes = stratified(data.labels, (0.6, 0.2, 0.2), seed)
    facts: dict[str, Any] = {"tilt_range": data.tilt_range}
    for path, rows, labels in ((labelled, slice(None), data.labels), (plain, codes == 0, None)):
        names_of = data.class_names if labels is not None else ()
        with SubtomogramWriter(
            path, BOX // args.bin, VOXEL * args.bin, class_names=names_of, **facts
        ) as writer:
            writer.append(binned[rows], **({} if labels is None else {"labels": labels}))
    save_split(labelled, codes)
    return labelled, plain


def measure(args: argparse.Namespace, snr: str, seed: int, done: set[tuple[Any, ...]]) -> None:
    """Every cell of one set that is not there yet."""
    names = STRUCTURES[: args.count]
    cells = [
        {
            "snr": snr,
            "seed": seed,
            "method": method,
            "fraction": fraction,
            "structures": args.count,
            "per_class": args.per_class,
            "bin": args.bin,
            "preset": args.preset,
            "epochs": args.epochs,
            "fine_tune_epochs": args.fine_tune_epochs,
        }
        for method in args.methods
        for fraction in args.fractions
    ]
    cells = [cell for cell in cells if key(cell) not in done]
    if not cells:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labelled, plain = simulate(args, names, snr, seed, folder)
        common: dict[str, Any] = {
            "preset": args.preset,
            "seed": seed,
            "report": False,
            "quiet": True,
        }
        common |= {"threads": args.threads, "precision": args.precision, "device": args.device}
        facts = {
            "commit": commit(),
            "threads": args.threads,
            "precision": args.precision,
            "device": args.device,
        }
        pretrained: dict[str, float] = {}
        for cell in cells:
            method, options = cell["method"], {"label_fraction": cell["fraction"]}
            if args.fine_tune_epochs:
                options["fine_tune_epochs"] = args.fine_tune_epochs
            if method in PRETRAINED:
                if method not in pretrained:
                    pretrained[method] = pretrain(args, method, plain, folder / method, common)
                options["weights"] = str(folder / method)
            out = folder / f"{method}-{cell['fraction']}"
            started = time.perf_counter()
            run_method("supervised", {"data": [labelled]}, options, out=out, **common)
            cell |= scores(out) | facts | {"seconds": round(time.perf_counter() - started, 1)}
            cell["pretraining_seconds"] = pretrained.get(method)
            with args.results.open("a") as sink:
                sink.write(json.dumps(cell) + "\n")
            print(cell, flush=True)


def pretrain(
    args: argparse.Namespace, method: str, data: Path, out: Path, common: Mapping[str, Any]
) -> float:
    """Seconds that it took; the clusters at its end are of no interest here."""
    options: dict[str, Any] = {"k_min": 1, "k_max": 1, "restarts": 1}
    if args.epochs:
        options["epochs"] = args.epochs
    started = time.perf_counter()
    run_method(method, {"data": [data]}, options, out=out, **common)
    return round(time.perf_counter() - started, 1)


def scores(out: Path) -> Cell:
    """Accuracies of the run's table: fine-tuned, linear probe and nearest neighbours, on validation
    and test part.
    """
    rows = json.loads((out / "tables.json").read_text())[0]["rows"]
    names = ("fine_tuned", "probe", "neighbours")
    found = {}
    for name, row in zip(names, rows, strict=True):
        found |= {f"{name}_val": row[1], f"{name}_test": row[2]}
    return found


def key(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(cell[name] for name in KEYS)


def markdown(results: Path) -> str:
    """One table per setting, accuracy in % on the test part, mean over seeds; the paired tests
    below it.
    """
    lines = [json.loads(line) for line in results.open()]
    settings: dict[tuple[Any, ...], list[Cell]] = defaultdict(list)
    for line in lines:
        settings[key(line)[4:]].append(line)
    return "\n\n".join(
        _setting(dict(zip(KEYS[4:], k, strict=True)), cells) for k, cells in settings.items()
    )


def _setting(setting: Cell, cells: list[Cell]) -> str:
    heads = [f"{part} {name}" for part in ("fine-tuned", "probe") for name in METHODS]
    out = [", ".join(f"{name} {value}" for name, value in setting.items()), ""]
    out += [f"| labels | SNR | {' | '.join(heads)} | seeds |", "|" + "---|" * (len(heads) + 3)]
    for fraction in reversed(FRACTIONS):
        for snr in SNRS:
            found = [c for c in cells if c["fraction"] == fraction and c["snr"] == snr]
            if not found:
                continue
            shown = [
                _mean([c[f"{score}_test"] for c in found if c["method"] == name])
                for score in ("fine_tuned", "probe")
                for name in METHODS
            ]
            seeds = len({c["seed"] for c in found})
            out.append(f"| {fraction:.0%} | {snr} | {' | '.join(shown)} | {seeds} |")
    return "\n".join([*out, "", *_tests(cells)])


def _mean(values: list[float]) -> str:
    return f"{100 * np.mean(values):.1f}" if values else "not run"


def _tests(cells: list[Cell]) -> list[str]:
    """Each method against random weights over all cells that both have: paired t tests,
    Holm-corrected.
    """
    by: dict[str, dict[tuple[Any, ...], float]] = defaultdict(dict)
    for c in cells:
        by[c["method"]][c["snr"], c["seed"], c["fraction"]] = c["fine_tuned_test"]
    found = {}
    for method in PRETRAINED:
        shared = sorted(set(by[method]) & set(by["supervised"]))
        if len(shared) > 1:
            test = paired_t([by[method][k] for k in shared], [by["supervised"][k] for k in shared])
            found[method] = (test, len(shared))
    corrected = holm([test.p for test, _ in found.values()])
    return [
        f"{method} - supervised: {100 * test.difference:+.1f} points over {n} cells, paired t = "
        f"{test.t:.2f}, "
        f"p = {test.p:.2g}, Holm {p:.2g}"
        for (method, (test, n)), p in zip(found.items(), corrected, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--structures", type=Path, help="folder with one MRC map per structure, 10 Å voxels"
    )
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/cssl.jsonl"))
    parser.add_argument(
        "--count", type=int, default=10, help="structures, the first so many of the list"
    )
    parser.add_argument("--per-class", type=int, default=500)
    parser.add_argument("--bin", type=int, default=1)
    parser.add_argument("--snrs", nargs="+", choices=SNRS, default=list(SNRS))
    parser.add_argument(
        "--fractions", nargs="+", type=float, choices=FRACTIONS, default=list(FRACTIONS)
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--preset", choices=("fast", "paper"), default="fast")
    parser.add_argument("--epochs", type=int, help="of pretraining; default: the preset's")
    parser.add_argument("--fine-tune-epochs", type=int, help="default: the preset's")
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
    print(markdown(args.results))


if __name__ == "__main__":
    main()
