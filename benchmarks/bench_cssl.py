"""Pretraining throughput: our loop beside one with per-sample transforms and batches of 16, in one
process.

    python benchmarks/bench_cssl.py [--box 32] [--batch 64] [--threads 2] [--device cpu|cuda]

"Ours": SimCLR on RB3D in the channels-last layout, both views of a batch made by one resampling and
one pass through Fourier space. "Per sample": the same network in the default layout, each view of
each cube cropped, resized and turned by itself, two interpolations, batches of 16. The recipes of
both are the published one, so that they do the same work; the share of the augmentation is also
given for ours, wedge and noise included. Milliseconds are per view, of wall time and of processor
time (what wall time would be on free cores, times their number).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import torch
from cryoet_cssl.config import SimclrConfig
from cryoet_cssl.networks import Rb3d, rb3d
from cryoet_cssl.objectives import SimclrObjective
from cryoet_cssl.views import Views
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from cryoet_core.algorithms.transforms import standardise
from cryoet_core.runs.devices import keep_freed_memory

PER_SAMPLE_BATCH = 16


def measured(
    step: Callable[[], object], views: int, repeats: int, device: torch.device
) -> tuple[float, float]:
    """Milliseconds per view, wall and processor time: the quickest of ``repeats`` after one to warm
    up.
    """
    walls, works = [], []
    for _ in range(repeats + 1):
        wall, work = time.perf_counter(), time.process_time()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        walls.append(time.perf_counter() - wall)
        works.append(time.process_time() - work)
    return 1e3 * min(walls[1:]) / views, 1e3 * min(works[1:]) / views


def one_view(cube: Tensor, generator: torch.Generator) -> Tensor:
    """A view of one cube (1, d, h, w) by the published recipe: crop and resize, then turn about z,
    move and scale.
    """
    box = cube.shape[-1]
    if torch.rand(1, generator=generator) < 0.5:
        edge = max(2, round(box * float(0.707 + 0.293 * torch.rand(1, generator=generator))))
        start = [int(torch.randint(box - edge + 1, (1,), generator=generator)) for _ in range(3)]
        z, y, x = (slice(s, s + edge) for s in start)
        cube = interpolate(
            cube[None, :, z, y, x], size=(box,) * 3, mode="trilinear", align_corners=False
        )[0]
    if torch.rand(1, generator=generator) < 0.5:
        angle = math.radians(45) * float(2 * torch.rand(1, generator=generator) - 1)
        scale = 1 + 0.1 * float(2 * torch.rand(1, generator=generator) - 1)
        moves = 0.2 * (2 * torch.rand(3, generator=generator) - 1)
        c, s = math.cos(angle) / scale, math.sin(angle) / scale
        theta = torch.tensor(
            [[[c, -s, 0, moves[0]], [s, c, 0, moves[1]], [0, 0, 1 / scale, moves[2]]]]
        )
        grid = affine_grid(theta, [1, 1, box, box, box], align_corners=False)
        cube = grid_sample(cube[None], grid, align_corners=False)[0]
    return standardise(cube)


def trained(
    objective: SimclrObjective,
    first: Tensor,
    second: Tensor,
    optimiser: torch.optim.Optimizer,
    half: bool,
) -> None:
    with torch.autocast(first.device.type, torch.bfloat16, enabled=half):
        loss = objective(first, second)[0]
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--box", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--precision", choices=("32", "bf16"), default="32", help="of our loop; the other has 32"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device, box, n = torch.device(args.device), args.box, args.batch
    if device.type == "cpu":
        keep_freed_memory()  # as the methods do; both ways profit
    cubes = torch.randn(n, 1, box, box, box, device=device)
    configs = {
        name: SimclrConfig.from_layers(name, {}, {"projection_norm": False})
        for name in ("paper", "fast")
    }
    draws = {name: Views(c, box, 10.0, (-60.0, 60.0), "y", device) for name, c in configs.items()}
    ours = (
        SimclrObjective(rb3d(box).to(device), configs["paper"], lambda rows: rows)
        .to(device)
        .train()
    )
    theirs = (
        SimclrObjective(Rb3d(box).to(device), configs["paper"], lambda rows: rows)
        .to(device)
        .train()
    )
    steps = {}
    for name, objective in (("ours", ours), ("theirs", theirs)):
        optimiser = torch.optim.Adam(objective.parameters(), lr=1e-4)
        half = name == "ours" and args.precision == "bf16"
        steps[name] = lambda a, b, o=objective, q=optimiser, h=half: trained(o, a, b, q, h)
    generator = torch.Generator().manual_seed(0)

    def our_step() -> None:
        draw = draws["paper"]
        steps["ours"](draw(cubes, generator), draw(cubes, generator))

    few = cubes[:PER_SAMPLE_BATCH].cpu()

    def their_step() -> None:
        first, second = (
            torch.stack([one_view(cube, generator) for cube in few]).to(device) for _ in range(2)
        )
        steps["theirs"](first, second)

    results = {
        "ours, published recipe": measured(our_step, 2 * n, args.repeats, device),
        "per sample, published recipe": measured(their_step, 2 * len(few), args.repeats, device),
        "ours, network alone": measured(
            lambda: steps["ours"](cubes, cubes), 2 * n, args.repeats, device
        ),
        "per sample, network alone": measured(
            lambda: steps["theirs"](few.to(device), few.to(device)),
            2 * len(few),
            args.repeats,
            device,
        ),
        "views of the published recipe": measured(
            lambda: draws["paper"](cubes, generator), n, args.repeats, device
        ),
        "views of the preset fast": measured(
            lambda: draws["fast"](cubes, generator), n, args.repeats, device
        ),
    }
    print(
        f"box {box}, batch {n}, {args.threads} threads, {device}, torch {torch.__version__}, "
        f"{args.precision}"
    )
    print("milliseconds per view, wall and processor time")
    for name, (wall, work) in results.items():
        print(f"{name:32s} {wall:8.3f} {work:8.3f}")
    whole, network = results["per sample, published recipe"], results["ours, published recipe"]
    print(f"ratio {whole[0] / network[0]:.2f} wall, {whole[1] / network[1]:.2f} processor")
    for name in ("published recipe", "preset fast"):
        views, alone = results[f"views of the {name}"], results["ours, network alone"]
        print(f"augmentation of the {name}: {views[1] / (views[1] + alone[1]):.1%} of a step")


if __name__ == "__main__":
    main()
