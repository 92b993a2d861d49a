"""How long ``fsft`` trains: beside ``finetune`` and ``swd``, beside the reference's order of work,
and in what memory.

    python benchmarks/bench_fsft.py methods         # six methods at the same epochs
    python benchmarks/bench_fsft.py order           # same schedule in the reference's order
    python benchmarks/bench_fsft.py memory          # peak memory for 43 classes x 100 cubes of 35^3

Seconds are processor time of the training alone (one thread: nothing else is waited for), scoring
and calibration left out. ``order`` restates the reference: every epoch reads all cubes one by one
and makes a list of all batches; pairs are put together cube by cube and pass encoders that are
frozen but keep gradients; plain modules in their default layout. Epochs are ``--share`` of the
published ones, which hardly moves the ratio. The cubes are noise, which takes as long.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cryoet_fsft import pair_stages, stages
from cryoet_fsft.losses import coral, domain_class_confusion
from disca_table import command, commit
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cryoet_core.plugins.discovery import load_trainer
from cryoet_core.runs.inputs import open_inputs
from cryoet_core.runs.run import Run
from cryoet_core.store import Subtomograms, SubtomogramWriter

PUBLISHED = {
    "source_epochs": 20,
    "align_epochs": 20,
    "discriminator_epochs": 100,
    "adapt_epochs": 30,
}
METHODS = ("source_only", "deep_coral", "fada", "fsft", "finetune", "swd")
SPENT: dict[str, list[float]] = defaultdict(list)
"""Processor seconds of each epoch of a stage."""


def write_noise(path: Path, classes: int, per_class: int, box: int, seed: int) -> Path:
    names = [f"c{i:02d}" for i in range(classes)]
    generator = np.random.default_rng(seed)
    with SubtomogramWriter(path, box, 10.0, class_names=names, n=classes * per_class) as writer:
        for _ in range(per_class):
            writer.append(
                generator.normal(size=(classes, box, box, box)).astype(np.float32),
                np.arange(classes),
            )
    return path


def watch() -> None:
    """Note each epoch's processor time in ``SPENT`` under the stage's name."""
    kinds = (stages.SourceStage, stages.AlignStage, stages.TuneStage)
    for kind in (*kinds, pair_stages.DiscriminatorStage, pair_stages.ConfusionStage):
        original = kind.epoch

        def epoch(self: Any, number: int, original: Any = original) -> float:
            begun = time.process_time()
            loss: float = original(self, number)
            SPENT[self.name].append(time.process_time() - begun)
            return loss

        kind.epoch = epoch  # type: ignore[method-assign]


def trained(
    method: str, given: dict[str, list[Path]], preset: str, out: Path, **options: Any
) -> dict[str, float]:
    """Processor seconds of each stage of a method."""
    trainer = load_trainer(method)
    known = {name: value for name, value in options.items() if name in trainer.Config.model_fields}
    config = trainer.Config.from_layers(preset, {}, known | {"calibrate": False})
    run = Run.create(method, config, given, out, quiet=True, device="cpu", threads=1)
    SPENT.clear()
    trainer(config).fit(open_inputs(trainer, given), run)
    run.finish()
    return {name: round(sum(seconds), 2) for name, seconds in SPENT.items()}


def methods(args: argparse.Namespace, folder: Path, given: dict[str, list[Path]]) -> None:
    """The six at the same epochs: what fsft spends on stages 2.1 and 3, the others spend on their
    one adaptation.
    """
    first, align, tell, adapt = (max(1, round(args.share * n)) for n in PUBLISHED.values())
    for preset in args.presets:
        taken: dict[str, list[float]] = defaultdict(list)
        epochs: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
        for turn, method in (
            (turn, method) for turn in range(args.rounds) for method in args.methods
        ):
            alone = method in ("deep_coral", "swd", "finetune")
            options = {
                "source_epochs": first + (align + adapt if method == "source_only" else 0),
                "align_epochs": align + adapt if alone else align,
                "discriminator_epochs": tell,
                "adapt_epochs": align + adapt if alone or method == "fada" else adapt,
            }
            parts = trained(
                method,
                given,
                preset,
                folder / f"{preset}-{method}-{turn}",
                shots=args.shots,
                **options,
            )
            taken[method].append(sum(parts.values()))
            for name, seconds in SPENT.items():
                epochs[method][name].append(list(seconds))
            print(
                json.dumps(
                    {"preset": preset, "method": method, "seconds": round(taken[method][-1], 2)}
                    | parts
                )
            )
        whole = {m: round(sum(map(by_median, stages.values())), 2) for m, stages in epochs.items()}
        print(f"seconds by the median epoch of each stage, {preset}:", whole)
        if "fsft" in taken:
            ours = statistics.median(taken["fsft"])
            print(
                f"fsft / other, {preset}:",
                {m: round(ours / statistics.median(s), 2) for m, s in taken.items()},
            )
            print(
                "by the median epoch:",
                {m: round(whole["fsft"] / seconds, 3) for m, seconds in whole.items()},
            )


def by_median(rounds: list[list[float]]) -> float:
    """Seconds of a stage of which every epoch takes what the median one does, but for the first,
    that of first ones.

    The load of others, which comes and goes, is so left out; what a stage does once, in its first
    epoch, is not.
    """
    first, later = (
        [epochs[0] for epochs in rounds],
        [seconds for epochs in rounds for seconds in epochs[1:]],
    )
    return statistics.median(first) + (
        (len(rounds[0]) - 1) * statistics.median(later) if later else 0.0
    )


def order(args: argparse.Namespace, folder: Path, given: dict[str, list[Path]]) -> None:
    """fsft under the published schedule beside the reference's order of work."""
    epochs = {name: max(1, round(args.share * n)) for name, n in PUBLISHED.items()}
    network = {"width": args.width, "channels": args.channels}
    ours = trained("fsft", given, "paper", folder / "ours", shots=args.shots, **epochs, **network)
    theirs = Reference(args, open_inputs(load_trainer("fsft"), given)).run(list(epochs.values()))
    fast = trained("fsft", given, "fast", folder / "fast", shots=args.shots, **epochs)
    for name, parts in (
        ("ours, preset paper", ours),
        ("reference", theirs),
        ("ours, preset fast", fast),
    ):
        print(json.dumps({"what": name, "seconds": round(sum(parts.values()), 2)} | parts))
    total = sum(theirs.values())
    ratios = {name: round(theirs[name] / ours[name], 2) for name in ours}
    print(f"reference / ours, preset paper: {total / sum(ours.values()):.2f} {ratios}")
    print(f"reference / ours, preset fast: {total / sum(fast.values()):.2f}")


def memory(args: argparse.Namespace, folder: Path) -> None:
    """One epoch of each stage on 43 classes of cubes of 35^3 in both domains."""
    count, names = args.memory_per_class, ("source", "target")
    paths = [
        write_noise(folder / f"large-{name}.h5", 43, count, 35, i) for i, name in enumerate(names)
    ]
    for preset in args.presets:
        words = [word for name in PUBLISHED for word in (f"--{name.replace('_', '-')}", "1")]
        facts: Any = command(
            *(
                "run",
                "fsft",
                "--source",
                str(paths[0]),
                "--target",
                str(paths[1]),
                "--preset",
                preset,
                *words,
            ),
            *(
                "--shots",
                str(min(7, count - 1)),
                "--no-calibrate",
                "--threads",
                str(args.threads),
                "--device",
                "cpu",
                "--no-report",
            ),
            *("--out", str(folder / f"memory-{preset}"), "--json"),
        )
        print(
            json.dumps({"preset": preset, "peak_gb": round(facts["peak_memory"]["host"] / 1e9, 2)}),
            flush=True,
        )


class Reference:
    """The reference code's order of work, restated plainly; its losses are ours."""

    def __init__(self, args: argparse.Namespace, data: dict[str, Subtomograms]) -> None:
        self.data, self.shots, h, z = data, args.shots, args.width, args.channels
        dim = z * (data["source"].box // 16) ** 3
        self.fronts = [nn.Sequential(*plain(1, h), *plain(h, h)) for _ in range(2)]
        self.shared = nn.Sequential(*plain(h, h), *plain(h, z), nn.Flatten())
        self.classifier = nn.Linear(dim, len(data["source"].class_names))
        self.conv = nn.Sequential(
            *plain(2 * h, 2 * h), *plain(2 * h, z), nn.Flatten(), nn.Linear(dim, 64)
        )
        self.vector = nn.Sequential(nn.Linear(2 * dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 4))
        self.random = random.Random(0)

    def run(self, epochs: list[int]) -> dict[str, float]:
        spent = {}
        for name, work, count in zip(
            ("source", "align", "discriminate", "adapt"),
            (self.source, self.align, self.discriminate, self.adapt),
            epochs,
            strict=True,
        ):
            begun = time.process_time()
            work(count)
            spent[name] = round(time.process_time() - begun, 2)
        return spent

    def cubes(self, domain: str) -> list[Tensor]:
        """All cubes of a domain, read and standardised one by one."""
        found = []
        for i in range(len(self.data[domain])):
            cube = torch.from_numpy(self.data[domain][i])
            found.append(((cube - cube.mean()) / cube.std())[None])
        return found

    def batches(
        self, cubes: list[Tensor], labels: np.ndarray, size: int
    ) -> list[tuple[Tensor, Tensor]]:
        order = self.random.sample(range(len(cubes)), len(cubes))
        parts = [order[i : i + size] for i in range(0, len(order) - size + 1, size)] or [order]
        return [
            (torch.stack([cubes[i] for i in part]), torch.from_numpy(labels[part]))
            for part in parts
        ]

    def source(self, epochs: int) -> None:
        optimiser = adam(1e-3, self.fronts[0], self.shared, self.classifier)
        for _ in range(epochs):
            for x, y in self.batches(self.cubes("source"), self.data["source"].labels, 32):
                descend(
                    optimiser, cross_entropy(self.classifier(self.shared(self.fronts[0](x))), y)
                )

    def align(self, epochs: int) -> None:
        self.fronts[1].load_state_dict(self.fronts[0].state_dict())
        optimiser = adam(2e-4, *self.fronts, self.shared, self.classifier)
        for _ in range(epochs):
            ours = self.batches(self.cubes("source"), self.data["source"].labels, 128)
            theirs = self.batches(self.cubes("target"), self.data["target"].labels, 128)
            for (x, y), (u, _) in zip(ours, theirs, strict=False):
                features, others = self.shared(self.fronts[0](x)), self.shared(self.fronts[1](u))
                loss = cross_entropy(self.classifier(features), y) + 500 * coral(features, others)
                descend(optimiser, loss)

    def pairs(self, groups: tuple[int, ...]) -> list[tuple[Tensor, Tensor, int, int, int]]:
        """(first, second, group, class of the first, class of the second), one by one; all data are
        read anew.
        """
        source, target = self.by_class("source"), self.by_class("target")
        classes = self.random.sample(range(len(source)), len(source))
        found = []
        for place, i in enumerate(classes):
            j = classes[(place + 1) % len(classes)]
            for shot in range(self.shots):
                made = {
                    0: (self.random.choice(source[i]), self.random.choice(source[i]), 0, i, i),
                    1: (self.random.choice(source[i]), target[i][shot], 1, i, i),
                    2: (self.random.choice(source[i]), self.random.choice(source[j]), 2, i, j),
                    3: (self.random.choice(source[i]), target[j][shot], 3, i, j),
                }
                found += [made[group] for group in groups]
        self.random.shuffle(found)
        return found

    def by_class(self, domain: str) -> list[list[Tensor]]:
        cubes, labels = self.cubes(domain), self.data[domain].labels
        found: list[list[Tensor]] = [[] for _ in self.data[domain].class_names]
        for cube, label in zip(cubes, labels, strict=True):
            found[label].append(cube)
        return found

    def discriminator(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, b = self.fronts[0](x), self.fronts[1](u)
        features, others = self.shared(a), self.shared(b)
        return torch.cat((a, b), 1), features, others

    def told(self, maps: Tensor, features: Tensor, others: Tensor) -> Tensor:
        both = torch.cat((self.vector(torch.cat((features, others), 1)), self.conv(maps)), 1)
        logits: Tensor = self.head(both)
        return logits

    def discriminate(self, epochs: int) -> None:
        optimiser = adam(2e-4, self.conv, self.vector, self.head)
        for _ in range(epochs):
            first, second, groups = [], [], []
            for x, u, group, _, _ in self.pairs((0, 1, 2, 3)):
                first.append(x)
                second.append(u)
                groups.append(group)
                if len(first) == 40:
                    seen = self.discriminator(torch.stack(first), torch.stack(second))
                    logits = self.told(*(part.detach() for part in seen))
                    descend(optimiser, cross_entropy(logits, torch.tensor(groups)))
                    first, second, groups = [], [], []

    def adapt(self, epochs: int) -> None:
        optimiser = adam(1e-3, *self.fronts, self.shared, self.classifier)
        for _ in range(epochs):
            batch: list[tuple[Tensor, Tensor, int, int, int]] = []
            for pair in self.pairs((1, 3)):
                batch.append(pair)
                if len(batch) == 20:
                    self.confuse(optimiser, batch)
                    batch = []

    def confuse(
        self, optimiser: torch.optim.Optimizer, batch: list[tuple[Tensor, Tensor, int, int, int]]
    ) -> None:
        x, u = torch.stack([pair[0] for pair in batch]), torch.stack([pair[1] for pair in batch])
        same = torch.tensor([pair[2] == 1 for pair in batch])
        maps, features, others = self.discriminator(x, u)
        logits = self.told(maps, features, others)
        loss = 0.2 * domain_class_confusion(logits[same], logits[~same])
        for part, place in ((features, 3), (others, 4)):
            loss = loss + cross_entropy(
                self.classifier(part), torch.tensor([pair[place] for pair in batch])
            )
        descend(optimiser, loss)


def plain(before: int, after: int) -> list[nn.Module]:
    return [
        nn.Conv3d(before, after, 3, padding=1),
        nn.BatchNorm3d(after),
        nn.ReLU(),
        nn.MaxPool3d(2),
    ]


def adam(rate: float, *modules: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(
        [parameter for module in modules for parameter in module.parameters()], lr=rate
    )


def descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", choices=("methods", "order", "memory"))
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--per-class", type=int, default=40)
    parser.add_argument("--box", type=int, default=28)
    parser.add_argument("--shots", type=int, default=7)
    parser.add_argument("--share", type=float, default=0.1, help="of the published epochs")
    parser.add_argument(
        "--width",
        type=int,
        default=16,
        help="of order: that of the published setting for 28 voxels",
    )
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument(
        "--memory-per-class", type=int, default=100, help="cubes of each of memory's 43 classes"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--rounds", type=int, default=1, help="of methods, by turns")
    parser.add_argument(
        "--presets", nargs="+", choices=("fast", "paper"), default=["fast", "paper"]
    )
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    watch()
    print(
        f"commit {commit()}: {args.classes} classes x {args.per_class} x {args.box}^3, "
        f"{args.shots} shots a class"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = (args.classes, args.per_class, args.box)
        given = {
            domain: [write_noise(folder / f"{domain}.h5", *sizes, i)]
            for i, domain in enumerate(("source", "target"))
        }
        for what in args.what:
            if what == "memory":
                memory(args, folder)
            else:
                (methods if what == "methods" else order)(args, folder, given)


if __name__ == "__main__":
    main()
