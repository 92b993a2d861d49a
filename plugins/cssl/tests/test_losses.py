"""The losses against plain float64 restatements, values and gradients, and what is known of them
without computing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from cryoet_cssl.losses import (
    info_nce,
    info_nce_logits,
    nt_xent,
    sinkhorn,
    swapped_prediction,
    unit,
)
from torch import Tensor

N, F, K, T = 6, 5, 9, 0.2


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- the restatements: sums over pairs, as the equations are written


def plain_info_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for q, k in zip(queries, keys, strict=True):
        own = torch.exp(q.dot(k) / temperature)
        others = sum(torch.exp(q.dot(other) / temperature) for other in queue)
        total = total - torch.log(own / (own + others))
    return total / len(queries)


def plain_nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    views, n = [*first, *second], len(first)
    total = torch.zeros((), dtype=torch.float64)
    for i, one in enumerate(views):
        partner = views[(i + n) % (2 * n)]
        others = sum(
            torch.exp(one.dot(other) / temperature) for k, other in enumerate(views) if k != i
        )
        total = total - torch.log(torch.exp(one.dot(partner) / temperature) / others)
    return total / (2 * n)


def plain_sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    codes = torch.exp(scores / epsilon)
    for _ in range(iterations):
        codes = codes / codes.sum(0)
        codes = codes / codes.sum(1)[:, None]
    return codes


def plain_swapped(
    first: Tensor, second: Tensor, codes1: Tensor, codes2: Tensor, temperature: float
) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for scores, codes in ((first, codes2), (second, codes1)):
        for row, code in zip(scores, codes, strict=True):
            shares = torch.exp(row / temperature) / torch.exp(row / temperature).sum()
            total = total - (code * torch.log(shares)).sum() / (2 * len(scores))
    return total


def agree(fast: Callable[..., Tensor], plain: Callable[..., Tensor], *tensors: Tensor) -> None:
    """Value and gradients of ``fast`` in float32 against ``plain`` in float64."""
    exact = [tensor.clone().requires_grad_() for tensor in tensors]
    single = [tensor.float().requires_grad_() for tensor in tensors]
    expected, found = plain(*exact, T), fast(*single, T)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    expected.backward()
    found.backward()
    for one, other in zip(exact, single, strict=True):
        torch.testing.assert_close(other.grad.double(), one.grad, rtol=1e-4, atol=1e-5)


def test_info_nce_against_the_sum_over_keys() -> None:
    agree(
        info_nce,
        plain_info_nce,
        unit(draws(N, F)),
        unit(draws(N, F, seed=1)),
        unit(draws(K, F, seed=2)),
    )


def test_nt_xent_against_the_sum_over_pairs() -> None:
    agree(nt_xent, plain_nt_xent, unit(draws(N, F)), unit(draws(N, F, seed=1)))


def test_swapped_prediction_against_the_sums() -> None:
    codes = [draws(N, K, seed=s).softmax(1) for s in (2, 3)]
    first, second = draws(N, K), draws(N, K, seed=1)
    for codes1, codes2 in (codes, codes[::-1]):
        agree(
            lambda a, b, t, c1=codes1, c2=codes2: swapped_prediction(
                a, b, c1.to(a.dtype), c2.to(a.dtype), t
            ),
            lambda a, b, t, c1=codes1, c2=codes2: plain_swapped(a, b, c1, c2, t),
            first,
            second,
        )


def test_sinkhorn_against_its_definition() -> None:
    scores = draws(N, K).clamp(-1, 1)
    torch.testing.assert_close(sinkhorn(scores, 0.5, 3), plain_sinkhorn(scores, 0.5, 3))


# ---- what must hold


@pytest.mark.parametrize("keys", [1, 7, 64])
def test_info_nce_of_equal_similarities(keys: int) -> None:
    one = unit(torch.ones(3, F))
    assert info_nce(one, one, unit(torch.ones(keys, F)), T).item() == pytest.approx(
        math.log(1 + keys), rel=1e-5
    )


def test_info_nce_is_the_cross_entropy_of_its_logits() -> None:
    queries, keys, queue = unit(draws(N, F)), unit(draws(N, F, seed=1)), unit(draws(K, F, seed=2))
    logits = info_nce_logits(queries, keys, queue, T)
    assert logits.shape == (N, 1 + K)
    expected = (logits.logsumexp(1) - logits[:, 0]).mean()
    torch.testing.assert_close(info_nce(queries, keys, queue, T), expected)


def test_nt_xent_of_one_pair_is_zero() -> None:
    assert nt_xent(unit(draws(1, F)), unit(draws(1, F, seed=1)), T).item() == pytest.approx(
        0, abs=1e-12
    )


def test_nt_xent_does_not_mind_which_view_is_first() -> None:
    first, second = unit(draws(N, F)), unit(draws(N, F, seed=1))
    torch.testing.assert_close(nt_xent(first, second, T), nt_xent(second, first, T))


def test_sinkhorn_balances_and_does_not_overflow() -> None:
    scores = torch.cat(
        [torch.ones(40, 1), draws(40, 7).float().clamp(-1, 1)], 1
    )  # all prefer prototype 0
    codes = sinkhorn(scores.half(), 0.05, 300)  # exp(1 / 0.05) is beyond float16
    assert codes.dtype == torch.float32
    torch.testing.assert_close(codes.sum(1), torch.ones(40))
    torch.testing.assert_close(codes.sum(0), torch.full((8,), 40 / 8), rtol=0.02, atol=0)
    assert not codes.requires_grad


def test_swav_loss_is_at_least_the_entropy_of_the_codes() -> None:
    scores = [draws(N, K, seed=s) for s in (0, 1)]
    codes = [sinkhorn(part, 0.5, 3) for part in scores]
    entropy = sum(-(code * code.log()).sum(1).mean() for code in codes) / 2
    assert swapped_prediction(*scores, *codes, T) >= entropy
    equal = [code.log() * T for code in codes]  # scores that predict the codes exactly
    best = swapped_prediction(equal[1], equal[0], *codes, T)
    torch.testing.assert_close(best, entropy)


def test_losses_keep_their_precision_under_autocast() -> None:
    first, second = unit(draws(N, F)).float(), unit(draws(N, F, seed=1)).float()
    with torch.autocast("cpu", torch.bfloat16):
        half = nt_xent(first, second, T), info_nce(first, second, second, T)
    torch.testing.assert_close(half[0], nt_xent(first, second, T), rtol=1e-6, atol=0)
    torch.testing.assert_close(half[1], info_nce(first, second, second, T), rtol=1e-6, atol=0)
