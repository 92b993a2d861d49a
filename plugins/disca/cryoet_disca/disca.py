"""DISCA: deep iterative subtomogram clustering, label-free.

Rounds of clustering the network's features and training the network on the clusters (paper 002 and
its references); the round with the lowest DDBI wins. Then, unless switched off, the clusters seed
densities that are refined together with every particle's pose, and the densities give the final
labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from cryoet_core.algorithms.centring import Centring, sample_rows
from cryoet_core.algorithms.descriptors import Invariants
from cryoet_core.algorithms.mixtures.selection import candidates
from cryoet_core.plugins.interfaces import InputSpec, Trainer
from cryoet_core.runs.run import Run
from cryoet_core.runs.volumes import DeviceVolumes
from cryoet_disca import labeller as models
from cryoet_disca.config import DiscaConfig
from cryoet_disca.features import BATCH, described
from cryoet_disca.iteration import Clustering, Rounds, cluster, collapse, train
from cryoet_disca.labeller import MODEL, DiscaLabeller
from cryoet_disca.network import new_network
from cryoet_disca.refine import draw_sample, mixture, refine, without_idle_empty

ROUNDS, BEST = "rounds", "best"
LEAST_EVIDENCE = 1.0
"""Nats per particle; densities that gain less than this over noise show nothing."""


class Disca(Trainer):
    name, task = "disca", "clustering"
    summary = (
        "unsupervised deep clustering: sorts subtomograms into molecular classes without a label"
    )
    inputs: ClassVar = {"data": InputSpec("subtomograms to sort", labels="never")}
    Config = DiscaConfig
    tiny: ClassVar = {
        "k_min": 1,
        "k_max": 4,
        "iterations": 2,
        "width": 4,
        "blocks": 2,
        "features": 16,
        "components": 4,
        "restarts": 2,
        "max_shift": 2,
    }

    def fit(self, inputs: Mapping[str, Any], run: Run) -> DiscaLabeller:
        data, config = inputs["data"], self.config
        candidates(config.k_min, config.k_max, len(data))
        finished = models.load(run, MODEL)
        if finished is not None:
            return finished
        self._encoder = new_network(config, data.box)[1]
        share = run.shard(len(data))
        mine = None if run.world_size == 1 else np.arange(len(data))[share]
        volumes = run.volumes(data, mine)
        with run.timer("centring"):
            some = sample_rows(len(data), share)
            centring = Centring.fit(
                lambda: volumes.batches(BATCH, some),
                data.box,
                config.max_shift,
                run.device,
                reduce=run.all_reduce,
            )
        best = self._rounds(data, volumes, centring, run)
        if config.refine:
            with run.timer("refine"):
                best = self._refined(best, data, volumes, share, run)
        models.save(run, MODEL, best)
        return self.load(run)

    def load(self, run: Run) -> DiscaLabeller:
        return models.load(run, MODEL)  # type: ignore[return-value]

    # ---- the rounds

    def _rounds(
        self, data: Any, volumes: DeviceVolumes, centring: Centring, run: Run
    ) -> DiscaLabeller:
        """Cluster and train until the labels stay or the rounds are used up; the best round's
        model.
        """
        config = self.config
        invariants = None
        if config.join_invariants or config.init == "invariants":
            invariants = Invariants(data.box, data.tilt_range, data.tilt_axis, run.device)
        descriptors = [] if invariants is None else described(invariants, centring, volumes)
        rounds = self._start(data.box, run)
        for number in run.progress(range(rounds.done, config.iterations), "clustering"):
            if rounds.finished:
                break
            with run.timer("cluster"):
                found, agreement = cluster(
                    rounds, volumes, invariants, descriptors, centring, config, run
                )
            trouble = collapse(found, config, run)
            # DDBI is low where nearly all points are in one place: a collapsed round wins over none
            # only
            if rounds.best_round < 0 or (trouble is None and found.score < rounds.best):
                rounds.best, rounds.best_round = (
                    found.score if trouble is None else float("inf"),
                    number,
                )
                models.save(run, BEST, self._labeller(found, data))
                run.write_json("model_selection.json", found.selection)
            stays = agreement is not None and agreement > config.unchanged
            rounds.finished = stays or number == config.iterations - 1
            loss = None
            if not rounds.finished:
                with run.timer("train"):
                    loss = train(rounds, found, volumes, config, run)
            run.log(
                step=number,
                k=found.mixture.k,
                ddbi=_finite(found.score),
                agreement=agreement,
                loss=loss,
            )
            rounds.done, rounds.k, rounds.labels = number + 1, found.mixture.k, found.labels
            if number == config.iterations - 1 and number > 0 and not stays:
                rounds.notes.append(
                    f"the labels were still changing after {rounds.done} rounds of clustering"
                )
            if trouble is not None and rounds.finished:
                rounds.notes.append(f"round {rounds.done}: {trouble}")
            elif trouble is not None:
                self._restart(rounds, trouble, data.box, run)
            self._save(rounds, run)
        self._notes = rounds.notes
        run.write_json("notes.json", rounds.notes)
        best = models.load(run, BEST)
        assert best is not None
        return best

    def _start(self, box: int, run: Run) -> Rounds:
        """A fresh network, or what the last finished round of an interrupted run left."""
        torch.manual_seed(run.generator("network").initial_seed())
        rounds = Rounds(new_network(self.config, box)[0].to(run.device))
        saved = run.load(ROUNDS)
        if saved is None:
            return rounds
        tensors, facts = saved
        rounds.network.load_state_dict(
            {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
        )
        if "head.weight" in tensors:
            width, classes = cast(int, rounds.network.dim), len(tensors["head.bias"])
            rounds.head = torch.nn.Linear(width, classes).to(run.device)
            rounds.head.load_state_dict(
                {"weight": tensors["head.weight"], "bias": tensors["head.bias"]}
            )
        labels = tensors["labels"].long().to(run.device)
        rounds.labels = labels[run.shard(len(labels))]
        for name in ("done", "k", "best_round", "finished", "notes"):
            setattr(rounds, name, facts[name])
        rounds.best = float("inf") if facts["best"] is None else facts["best"]
        return rounds

    def _save(self, rounds: Rounds, run: Run) -> None:
        assert rounds.labels is not None
        tensors: dict[str, Tensor] = {
            f"network.{key}": value for key, value in rounds.network.state_dict().items()
        }
        if rounds.head is not None:
            tensors |= {f"head.{key}": value for key, value in rounds.head.state_dict().items()}
        tensors["labels"] = run.all_gather(rounds.labels)
        facts = {
            name: getattr(rounds, name) for name in ("done", "k", "best_round", "finished", "notes")
        }
        run.save(ROUNDS, tensors, facts | {"best": _finite(rounds.best)})

    def _restart(self, rounds: Rounds, trouble: str, box: int, run: Run) -> None:
        """After a collapse the network starts again, from other random weights or those given; the
        notes say so.
        """
        whose = "other weights" if self.config.weights is None else "the weights given"
        note = f"round {rounds.done}: {trouble}; the network was started again from {whose}"
        rounds.notes.append(note)
        run.say(f"note: {note}")
        torch.manual_seed(run.generator("network", rounds.done).initial_seed())
        rounds.network = new_network(self.config, box)[0].to(run.device)
        rounds.head = None

    # ---- the densities

    def _refined(
        self, best: DiscaLabeller, data: Any, volumes: DeviceVolumes, share: slice, run: Run
    ) -> DiscaLabeller:
        model = mixture(data, self.config, run)
        points = run.all_gather(best.space.points(volumes, run))
        sample = draw_sample(points, share.start, len(volumes), self.config.refine_sample, run)
        state = refine(model, volumes, sample, best.space.centring, self.config, run)
        evidence = state.history[-1]["log_evidence"]
        if evidence < LEAST_EVIDENCE:
            note = (
                f"the refinement found nothing: its densities explain a particle {evidence:.2g} "
                "nats better than noise "
                "does; the labels are those of the clusters before it"
            )
            self._remark(note, run)
            return best
        densities = without_idle_empty(state.parameters, len(sample.rows))
        return DiscaLabeller(best.space, best.mixture, densities, best.facts, state.spread)

    def _remark(self, note: str, run: Run) -> None:
        """Say a note and add it to those of the rounds."""
        run.say(f"note: {note}")
        run.write_json("notes.json", [*self._notes, note])

    def _labeller(self, found: Clustering, data: Any) -> DiscaLabeller:
        facts = {
            "box": data.box,
            "tilt_range": data.tilt_range,
            "tilt_axis": data.tilt_axis,
            "config": self.config.model_dump(),
            "encoder": self._encoder,
        }
        return DiscaLabeller(found.space, found.mixture, None, facts)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
