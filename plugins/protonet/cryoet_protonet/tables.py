"""Report accuracy over episodes, of unseen classes and of volumes held out of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cryoet_core.runs.run import Run
from cryoet_protonet.attention import Attention
from cryoet_protonet.classes import Parts
from cryoet_protonet.episodes import check_episode, queries_of
from cryoet_protonet.evaluation import evaluate
from cryoet_protonet.space import Space

FACTS, TABLES, NOTES = "episodes.json", "tables.json", "notes.json"
UNSEEN, HELD = "unseen classes", "held-out volumes of training classes"


def check_evaluation(parts: Parts, config: Any) -> None:
    """Check, before anything is trained, that unseen classes suffice for the evaluation's episodes.

    Raises
    ------
    UserError
        Where they are too small.
    """
    if config.evaluation_episodes and len(parts.unseen) > 1:
        for shot in config.evaluation_shots:
            query = queries_of(parts.unseen, shot, config.query)
            check_episode(parts.unseen, min(config.way, len(parts.unseen)), shot, query)


def write_tables(
    points: Tensor, space: Space, attention: Attention | None, parts: Parts, config: Any, run: Run
) -> None:
    """Write episodes.json with every figure, and tables.json and notes.json for the report.

    Parameters
    ----------
    points : Tensor
        Embeddings (n, d) of the volumes.
    space : Space
        The embedding.
    attention : Attention | None
        Attention block of ProtoNet-CE; None without a second stage.
    parts : Parts
        Which rows are trained on, which choose the epoch and which only count.
    config : Any
        Options of the run.
    run : Run
        The run: device, random numbers, log and checkpoints.
    """
    kinds = _embeddings(points, space, attention)
    rows = []
    for group, members in ((UNSEEN, parts.unseen), (HELD, parts.held)):
        way = min(config.way, len(members))
        for shot in config.evaluation_shots if config.evaluation_episodes and way > 1 else ():
            if min(len(r) for r in members.values()) <= shot:
                continue  # of the volumes held out there may be fewer than an episode needs
            query, generator = (
                queries_of(members, shot, config.query),
                run.generator("evaluation", group, shot),
            )
            found = evaluate(
                kinds, members, way, shot, query, config.evaluation_episodes, generator, attention
            )
            rows += [{"of": group} | row for row in found]
    facts = {
        "train_classes": list(parts.train),
        "unseen_classes": list(parts.unseen),
        "seed": run.seed,
    }
    run.write_json(FACTS, facts | {"rows": rows})
    groups = [(group, [row for row in rows if row["of"] == group]) for group in (UNSEEN, HELD)]
    run.write_json(TABLES, [_table(group, some, facts) for group, some in groups if some])
    run.write_json(NOTES, _notes(parts, config, run))


def _embeddings(points: Tensor, space: Space, attention: Attention | None) -> Mapping[str, Tensor]:
    """Name the method's own embedding first, then what it is made of."""
    kinds = {"": points}
    if attention is not None:
        kinds["without attention"] = points
    if space.described is None:
        return kinds
    return kinds | {
        "network alone": points[:, : space.width],
        "descriptors alone": points[:, space.width :],
    }


def _table(group: str, rows: list[dict[str, Any]], facts: Mapping[str, Any]) -> dict[str, Any]:
    columns = ["episodes", "accuracy", "interval", "way", "query", "number"]
    lines = [
        [
            f"{row['shot']}-shot" + (f", {row['embedding']}" if row["embedding"] else ""),
            *(round(row["accuracy"], 4), round(row["interval"], 4)),
            *(row["way"], row["query"], row["episodes"]),
        ]
        for row in rows
    ]
    note = (
        f"Trained on {', '.join(facts['train_classes'])}; unseen: "
        f"{', '.join(facts['unseen_classes']) or 'none'}; "
        f"seed {facts['seed']}. The interval, 1.96 s / sqrt(episodes), reflects the draws of "
        "support and queries, not "
        "the choice of classes."
    )
    return {"title": f"Episodes of {group}", "columns": columns, "rows": lines, "note": note}


def _notes(parts: Parts, config: Any, run: Run) -> list[str]:
    drawn = "" if config.train_classes else f" (drawn by seed {run.seed})"
    notes = [
        f"training classes: {', '.join(parts.train)}; unseen: "
        f"{', '.join(parts.unseen) or 'none'}{drawn}"
    ]
    query = queries_of(parts.train, config.shot, config.query)
    if query < config.query:
        notes.append(
            f"training episodes have {query} queries of each class: the smallest class has no more"
        )
    if len(parts.unseen) < 2:
        notes.append(
            f"no episodes of unseen classes: there are {len(parts.unseen)}, an episode needs 2"
        )
    elif len(parts.unseen) < config.way:
        notes.append(
            f"episodes of the {len(parts.unseen)} unseen classes are {len(parts.unseen)}-way"
        )
    notes.append(
        "the labels of the run's own volumes are by the prototypes of all its labelled volumes, "
        "each compared with the "
        "others; scores count the volumes of unseen classes"
        if parts.unseen
        else "every class was trained on: the labels of the run's own volumes say nothing of "
        "unseen classes"
    )
    return notes
