"""The paper network's training step as a share of the machine's own matrix product; "valid"
convolutions counted.

python benchmarks/bench_yopo.py [--box 24] [--batch 8] [--threads 2] [--device cpu|cuda]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from cryoet_disca.yopo import Yopo, forward_flops


def seconds(step: Callable[[], object], repeats: int, device: torch.device) -> float:
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--box", type=int, default=24)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    product = 2 * size**3 / seconds(lambda: a @ b, 5, device) / 1e9
    network = Yopo().to(device).train()
    head = torch.nn.Linear(1024, 5).to(device)
    optimiser = torch.optim.NAdam([*network.parameters(), *head.parameters()], lr=1e-5)
    volumes = torch.randn(args.batch, 1, args.box, args.box, args.box, device=device)
    if device.type == "cuda":
        network = network.to(memory_format=torch.channels_last_3d)
    labels = torch.arange(args.batch, device=device) % 5

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = torch.nn.functional.cross_entropy(head(network(volumes)).float(), labels)
        loss.backward()
        optimiser.step()

    # backward costs twice the forward pass: gradients of the input and of the weights
    work = 3 * args.batch * forward_flops(64, 10, 1024, 1, args.box)
    took = seconds(step, args.repeats, device)
    print(f"box {args.box}, batch {args.batch}, {args.threads} threads, {device}, {kind}")
    print(
        f"matrix product {product:.0f} GFLOP/s, training step {took:.2f} s = "
        f"{work / took / 1e9:.0f} GFLOP/s"
    )
    print(f"share {work / took / 1e9 / product:.2f}")


if __name__ == "__main__":
    main()
