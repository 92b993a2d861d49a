"""Losses, prototypes, distances and the attention against plain restatements in float64."""

from __future__ import annotations

import math

import pytest
import torch
from cryoet_protonet.attention import Attention
from cryoet_protonet.losses import (
    adapted_logits,
    attention_divergence,
    attention_targets,
    episode_loss,
    prototypes,
    squared_distances,
    targets,
)
from torch import Tensor


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def plain_loss(support: Tensor, queries: Tensor) -> Tensor:
    """support (way, shot, d), queries (way * q, d) in class order: the sheet's formula in loops."""
    centres = [sum(vector for vector in rows) / len(rows) for rows in support]
    each = len(queries) // len(support)
    total = torch.zeros((), dtype=support.dtype)
    for i, query in enumerate(queries):
        distances = [((query - centre) ** 2).sum() for centre in centres]
        total = total + distances[i // each] + torch.log(sum(torch.exp(-d) for d in distances))
    return total / len(queries)


def plain_block(attention: Attention, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """One set of tokens (t, d) through the block, one row after the other."""
    q, k, v = (
        layer.weight @ tokens.T + layer.bias[:, None]
        for layer in (attention.query, attention.key, attention.value)
    )
    rows, weights = [], []
    for i in range(len(tokens)):
        scores = torch.exp(q[:, i] @ k / math.sqrt(attention.dim))
        weight = scores / scores.sum()
        out = tokens[i] + attention.output.weight @ (v @ weight) + attention.output.bias
        out = (out - out.mean()) / torch.sqrt(out.var(correction=0) + attention.norm.eps)
        rows.append(out * attention.norm.weight + attention.norm.bias)
        weights.append(weight)
    return torch.stack(rows), torch.stack(weights)


def test_loss_and_its_gradient() -> None:
    support, queries = drawn(3, 4, 5), drawn(6, 5, seed=1)
    ours_at, plain_at = ([x.clone().requires_grad_() for x in (support, queries)] for _ in range(2))
    ours = episode_loss(
        -squared_distances(ours_at[1][None], prototypes(ours_at[0][None])), targets(1, 3, 2)
    )
    plain = plain_loss(*plain_at)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    ours.backward()
    plain.backward()
    for one, other in zip(ours_at, plain_at, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-10, atol=1e-12)


def test_several_episodes_are_the_mean_of_each() -> None:
    support, queries = drawn(4, 2, 3, 5), drawn(4, 6, 5, seed=1)
    logits = -squared_distances(queries, prototypes(support))
    single = [plain_loss(s, q) for s, q in zip(support, queries, strict=True)]
    torch.testing.assert_close(episode_loss(logits, targets(4, 2, 3)), torch.stack(single).mean())


def test_loss_falls_to_nothing_as_classes_part() -> None:
    support, queries = drawn(1, 2, 5, 4), drawn(1, 6, 4, seed=1)
    losses = []
    for apart in (0.0, 1.0, 3.0, 10.0):
        moved = torch.tensor([0.0, apart], dtype=torch.float64)
        far, asked = (
            support + moved[None, :, None, None],
            queries + moved.repeat_interleave(3)[None, :, None],
        )
        losses.append(
            float(episode_loss(-squared_distances(asked, prototypes(far)), targets(1, 2, 3)))
        )
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-12


def test_prototypes() -> None:
    support = drawn(2, 3, 4, 5)
    torch.testing.assert_close(prototypes(support[:, :, :1]), support[:, :, 0])
    torch.testing.assert_close(prototypes(support[:, :, [2, 0, 3, 1]]), prototypes(support))


def test_relabelling_and_moving() -> None:
    centres, queries = drawn(3, 5), drawn(7, 5, seed=1)
    logits = -squared_distances(queries, centres)
    torch.testing.assert_close(
        -squared_distances(queries, centres[[2, 0, 1]]), logits[:, [2, 0, 1]]
    )
    torch.testing.assert_close(
        -squared_distances(queries + 100.0, centres + 100.0), logits, rtol=1e-9, atol=1e-9
    )


def test_distances_equal_the_broadcast_form_and_are_0_on_the_same_row() -> None:
    queries, centres = drawn(4, 7, 512).float(), drawn(4, 3, 512, seed=1).float()
    plain = (queries.double()[:, :, None] - centres.double()[:, None]).square().sum(-1)
    torch.testing.assert_close(
        squared_distances(queries, centres).double(), plain, rtol=1e-5, atol=0
    )
    far = 1000 + queries  # the expanded form about 0 would lose four digits here
    same = squared_distances(far, far[:, :3])[:, [0, 1, 2], [0, 1, 2]]
    assert (same >= 0).all()
    assert same.max() < 1e-2
    halves = squared_distances(queries.bfloat16(), centres.bfloat16())
    assert halves.dtype == torch.float32


def test_attention_equals_its_restatement_with_gradients() -> None:
    torch.manual_seed(0)
    attention = Attention(6).double()
    tokens = drawn(2, 3, 4, 6)
    changed, log_attention = attention(tokens)
    for index in ((0, 0), (1, 2)):
        plain, weights = plain_block(attention, tokens[index])
        torch.testing.assert_close(changed[index], plain)
        torch.testing.assert_close(log_attention[index].exp(), weights)
    (changed.square() * drawn(2, 3, 4, 6, seed=2)).sum().backward()
    ours = attention.value.weight.grad.clone()
    attention.zero_grad()
    plain = torch.stack(
        [torch.stack([plain_block(attention, some)[0] for some in row]) for row in tokens]
    )
    (plain.square() * drawn(2, 3, 4, 6, seed=2)).sum().backward()
    torch.testing.assert_close(ours, attention.value.weight.grad)


def test_attention_rows_sum_to_1_and_without_values_only_the_norm_is_left() -> None:
    attention = Attention(8).double()
    tokens = drawn(5, 4, 8)
    torch.testing.assert_close(
        attention(tokens)[1].exp().sum(-1), torch.ones(5, 4, dtype=torch.float64)
    )
    for layer in (attention.value, attention.output):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    torch.testing.assert_close(attention(tokens)[0], attention.norm(tokens))


def test_attention_has_the_published_size() -> None:
    assert sum(p.numel() for p in Attention(512).parameters()) == 1_051_648


def test_logits_of_both_spaces() -> None:
    torch.manual_seed(0)
    attention = Attention(6).double()
    queries, centres = drawn(2, 5, 6), drawn(2, 3, 6, seed=1)
    logits, log_attention = adapted_logits(queries, centres, attention)
    assert log_attention.shape == (2, 5, 4, 4)
    direct = -squared_distances(queries, centres)
    for e, i in ((0, 0), (1, 4)):
        tokens, _ = plain_block(attention, torch.cat([centres[e], queries[e, i : i + 1]]))
        adapted = (tokens[-1] - tokens[:-1]).square().sum(-1)
        torch.testing.assert_close(logits[e, i], direct[e, i] - adapted)
    torch.nn.init.zeros_(attention.norm.weight)  # the second term off
    torch.testing.assert_close(adapted_logits(queries, centres, attention)[0], direct)


def test_attention_does_not_train_the_encoder() -> None:
    torch.manual_seed(0)
    attention = Attention(6).double()
    queries, centres = (drawn(1, n, 6, seed=n).requires_grad_() for n in (5, 3))
    logits, log_attention = adapted_logits(queries, centres, attention)
    found = torch.autograd.grad(logits.sum(), (queries, centres), retain_graph=True)
    direct = torch.autograd.grad(-squared_distances(queries, centres).sum(), (queries, centres))
    for one, other in zip(found, direct, strict=True):
        torch.testing.assert_close(one, other)
    attention_divergence(log_attention, attention_targets(targets(1, 3, 2)[:, :5], 3)).backward()
    assert queries.grad is None
    assert centres.grad is None
    assert attention.query.weight.grad.abs().sum() > 0


def test_attention_targets_name_the_own_class() -> None:
    wanted = attention_targets(targets(1, 3, 2), 3)
    torch.testing.assert_close(wanted.sum(-1), torch.ones(1, 6, 4))
    for i in range(6):
        rows = torch.eye(4)
        own = i // 2
        rows[own, own] = rows[own, 3] = rows[3, own] = rows[3, 3] = 0.5
        torch.testing.assert_close(wanted[0, i], rows)


def test_divergence_is_0_on_the_target_and_right_elsewhere() -> None:
    wanted = attention_targets(targets(2, 2, 3), 2).double()
    assert float(attention_divergence(wanted.clamp(min=1e-300).log(), wanted)) == pytest.approx(
        0, abs=1e-12
    )
    log_attention = drawn(2, 6, 3, 3).log_softmax(-1)
    total = 0.0
    for e in range(2):
        for i in range(6):
            for t, a in zip(
                wanted[e, i].flatten().tolist(), log_attention[e, i].flatten().tolist(), strict=True
            ):
                total += t * (math.log(t) - a) if t > 0 else 0.0
    assert float(attention_divergence(log_attention, wanted)) == pytest.approx(total / 12)
