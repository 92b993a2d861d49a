"""The two stages of training: the encoder on episodes, then the attention of ProtoNet-CE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cryoet_core.runs.run import Run
from cryoet_core.runs.volumes import DeviceVolumes
from cryoet_protonet.attention import Attention
from cryoet_protonet.augment import augmented
from cryoet_protonet.classes import Parts
from cryoet_protonet.episodes import Episodes, draw_episodes, queries_of
from cryoet_protonet.evaluation import episode_accuracies
from cryoet_protonet.losses import (
    adapted_logits,
    attention_divergence,
    attention_targets,
    episode_loss,
    prototypes,
    squared_distances,
    targets,
)
from cryoet_protonet.pools import Step
from cryoet_protonet.space import Space, encoded
from cryoet_protonet.training import Stage

VALIDATION = 200
"""Episodes of held-out volumes of the training classes, the same after each epoch."""
Embed = Callable[[Tensor, torch.Generator], Tensor]
"""Rows (m,) to points (m, d), with gradients."""


def encoder_stage(
    encoder: nn.Module, volumes: DeviceVolumes, parts: Parts, config: Any, run: Run
) -> Stage:
    """Build stage 1: the encoder alone, its features as they are.

    Parameters
    ----------
    encoder : nn.Module
        Network from volumes (n, 1, b, b, b) to features (n, dim).
    volumes : DeviceVolumes
        Standardised volumes of the data set, for the device.
    parts : Parts
        Which rows are trained on, which choose the epoch and which only count.
    config : Any
        Options of the run.
    run : Run
        The run: device, random numbers, log and checkpoints.
    """
    held = validation_episodes(parts, config, run)

    def embed(rows: Tensor, generator: torch.Generator) -> Tensor:
        return _trained_features(encoder, volumes, rows, config.augment, generator, run)

    def loss(step: Step, generator: torch.Generator) -> Tensor:
        support, queries = embedded(embed, step, generator)
        logits = -squared_distances(queries, prototypes(support))
        return episode_loss(logits, _classes_of(step.episodes, logits.device))

    def accuracy() -> float:
        points = held_features(encoder, volumes, parts, run)
        return float(episode_accuracies(points, held).mean())

    return Stage(
        "encoder", nn.ModuleDict({"encoder": encoder}), loss, accuracy, config.epochs, config.pool
    )


def attention_stage(
    attention: Attention,
    space: Space,
    volumes: DeviceVolumes,
    points: Tensor,
    described: Tensor | None,
    parts: Parts,
    config: Any,
    run: Run,
) -> Stage:
    """Build stage 2: the attention, and unless frozen the encoder, which direct distances train.

    Parameters
    ----------
    attention : Attention
        The attention block.
    space : Space
        The embedding as stage 1 left it.
    volumes : DeviceVolumes
        Standardised volumes of the data set, for the device.
    points : Tensor
        Embeddings (n, d) as stage 1 left them.
    described : Tensor | None
        Descriptors (n, g) of all volumes; None where they are not joined.
    parts : Parts
        Which rows are trained on, which choose the epoch and which only count.
    config : Any
        Options of the run.
    run : Run
        The run: device, random numbers, log and checkpoints.
    """
    held, frozen = validation_episodes(parts, config, run), config.freeze_encoder
    modules = nn.ModuleDict(
        {"attention": attention} | ({} if frozen else {"encoder": space.encoder})
    )

    def embed(rows: Tensor, generator: torch.Generator) -> Tensor:
        if frozen:
            return points[rows.to(points.device)]
        features = _trained_features(space.encoder, volumes, rows, config.augment, generator, run)
        return space.joined(
            features, None if described is None else described[rows.to(described.device)]
        )

    def loss(step: Step, generator: torch.Generator) -> Tensor:
        support, queries = embedded(embed, step, generator)
        logits, log_attention = adapted_logits(queries, prototypes(support), attention)
        classes = _classes_of(step.episodes, logits.device)
        divergence = attention_divergence(
            log_attention, attention_targets(classes, step.episodes.way)
        )
        weight: float = config.attention_weight
        return episode_loss(logits, classes) + weight * divergence

    def accuracy() -> float:
        if frozen:
            return float(episode_accuracies(points, held, attention).mean())
        now = space.joined(held_features(space.encoder, volumes, parts, run), described)
        return float(episode_accuracies(now, held, attention).mean())

    # with the encoder frozen nothing is encoded, so that a pool would spare nothing
    return Stage(
        "attention", modules, loss, accuracy, config.attention_epochs, 0 if frozen else config.pool
    )


def validation_episodes(parts: Parts, config: Any, run: Run) -> Episodes:
    """Draw episodes of the held-out volumes.

    They have fewer shots and queries where too few volumes are held out.

    Parameters
    ----------
    parts : Parts
        Which rows are trained on, which choose the epoch and which only count.
    config : Any
        Options of the run.
    run : Run
        The run: device, random numbers, log and checkpoints.
    """
    shot = min(config.shot, max(min(len(rows) for rows in parts.held.values()) // 2, 1))
    query = queries_of(parts.held, shot, config.query)
    return draw_episodes(
        parts.held, VALIDATION, config.way, shot, query, run.generator("validation")
    )


def held_features(encoder: nn.Module, volumes: DeviceVolumes, parts: Parts, run: Run) -> Tensor:
    """Compute features (n, f) of held-out volumes, 0 elsewhere.

    Parameters
    ----------
    encoder : nn.Module
        Network from volumes (n, 1, b, b, b) to features (n, dim).
    volumes : DeviceVolumes
        Standardised volumes of the data set, for the device.
    parts : Parts
        Which rows are trained on, which choose the epoch and which only count.
    run : Run
        The run: device, random numbers, log and checkpoints.
    """
    rows = parts.known[1]
    features = encoded(encoder, volumes, run, rows)
    return features.new_zeros(len(volumes), features.shape[1]).index_copy_(
        0, rows.to(features.device), features
    )


def _trained_features(
    encoder: nn.Module,
    volumes: DeviceVolumes,
    rows: Tensor,
    how: str,
    generator: torch.Generator,
    run: Run,
) -> Tensor:
    batch = augmented(volumes[rows], how, generator)
    with run.autocast():
        features: Tensor = encoder(batch)
    return features.float()


def embedded(embed: Embed, step: Step, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Embed a step's volumes once and look up its episodes.

    Parameters
    ----------
    embed : Embed
        Function from rows (m,) to points (m, d), with gradients.
    step : Step
        The step.
    generator : torch.Generator
        Source of random numbers for augmentation.

    Returns
    -------
    tuple[Tensor, Tensor]
        Support (e, way, shot, d) and queries (e, way * query, d).
    """
    points = embed(step.rows, generator)
    support, queries = (
        places.to(points.device) for places in (step.episodes.support, step.episodes.queries)
    )
    return points[support], points[queries].flatten(1, 2)


def _classes_of(episodes: Episodes, device: torch.device) -> Tensor:
    return targets(len(episodes), episodes.way, episodes.queries.shape[2], device)
