"""Target accuracy of ``fsft``, its stages, its ablations and the five other methods on simulated
pairs of domains.

    python benchmarks/fsft_table.py --structures ../shared/data/structures/10A \
        --pairs 0.1:0.1 1000:1000 \
        --variants fsft no-coral adversarial no-conv-discriminator --seeds 0 1 2 --shots 3

Source (Cs 2.2 mm, defocus 10 um) and target (Cs 2.0 mm, defocus 5 um) are simulated of the same
structures, with poses and noise of their own. A cell is one variant at one pair of SNRs, number of
shots and seed; each appends a line of JSON, and cells that are in the file already are skipped, so
an interrupted table goes on. Stage 1 depends on the source and the seed alone, stage 2.1 of fsft on
the target as well: the first cell that needs them trains them and the others take them over
(``--no-share`` trains them each time). ``--markdown`` prints the tables of what is measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from disca_table import command, commit

from cryoet_core.benchmark.board.intervals import mean_of
from cryoet_core.evaluation.significance import holm, paired_t
from cryoet_core.plugins.discovery import load_trainer
from cryoet_core.runs.inputs import open_inputs
from cryoet_core.runs.run import Run

STRUCTURES = (
    *(
        "4v4r",
        "4v4r-50S",
        "4v4r-30S",
        "4v6x",
        "5mrc",
        "4cr2",
        "3j9i",
        "6utj",
        "2uv8",
        "4v94",
        "1oel",
        "1aon",
    ),
    *("1bxn", "6cvm", "4v1w", "7n4y", "3cf3", "1qvr", "3iyd", "1wcm", "6fml", "1w6t", "6w1z"),
)
"""23, of 375 to 3500 kDa, alike ones among them; ``--classes n`` takes n that are spread over this
list.
"""
OPTICS = {"source": ("--cs", "2.2", "--defocus", "10"), "target": ("--cs", "2.0", "--defocus", "5")}
VOXEL = "12"
ABLATIONS: dict[str, dict[str, Any]] = {
    "fsft": {},
    "no-coral": {"coral": False},
    "adversarial": {"adversarial": True},
    "no-conv-discriminator": {"conv_discriminator": False},
}
OTHERS = ("fada", "deep_coral", "swd", "finetune", "source_only")
SHOTLESS = ("deep_coral", "swd", "source_only")
"""Learn from no shots: a cell of theirs stands for every number of shots (shots only leave the
accuracy).
"""
SNRS = ("1000", "0.5", "0.1", "0.05", "0.03")
KEYS = ("variant", "source", "target", "shots", "seed", "classes", "per_class", "box", "preset")
Cell = dict[str, Any]


def simulate(args: argparse.Namespace, domain: str, snr: str, seed: int) -> Path:
    """The store of one domain, made once. Target seeds differ from source seeds, so no pose is in
    both.
    """
    path = args.work / f"{domain}-{args.classes}x{args.per_class}-{args.box}-{snr}-{seed}.h5"
    if not path.exists():
        chosen = [STRUCTURES[i * len(STRUCTURES) // args.classes] for i in range(args.classes)]
        maps = [str(args.structures / f"{name}.mrc") for name in chosen]
        command(
            *(
                "simulate",
                "subtomograms",
                "--structures",
                *maps,
                "--per-class",
                str(args.per_class),
            ),
            *("--box", str(args.box), "--voxel-size", VOXEL, "--snr", snr, *OPTICS[domain]),
            *(
                "--seed",
                str(seed + (1000 if domain == "target" else 0)),
                "--threads",
                str(args.threads),
            ),
            *("--out", str(path), "--json"),
        )
    return path


def measure(args: argparse.Namespace, cell: Cell) -> Cell:
    """Train one variant and take its accuracy on the target volumes that are no shots."""
    method = "fsft" if cell["variant"] in ABLATIONS else cell["variant"]
    options: dict[str, Any] = {
        "shots": cell["shots"],
        **ABLATIONS.get(cell["variant"], {}),
        "calibrate": False,
    }
    paths = {d: simulate(args, d, cell[d], cell["seed"]) for d in OPTICS}
    shared = [args.work / f"stage1-{args.preset}-{paths['source'].stem}"] if args.share else []
    if shared and method == "fsft" and cell["variant"] != "no-coral":
        shared.append(args.work / f"{shared[0].name}-stage2-{paths['target'].stem}")
    for folder in shared:  # the last one that there is
        if folder.exists():
            options["start"] = str(folder)
    trainer = load_trainer(method)
    config = trainer.Config.from_layers(args.preset, {}, options)
    out = Path(tempfile.mkdtemp(dir=args.work)) / "run"
    given = {name: [path] for name, path in paths.items()}
    settings: dict[str, Any] = {
        "seed": cell["seed"],
        "device": args.device,
        "threads": args.threads,
    }
    run = Run.create(method, config, given, out, quiet=True, precision=args.precision, **settings)
    data = open_inputs(trainer, given)
    begun = time.process_time()
    labels = trainer(config).fit(data, run).label(data["target"], run)
    processor = time.process_time() - begun
    run.finish()
    target = data["target"]
    true = [labels.classes.index(target.class_names[label]) for label in target.labels]
    rows = labels.extra["split"] == 2
    stages = [
        dict(zip(("stage", "epochs", "loss", "accuracy", "seconds"), row, strict=True))
        for row in _rows(out)
    ]
    for folder in shared:
        if not folder.exists():
            shutil.copytree(out, folder)
    shutil.rmtree(out.parent)
    return cell | {
        "accuracy": float((labels.labels == true)[rows].mean()),
        "n": int(rows.sum()),
        "stages": stages,
        "processor_seconds": round(processor, 1),
        "precision": args.precision,
        "threads": args.threads,
        "commit": commit(),
    }


def _rows(out: Path) -> list[list[Any]]:
    rows: list[list[Any]] = json.loads((out / "tables.json").read_text())[0]["rows"]
    return rows


def wanted(args: argparse.Namespace) -> Iterator[Cell]:
    for seed in args.seeds:
        for shots in args.shots:
            for pair in args.pairs:
                source, target = pair.split(":")
                for variant in args.variants:
                    values = (
                        variant,
                        source,
                        target,
                        shots,
                        seed,
                        args.classes,
                        args.per_class,
                        args.box,
                        args.preset,
                    )
                    yield dict(zip(KEYS, values, strict=True))


def key(cell: Cell) -> tuple[Any, ...]:
    return tuple(cell[name] for name in KEYS)


def markdown(results: Path) -> str:
    """Stages, ablations and pairs of SNRs, for each setting that was measured."""
    settings: dict[tuple[Any, ...], list[Cell]] = defaultdict(list)
    for cell in map(json.loads, results.open()):
        settings[
            tuple(cell[name] for name in ("preset", "classes", "per_class", "box", "shots"))
        ].append(cell)
    parts = []
    for (preset, classes, per_class, box, shots), cells in settings.items():
        head = f"### Preset {preset}, {classes} classes x {per_class}, box {box}, {shots} shots"
        alike = [
            c
            for other, found in settings.items()
            if other[:4] == (preset, classes, per_class, box)
            for c in found
        ]
        pairs = with_shotless(cells, alike)
        tables = (stage_table(cells), ablation_table(cells), pair_table(pairs), verdict(pairs))
        parts.append("\n\n".join([head, *(table for table in tables if table)]))
    return "\n\n".join(parts)


def with_shotless(cells: list[Cell], alike: list[Cell]) -> list[Cell]:
    """The cells and, where methods without shots were run with another number of shots only,
    those.
    """

    def place(cell: Cell) -> tuple[Any, ...]:
        return tuple(cell[name] for name in ("variant", "source", "target", "seed"))

    known = {place(cell) for cell in cells}
    pairs = {place(cell)[1:] for cell in cells if cell["variant"] == "fsft"}
    more = [
        c
        for c in alike
        if c["variant"] in SHOTLESS and place(c)[1:] in pairs and place(c) not in known
    ]
    return cells + list({place(cell): cell for cell in more}.values())


def stage_table(cells: list[Cell]) -> str:
    found = [
        cell for cell in cells if cell["variant"] == "fsft" and cell["source"] == cell["target"]
    ]
    if not found:
        return ""
    titles = [stage["stage"] for stage in found[0]["stages"]]
    lines = [f"| SNR | {' | '.join(titles)} |", "|" + "---|" * (len(titles) + 1)]
    for snr in SNRS:
        rows = [
            [stage["accuracy"] for stage in cell["stages"]]
            for cell in found
            if cell["source"] == snr
        ]
        if rows:
            lines.append(
                f"| {snr} | "
                f"{' | '.join(shown(list(column)) for column in zip(*rows, strict=True))} |"
            )
    return "Accuracy after each stage (Table 4)\n\n" + "\n".join(lines)


def ablation_table(cells: list[Cell]) -> str:
    cells = [
        cell for cell in cells if cell["variant"] in ABLATIONS and cell["source"] == cell["target"]
    ]
    if len({cell["variant"] for cell in cells}) < 2:
        return ""
    snrs = [
        snr
        for snr in SNRS
        if any(cell["source"] == snr and cell["variant"] != "fsft" for cell in cells)
    ]
    lines = [
        f"| variant | {' | '.join('SNR ' + snr for snr in snrs)} |",
        "|" + "---|" * (len(snrs) + 1),
    ]
    for variant in ABLATIONS:
        scores = [
            [c["accuracy"] for c in cells if c["variant"] == variant and c["source"] == snr]
            for snr in snrs
        ]
        lines.append(f"| {variant} | {' | '.join(map(shown, scores))} |")
    return "Ablations (Table 5)\n\n" + "\n".join(lines)


def pair_table(cells: list[Cell]) -> str:
    methods = ("source_only", "deep_coral", "swd", "finetune", "fada", "fsft")
    cells = [cell for cell in cells if cell["variant"] in methods]
    pairs = [
        (s, t)
        for s in SNRS
        for t in SNRS
        if any((c["source"], c["target"]) == (s, t) for c in cells)
    ]
    pairs = [
        p
        for p in pairs
        if any((c["source"], c["target"]) == p and c["variant"] != "fsft" for c in cells)
    ]
    if not pairs:
        return ""
    lines = [f"| source → target | {' | '.join(methods)} |", "|" + "---|" * (len(methods) + 1)]
    for pair in pairs:
        scores = [
            [
                c["accuracy"]
                for c in cells
                if c["variant"] == method and (c["source"], c["target"]) == pair
            ]
            for method in methods
        ]
        best = max(statistics.mean(score) for score in scores if score)
        marked = [
            f"**{shown(s)}**" if s and statistics.mean(s) == best else shown(s) for s in scores
        ]
        lines.append(f"| {pair[0]} → {pair[1]} | {' | '.join(marked)} |")
    return "Pairs of SNRs (Table 1)\n\n" + "\n".join(lines)


def verdict(cells: list[Cell]) -> str:
    """In how many pairs of SNRs fsft is best, or within the interval of the best, and how it
    compares over all.
    """
    scores: dict[tuple[str, str], dict[str, dict[int, float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for cell in cells:
        if cell["variant"] == "fsft" or cell["variant"] in OTHERS:
            scores[cell["source"], cell["target"]][cell["variant"]][cell["seed"]] = cell["accuracy"]
    whole = {pair: found for pair, found in scores.items() if set(found) == {"fsft", *OTHERS}}
    if len(whole) < 2:
        return ""
    best, tied, below = [], [], []
    for pair, found in whole.items():
        name = max(found, key=lambda method: statistics.mean(found[method].values()))
        gaps = mean_of(
            [
                found[name][seed] - ours
                for seed, ours in found["fsft"].items()
                if seed in found[name]
            ]
        )
        if gaps is None:  # no seed of both is finished yet
            continue
        if name == "fsft":
            best.append(pair)
        elif gaps.half is not None and gaps.value <= gaps.half:
            tied.append(pair)
        else:
            below.append(f"{pair[0]} → {pair[1]} ({name} +{gaps.value:.3f})")
    lines = [
        f"fsft has the highest mean in {len(best)} of {len(whole)} cells; in {len(tied)} more the "
        "highest is above it "
        "by no more than the 95 % interval of their difference, paired by seed; below it: "
        + ("; ".join(below) or "none")
    ]
    return "\n\n".join([*lines, *pooled(whole)])


def pooled(whole: dict[tuple[str, str], dict[str, dict[int, float]]]) -> list[str]:
    """fsft beside each other method over all pairs of SNRs and seeds: paired t tests, Holm's
    correction.
    """
    tests = {}
    for other in OTHERS:
        matched = [
            (f["fsft"][seed], f[other][seed])
            for f in whole.values()
            for seed in f["fsft"]
            if seed in f[other]
        ]
        tests[other] = paired_t(*zip(*matched, strict=True))
    corrected = holm([test.p for test in tests.values()])
    found = [
        f"{o} {t.difference:+.3f} (p {p:.1g})"
        for (o, t), p in zip(tests.items(), corrected, strict=True)
    ]
    return [
        f"fsft minus the others, mean over cells and seeds, paired, p by Holm: {', '.join(found)}"
    ]


def shown(scores: list[float]) -> str:
    """Mean ± sample standard deviation (number of seeds)."""
    if not scores:
        return "not run"
    spread = f" ± {statistics.stdev(scores):.3f}" if len(scores) > 1 else ""
    return f"{statistics.mean(scores):.3f}{spread} ({len(scores)})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--structures", type=Path, help="folder with one MRC map per structure, 10 Å voxels"
    )
    parser.add_argument(
        "--results", type=Path, default=Path(__file__).parent / "results" / "fsft.jsonl"
    )
    parser.add_argument(
        "--work", type=Path, help="folder for stores and stage 1; kept. Default: a temporary one"
    )
    parser.add_argument(
        "--variants", nargs="+", choices=(*ABLATIONS, *OTHERS), default=["fsft", *OTHERS]
    )
    parser.add_argument(
        "--pairs",
        nargs="+",
        default=[f"{s}:{t}" for s in SNRS for t in SNRS],
        help="SOURCE:TARGET SNR",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--shots", nargs="+", type=int, default=[3, 7])
    parser.add_argument("--classes", type=int, default=23)
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--box", type=int, default=32)
    parser.add_argument("--preset", choices=("fast", "paper"), default="fast")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--share", action=argparse.BooleanOptionalAction, default=True, help="stage 1 among cells"
    )
    parser.add_argument(
        "--stop-after",
        type=float,
        default=float("inf"),
        help="minutes after which no cell is begun",
    )
    parser.add_argument(
        "--markdown", action="store_true", help="only print the tables of what is measured"
    )
    args = parser.parse_args()
    if not args.markdown:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            args.work = args.work or Path(folder)
            args.work.mkdir(parents=True, exist_ok=True)
            done = (
                {key(json.loads(line)) for line in args.results.open()}
                if args.results.exists()
                else set()
            )
            for cell in wanted(args):
                if key(cell) in done or time.monotonic() - started > 60 * args.stop_after:
                    continue
                line = measure(args, cell)
                with args.results.open("a") as sink:
                    sink.write(json.dumps(line) + "\n")
                print(
                    {name: line[name] for name in (*KEYS[:5], "accuracy", "processor_seconds")},
                    flush=True,
                )
    print(markdown(args.results))


if __name__ == "__main__":
    main()
