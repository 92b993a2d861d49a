"""The mixture step beside scikit-learn's, by turns in one process, with the same threads.

Both get the same points, candidates, restarts, tolerance and floor of the covariances.

python benchmarks/bench_gmm.py [--n 50000] [--ks 5 ... 15] [--restarts 5] [--threads 1] [--rounds 3]
[--spread 1.5]
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from cryoet_core.algorithms.mixtures.gmm import fit_mixtures

FLOOR = 1e-6
"""scikit-learn's default for what is added to the diagonals of the covariances."""


def points(n: int, k: int, d: int, generator: torch.Generator, spread: float = 1.5) -> torch.Tensor:
    """Anisotropic clusters with centres of standard deviation ``spread``: 1.5 lies apart, 0.5
    overlaps.
    """
    centres = spread * torch.randn(k, d, generator=generator)
    shapes = 0.5 * torch.eye(d) + 0.6 * torch.randn(k, d, d, generator=generator) / d**0.5
    labels = torch.arange(n) % k
    return centres[labels] + torch.einsum(
        "nij,nj->ni", shapes[labels], torch.randn(n, d, generator=generator)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--d", type=int, default=16)
    parser.add_argument("--ks", type=int, nargs="+", default=list(range(5, 16)))
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spread", type=float, default=1.5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore", ConvergenceWarning)
    x = points(args.n, 9, args.d, torch.Generator().manual_seed(0), args.spread)
    array = x.double().numpy()
    reg = FLOOR / float(array.var(0).mean())
    print(
        f"n {args.n}, d {args.d}, spread {args.spread}, K {args.ks}, {args.restarts} restarts, "
        f"{args.threads} threads"
    )
    ratios, gaps = [], []
    for seed in range(args.rounds):
        start = time.perf_counter()
        ours = fit_mixtures(
            x, args.ks, torch.Generator().manual_seed(seed), restarts=args.restarts, reg=reg
        )
        seconds = time.perf_counter() - start
        with threadpool_limits(args.threads):
            start = time.perf_counter()
            theirs = [
                GaussianMixture(k, n_init=args.restarts, random_state=seed, reg_covar=FLOOR).fit(
                    array
                )
                for k in args.ks
            ]
            other = time.perf_counter() - start
        ratios.append(other / seconds)
        gaps.append([a.bic - b.bic(array) for a, b in zip(ours, theirs, strict=True)])
        print(
            f"ours {seconds:.2f} s, scikit-learn {other:.1f} s, ratio {ratios[-1]:.1f}x; BIC, ours "
            "minus theirs:"
        )
        print(
            "  ".join(f"{k}: {gap:+.0f}" for k, gap in zip(args.ks, gaps[-1], strict=True)),
            flush=True,
        )
    print(f"ratio, median of {args.rounds}: {statistics.median(ratios):.1f}x")
    print("BIC, ours minus theirs (negative: ours is the better fit), median:")
    print(
        "  ".join(
            f"{k}: {statistics.median(gap):+.0f}"
            for k, gap in zip(args.ks, zip(*gaps, strict=True), strict=True)
        )
    )


if __name__ == "__main__":
    main()
