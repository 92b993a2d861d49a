"""What a run reports of itself: accuracy over episodes, of the unseen classes and of volumes held out of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cryoet_core.run import Run
from cryoet_protonet.attention import Attention
from cryoet_protonet.classes import Parts
from cryoet_protonet.episodes import check_episode
from cryoet_protonet.evaluation import evaluate
from cryoet_protonet.space import Space

FACTS, TABLES, NOTES = "episodes.json", "tables.json", "notes.json"


def check_evaluation(parts: Parts, config: Any) -> None:
    """UserError, before anything is trained, where the unseen classes are too small for the evaluation's episodes."""
    if config.evaluation_episodes and len(parts.unseen) > 1:
        for shot in config.evaluation_shots:
            check_episode(parts.unseen, min(config.way, len(parts.unseen)), shot, config.query)


def write_tables(
    points: Tensor, space: Space, attention: Attention | None, parts: Parts, config: Any, run: Run
) -> None:
    """episodes.json with every figure, tables.json and notes.json for the report."""
    kinds = _embeddings(points, space, attention)
    rows = []
    for group, members in (("unseen classes", parts.unseen), ("held-out volumes of training classes", parts.held)):
        way = min(config.way, len(members))
        for shot in config.evaluation_shots if config.evaluation_episodes else ():
            if way > 1 and min(len(r) for r in members.values()) >= shot + config.query:
                generator = run.generator("evaluation", group, shot)
                count = config.evaluation_episodes
                found = evaluate(kinds, members, way, shot, config.query, count, generator, attention)
                rows += [{"of": group} | row for row in found]
    facts = {"train_classes": list(parts.train), "unseen_classes": list(parts.unseen), "seed": run.seed}
    run.write_json(FACTS, facts | {"rows": rows})
    if rows:
        run.write_json(TABLES, [_table(rows, facts)])
    run.write_json(NOTES, _notes(parts, config, run))


def _embeddings(points: Tensor, space: Space, attention: Attention | None) -> Mapping[str, Tensor]:
    """The method's own embedding first, then what it is made of."""
    kinds = {"attention" if attention is not None else "joined": points}
    if attention is not None:
        kinds["without attention"] = points
    if space.described is None:
        return kinds if attention is not None else {"network": points}
    return kinds | {"network alone": points[:, : space.width], "descriptors alone": points[:, space.width :]}


def _table(rows: list[dict[str, Any]], facts: Mapping[str, Any]) -> dict[str, Any]:
    columns = ["episodes of", "embedding", "way", "shot", "query", "episodes", "accuracy", "95 % interval"]
    keys = ("of", "embedding", "way", "shot", "query", "episodes")
    lines = [[*(row[key] for key in keys), f"{row['accuracy']:.3f}", f"± {row['interval']:.3f}"] for row in rows]
    note = (
        f"Trained on {', '.join(facts['train_classes'])}; unseen: {', '.join(facts['unseen_classes']) or 'none'}; "
        f"seed {facts['seed']}. The interval, 1.96 s / sqrt(episodes), reflects the draws of support and queries, not "
        "the choice of classes."
    )
    return {"title": "Accuracy over episodes", "columns": columns, "rows": lines, "note": note}


def _notes(parts: Parts, config: Any, run: Run) -> list[str]:
    drawn = "" if config.train_classes else f" (drawn by seed {run.seed})"
    notes = [f"training classes: {', '.join(parts.train)}; unseen: {', '.join(parts.unseen) or 'none'}{drawn}"]
    if len(parts.unseen) < 2:
        notes.append(f"no accuracy over episodes of unseen classes: there are {len(parts.unseen)}, an episode needs 2")
    if len(parts.unseen) >= 2 and len(parts.unseen) < config.way:
        notes.append(f"episodes of the {len(parts.unseen)} unseen classes are {len(parts.unseen)}-way")
    notes.append(
        "the labels of the run's own volumes are by the prototypes of all its labelled volumes, each compared with the "
        "others; scores count the volumes of unseen classes"
        if parts.unseen
        else "every class was trained on: the labels of the run's own volumes say nothing of unseen classes"
    )
    return notes
