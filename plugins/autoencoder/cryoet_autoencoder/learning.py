"""Go from subtomograms to clusters: train the autoencoder, cluster its codes, draw the centres."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cryoet_autoencoder.config import AutoencoderConfig
from cryoet_autoencoder.fitting import Schedule, fit
from cryoet_autoencoder.kmeans import fit_kmeans, seed_of
from cryoet_autoencoder.labeller import NETWORK, ClusterLabeller, encode
from cryoet_autoencoder.likeness import Scores, particle_scores
from cryoet_autoencoder.losses import penalty, reconstruction
from cryoet_autoencoder.network import Autoencoder3D
from cryoet_autoencoder.pictures import PICTURES, write_centres
from cryoet_autoencoder.pose import Preparation
from cryoet_autoencoder.prepared import PreparedVolumes
from cryoet_core.runs.run import Run
from cryoet_core.support.errors import UserError
from cryoet_core.support.files import shown

EXPLAINED, ACTIVE = 0.02, 0.25
"""Fraction of the variance below which the reconstruction shows next to nothing, and fraction of
the code units that is few.
"""


def learn(
    data: Any, config: AutoencoderConfig, run: Run, name: str = "training", phase: str | None = None
) -> tuple[ClusterLabeller, np.ndarray, list[str]]:
    """Train autoencoder and clusters of subtomograms.

    Every process trains on its part of the data.

    Parameters
    ----------
    data : Any
        Subtomograms, all of one box size.
    config : AutoencoderConfig
        Options of the run.
    run : Run
        The run: device, random numbers, log and checkpoints.
    name : str, optional
        Name of the checkpoint.
    phase : str | None, optional
        Phase in the log; None for none.

    Returns
    -------
    tuple[ClusterLabeller, np.ndarray, list[str]]
        The labeller, the members of each cluster (k,) and notes.

    Raises
    ------
    UserError
        Where there are fewer subtomograms than clusters.
    """
    if config.k > len(data):
        raise UserError(
            f"`k` {config.k}: the data set has only {len(data)} subtomograms; lower `k` or give "
            "more data"
        )
    model = new_model(data.box, config, run)
    share = run.shard(len(data))
    volumes = run.volumes(data, None if run.world_size == 1 else np.arange(len(data))[share])
    preparation = Preparation(data.box, config.smoothing, config.pose, run.device)
    with run.timer("prepare"):
        prepared = PreparedVolumes(volumes, preparation, run.max_memory - volumes.nbytes)
    notes = train(model, prepared, config, run, name, phase)
    with run.timer("k-means"):
        codes = run.all_gather(encode(model.encoder, preparation, volumes, run).codes)
        clusters = fit_kmeans(
            codes.to(run.device), config.k, config.restarts, seed_of(run.generator("k-means"))
        )
        clusters = run.broadcast(clusters)
    if len(clusters.centres) < config.k:
        notes.append(
            f"only {len(clusters.centres)} codes differ, so there are no more clusters than these"
        )
    counts = clusters.assign(codes)[0].bincount(minlength=len(clusters.centres)).cpu().numpy()
    return ClusterLabeller(model, clusters, config.model_dump(mode="json")), counts, notes


def new_model(box: int, config: AutoencoderConfig, run: Run) -> Autoencoder3D:
    """Build the autoencoder, its weights drawn by the seed.

    Parameters
    ----------
    box : int
        Box size in voxels.
    config : AutoencoderConfig
        Options of the run.
    run : Run
        The run: device, random numbers, log and checkpoints.
    """
    torch.manual_seed(run.generator("autoencoder").initial_seed())
    return Autoencoder3D(box, **{key: getattr(config, key) for key in NETWORK}).to(run.device)


def train(
    model: Autoencoder3D,
    prepared: PreparedVolumes,
    config: AutoencoderConfig,
    run: Run,
    name: str,
    phase: str | None,
) -> list[str]:
    """Fit the autoencoder.

    Parameters
    ----------
    model : Autoencoder3D
        The autoencoder, changed in place.
    prepared : PreparedVolumes
        Volumes as the network sees them.
    config : AutoencoderConfig
        Options of the run.
    run : Run
        The run: device, random numbers, log and checkpoints.
    name : str
        Name of the checkpoint.
    phase : str | None
        Phase in the log; None for none.

    Returns
    -------
    list[str]
        Notes about the outcome.
    """
    seen: dict[str, Any] = {}

    def loss(rows: torch.Tensor, random: torch.Generator | None) -> torch.Tensor:
        batch = prepared[rows]
        with run.autocast():
            decoded, codes = model(batch)
        decoded, codes, target = decoded.float(), codes.float(), model.encoder.seen(batch)
        error = reconstruction(decoded, target)
        if random is None:  # the volumes held out: what the notes and the curves say
            used = (codes > 0).any(0)
            seen["used"] = used | seen["used"] if "used" in seen else used
            seen["error"] = seen.get("error", 0.0) + float(error) * len(rows)
            seen["variance"] = seen.get("variance", 0.0) + float(target.square().mean()) * len(rows)
        return error + config.penalty * penalty(codes)

    last: dict[str, Any] = {}

    def watch() -> dict[str, Any]:
        last["active_units"] = int(seen["used"].sum())
        last["explained_variance"] = 1 - seen["error"] / max(seen["variance"], 1e-12)
        seen.clear()
        return last

    schedule = Schedule(
        config.epochs, config.patience, config.batch_size, config.learning_rate, config.decay
    )
    fit(model, len(prepared), loss, schedule, run, name, phase=phase, watch=watch)
    rows = [row for row in run.metrics() if row.get("phase") == phase and "active_units" in row]
    return [] if not rows else _remarks(rows[-1], config)


def _remarks(last: dict[str, Any], config: AutoencoderConfig) -> list[str]:
    said = []
    if last["explained_variance"] < EXPLAINED:
        said.append(
            f"the autoencoder reproduces {max(last['explained_variance'], 0):.1%} of the variance "
            "of subtomograms held out: "
            "it shows little more than their mean; a larger `smoothing` helps against noise"
        )
    if last["active_units"] < ACTIVE * config.code:
        said.append(
            f"only {last['active_units']} of {config.code} units of the code are used; a lower "
            "`penalty` wakes more"
        )
    return said


def pictured(labeller: ClusterLabeller, counts: np.ndarray, run: Run) -> Scores:
    """Write the clusters' decoded centres, their table and the suggestion into the run's folder.

    Only rank 0 writes.

    Parameters
    ----------
    labeller : ClusterLabeller
        The finished autoencoder with its clusters.
    counts : np.ndarray
        Members of each cluster (k,).
    run : Run
        The run: device, random numbers, log and checkpoints.

    Returns
    -------
    Scores
        Which clusters look like particles.
    """
    pictures = labeller.decoded(labeller.clusters.centres)
    scores = particle_scores(pictures, torch.from_numpy(counts))
    if run.rank:
        return scores
    order = sorted(
        range(len(counts)), key=lambda i: (not bool(scores.suggested[i]), -int(counts[i]))
    )
    total = max(int(counts.sum()), 1)
    captions = [
        f"{name}: {int(counts[i])} members "
        f"({counts[i] / total:.0%}){', suggested' if scores.suggested[i] else ''}"
        for i, name in enumerate(labeller.classes)
    ]
    entries = write_centres(run.dir, pictures.numpy(), captions, order)
    note = (
        "Central xy, xz and yz slices of the decoded centre of each cluster, protein bright, all "
        "on one grey scale, "
        "and its fraction of all subtomograms. Suggested clusters, those that look like particles, "
        "come first. Choose by number: "
        f"cryoet run edss3d --clusters {shown(run.dir)} --keep {_example(scores, order)} --data "
        "TOMOGRAM"
    )
    run.write_json(PICTURES, [{"title": "Cluster centres", "note": note, "pictures": entries}])
    run.write_json("tables.json", [_table(labeller, counts, scores, order)])
    return scores


def _example(scores: Scores, order: list[int]) -> str:
    chosen = [i + 1 for i in order if scores.suggested[i]][:2] or [order[0] + 1]
    return f"{','.join(map(str, chosen))}:ribosome"


def _table(
    labeller: ClusterLabeller, counts: np.ndarray, scores: Scores, order: list[int]
) -> dict[str, Any]:
    rows = [
        [
            labeller.classes[i],
            int(counts[i]),
            round(float(scores.likeness[i]), 2),
            round(float(scores.contrast[i]), 2),
            "yes" if scores.suggested[i] else "",
        ]
        for i in order
    ]
    return {
        "title": "Which clusters look like particles",
        "columns": ["cluster", "members", "likeness", "contrast", "suggested"],
        "rows": rows,
        "note": "Likeness: correlation of the centre's picture with the best of several balls in "
        "the middle of the "
        "box. Contrast: mean density inside that ball less that outside, in standard deviations of "
        "a subtomogram.",
    }
