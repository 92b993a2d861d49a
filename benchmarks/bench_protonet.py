"""Training and evaluation of ``protonet`` beside the way of the published code, by turns in one
process.

    python benchmarks/bench_protonet.py [--per-class 200] [--pool 60] [--batch 10] \
        [--threads 1] [--rounds 3]

Training: an epoch of 2-way, 5-shot episodes with 15 queries each (ours 100, the other way 25; time
per episode is what is compared), then the validation on held-out volumes. Ours, as the preset fast:
every step encodes a pool of volumes once and draws several episodes from it; volumes held in
memory; validation on embeddings that are computed once. The other way: one episode to a step, each
cube read from a file of its own in every episode, validation episodes encoded one by one (100, as
the code does). The same network, losses and optimiser, no augmentation in either. Evaluation:
10,000 episodes of two classes on stored embeddings (2-way, 5-shot, 15 queries), without and with
attention.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import mrcfile
import numpy as np
import torch
from cryoet_protonet.attention import Attention
from cryoet_protonet.episodes import Episodes, draw_episodes
from cryoet_protonet.evaluation import episode_accuracies
from cryoet_protonet.losses import episode_loss, prototypes, squared_distances, targets
from cryoet_protonet.network import ProtoNet3D
from cryoet_protonet.pools import Step, own, training_steps
from cryoet_protonet.stages import embedded
from torch import Tensor

from cryoet_core.algorithms.transforms import standardise
from cryoet_core.runs.devices import keep_freed_memory, resolve
from cryoet_core.runs.volumes import DeviceVolumes
from cryoet_core.store import SubtomogramWriter, open_subtomograms

BOX, CLASSES, TRAINING, VALIDATION = 32, 3, {"ours": 100, "one by one": 25}, 100
WAY, SHOT, QUERY = 2, 5, 15


def write(folder: Path, per_class: int) -> tuple[Path, list[Path]]:
    """Noise with a class-dependent ball, as one store and as one MRC file for each cube."""
    generator = np.random.default_rng(0)
    line = np.arange(BOX) - BOX // 2
    radius = np.sqrt(line[:, None, None] ** 2 + line[None, :, None] ** 2 + line[None, None, :] ** 2)
    labels = np.arange(CLASSES * per_class) % CLASSES
    cubes = generator.normal(size=(len(labels), BOX, BOX, BOX)).astype(np.float32)
    cubes += (radius[None] < 5 + 2 * labels[:, None, None, None]).astype(np.float32)
    store = folder / "set.h5"
    with SubtomogramWriter(store, BOX, 12.0, class_names=tuple("abc")) as writer:
        writer.append(cubes, labels=labels)
    paths = [folder / f"{i}.mrc" for i in range(len(labels))]
    for path, cube in zip(paths, cubes, strict=True):
        mrcfile.write(path, cube)
    return store, paths


class Training:
    """A network and its optimiser, stepped by either way."""

    def __init__(
        self, args: argparse.Namespace, device: torch.device, memory_format: torch.memory_format
    ) -> None:
        torch.manual_seed(0)
        self.network = (
            ProtoNet3D(BOX, args.width, 4, args.bin).to(device).to(memory_format=memory_format)
        )
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=1e-3)

    def step(self, batch: Tensor, step: Step) -> None:
        self.network.train()
        support, queries = embedded(lambda _rows, _generator: self.network(batch), step, seeded(0))
        logits = -squared_distances(queries, prototypes(support))
        loss = episode_loss(logits, targets(len(support), WAY, QUERY, logits.device))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()

    def encode(self, batch: Tensor) -> Tensor:
        self.network.eval()
        with torch.no_grad():
            features: Tensor = self.network(batch)
        return features


class Ours:
    """Volumes held, several episodes to a step, of the same volumes, embeddings computed once."""

    def __init__(
        self, args: argparse.Namespace, volumes: DeviceVolumes, device: torch.device
    ) -> None:
        self.training = Training(args, device, torch.channels_last_3d)
        self.volumes, self.pool = volumes, args.pool
        self.config = SimpleNamespace(way=WAY, shot=SHOT, query=QUERY, episodes_per_step=args.batch)

    def train(self, rows: dict[str, Tensor], count: int) -> None:
        self.config.episodes_per_epoch = count
        for step in training_steps(rows, self.config, self.pool, seeded(0)):
            self.training.step(self.volumes[step.rows], step)

    def validate(self, episodes: Episodes) -> None:
        rows = episodes.rows.unique()
        encoded = torch.cat([self.training.encode(some) for some in self.volumes.batches(32, rows)])
        points = encoded.new_zeros(len(self.volumes), encoded.shape[1])
        episode_accuracies(points.index_copy_(0, rows.to(encoded.device), encoded), episodes)


class OneByOne:
    """Every cube from its own file in every episode, one episode to a step, every episode encoded
    anew.
    """

    def __init__(self, args: argparse.Namespace, paths: list[Path], device: torch.device) -> None:
        self.training = Training(args, device, torch.contiguous_format)
        self.paths, self.device = paths, device

    def load(self, part: Episodes) -> Tensor:
        cubes = [
            torch.from_numpy(np.array(mrcfile.read(self.paths[row])))
            for row in part.rows[0].tolist()
        ]
        return standardise(torch.stack(cubes)[:, None].to(self.device))

    def train(self, rows: dict[str, Tensor], count: int) -> None:
        for part in draw_episodes(rows, count, WAY, SHOT, QUERY, seeded(0)).split(1):
            self.training.step(self.load(part), own(part))

    def validate(self, episodes: Episodes) -> None:
        supported = episodes.support[0].numel()
        order = torch.arange(episodes.rows.shape[1])
        support = order[:supported].view(1, *episodes.support.shape[1:])
        local = Episodes(support, order[supported:].view(1, *episodes.queries.shape[1:]))
        for part in episodes.split(1):
            episode_accuracies(self.training.encode(self.load(part)), local)


def seconds(work: Callable[[], None], device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--per-class", type=int, default=200)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--bin", type=int, default=2)
    parser.add_argument(
        "--pool", type=int, default=60, help="volumes that a step of our way encodes; 0: no pool"
    )
    parser.add_argument("--batch", type=int, default=10, help="episodes to a step in our way")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--validation", type=int, default=VALIDATION, help="validation episodes in an epoch"
    )
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = resolve(args.device)
    with tempfile.TemporaryDirectory() as folder:
        store, paths = write(Path(folder), args.per_class)
        data = open_subtomograms([store])
        volumes = DeviceVolumes(data, device)
        known = {str(i): torch.from_numpy(np.flatnonzero(data.labels == i)) for i in range(CLASSES)}
        cut = max(20, args.per_class // 5)
        rows = {name: some[cut:] for name, some in known.items()}
        held = draw_episodes(
            {k: r[:cut] for k, r in known.items()}, args.validation, WAY, SHOT, QUERY, seeded(1)
        )
        if device.type == "cpu":
            keep_freed_memory()  # both ways profit
        ways = {"ours": Ours(args, volumes, device), "one by one": OneByOne(args, paths, device)}
        taken = measured(ways, rows, held, args.rounds, device)
    pool = (
        f"a pool of {args.pool}, {args.batch} episodes to a step"
        if args.pool
        else f"{args.batch} to a step, no pool"
    )
    print(
        f"{device}, width {args.width}, bin {args.bin}, {args.threads} threads; ours: {pool}; "
        f"medians of {args.rounds}"
    )
    report(
        "training, milliseconds per episode",
        [1e3 * taken["training", way] / TRAINING[way] for way in ways],
    )
    report(
        f"validation, {args.validation} episodes, seconds",
        [taken["validation", way] for way in ways],
    )
    epoch = [25 * taken["training", way] / TRAINING[way] + taken["validation", way] for way in ways]
    report("25 episodes and a validation, seconds", epoch)
    evaluation(device)


def measured(
    ways: dict[str, Ours | OneByOne],
    rows: dict[str, Tensor],
    held: Episodes,
    rounds: int,
    device: torch.device,
) -> dict[tuple[str, str], float]:
    """Median seconds of training and of validation, the two ways by turns; an untimed round
    first.
    """
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(rounds + 1):
        for name, way in ways.items():
            trained = seconds(lambda way=way, name=name: way.train(rows, TRAINING[name]), device)  # type: ignore[misc]
            checked = seconds(lambda way=way: way.validate(held), device)  # type: ignore[misc]
            if number:
                taken["training", name].append(trained)
                taken["validation", name].append(checked)
    return {key: statistics.median(values) for key, values in taken.items()}


def report(what: str, pair: list[float]) -> None:
    print(f"{what}: ours {pair[0]:.2f}, one by one {pair[1]:.2f}, {pair[1] / pair[0]:.1f}x")


def evaluation(device: torch.device) -> None:
    points = torch.randn(400, 73, generator=seeded(0)).to(device)
    rows = {"a": torch.arange(200), "b": torch.arange(200, 400)}
    attention = Attention(73).to(device)
    for name, block in (("without attention", None), ("with attention", attention)):
        taken = seconds(
            lambda block=block: _evaluated(points, rows, block),  # type: ignore[misc]
            device,
        )
        print(
            f"10,000 evaluation episodes {name}, 73 numbers each, drawing included: {taken:.2f} s"
        )


def _evaluated(points: Tensor, rows: dict[str, Tensor], attention: Attention | None) -> None:
    episode_accuracies(points, draw_episodes(rows, 10_000, 2, 5, 15, seeded(2)), attention)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


if __name__ == "__main__":
    main()
