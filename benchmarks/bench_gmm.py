"""The mixture step beside scikit-learn's: the same points, candidates, restarts and tolerance, one process.

python benchmarks/bench_gmm.py [--n 50000] [--ks 5 ... 15] [--restarts 5] [--threads 2]
"""

from __future__ import annotations

import argparse
import time
import warnings

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from cryoet_core.gmm import fit_mixtures


def points(n: int, k: int, d: int, generator: torch.Generator) -> torch.Tensor:
    """Overlapping anisotropic clusters, so that neither side converges at once."""
    centres = 1.5 * torch.randn(k, d, generator=generator)
    shapes = 0.5 * torch.eye(d) + 0.6 * torch.randn(k, d, d, generator=generator) / d**0.5
    labels = torch.arange(n) % k
    return centres[labels] + torch.einsum("nij,nj->ni", shapes[labels], torch.randn(n, d, generator=generator))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--d", type=int, default=16)
    parser.add_argument("--ks", type=int, nargs="+", default=list(range(5, 16)))
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(0)
    x = points(args.n, 9, args.d, generator)
    start = time.perf_counter()
    ours = fit_mixtures(x, args.ks, generator, restarts=args.restarts)
    seconds = time.perf_counter() - start
    array = x.double().numpy()
    warnings.simplefilter("ignore", ConvergenceWarning)
    start = time.perf_counter()
    theirs = [GaussianMixture(k, n_init=args.restarts, random_state=0).fit(array) for k in args.ks]
    other = time.perf_counter() - start
    print(f"n {args.n}, d {args.d}, K {args.ks}, {args.restarts} restarts, {args.threads} threads")
    print(f"ours {seconds:.1f} s, scikit-learn {other:.1f} s, ratio {other / seconds:.1f}x")
    gaps = [a.bic - b.bic(array) for a, b in zip(ours, theirs, strict=True)]
    print("BIC, ours minus theirs (negative: ours is the better fit):", " ".join(f"{gap:.0f}" for gap in gaps))


if __name__ == "__main__":
    main()
