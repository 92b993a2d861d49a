"""Classify structures that were never in training: ProtoNet3D and ProtoNet-CE.

An encoder is trained on episodes of the training classes; then any class is known by the mean of a
few examples, its prototype, and a volume is labelled by the nearest one (Uddin 2021; Li et al.
2020, doi:10.1371/journal.pcbi.1008227).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cryoet_core.plugins.interfaces import InputSpec, Trainer
from cryoet_core.runs.encoders import build_encoder, encoder_record, pretrained_encoder
from cryoet_core.runs.run import Run
from cryoet_core.runs.volumes import DeviceVolumes
from cryoet_core.support.errors import UserError
from cryoet_protonet import model as files
from cryoet_protonet.attention import Attention
from cryoet_protonet.classes import Parts, split_rows
from cryoet_protonet.config import ProtoNetCEConfig, ProtoNetConfig
from cryoet_protonet.labeller import ProtoLabeller, Support
from cryoet_protonet.network import blocks_for
from cryoet_protonet.scales import fit_scales, left_out_distances
from cryoet_protonet.space import Descriptors, Space, encoded, fit_space
from cryoet_protonet.stages import attention_stage, encoder_stage
from cryoet_protonet.tables import check_evaluation, write_tables
from cryoet_protonet.training import train

OWN = "protonet.protonet3d"


class ProtoNet(Trainer):
    """Train an encoder on episodes and label by prototypes (ProtoNet3D).

    References
    ----------
    Few-shot learning for classification of novel macromolecular structures in cryo-electron
    tomograms (2020). PLOS Computational Biology. doi:10.1371/journal.pcbi.1008227.
    """

    name, task = "protonet", "classification"
    summary = (
        "few-shot classification: names new structures from one to five examples each (ProtoNet3D)"
    )
    inputs: ClassVar = {"data": InputSpec("labelled subtomograms", labels="required")}
    Config = ProtoNetConfig
    tiny: ClassVar = {
        "shot": 2,
        "query": 3,
        "epochs": 2,
        "episodes_per_epoch": 4,
        "episodes_per_step": 2,
        "pool": 12,
        "width": 4,
        "blocks": 3,
        "evaluation_episodes": 20,
        "max_shift": 2,
    }

    def fit(self, inputs: Mapping[str, Any], run: Run) -> ProtoLabeller:
        """Train, or resume an interrupted training, and return what was learnt."""
        if run.load(files.MODEL) is None:  # else this is a resumed run, and the work is done
            self._fit(inputs["data"], run)
        return self.load(run)

    def load(self, run: Run) -> ProtoLabeller:
        """Rebuild what ``fit`` returned from the run's folder."""
        return files.load(run)

    def _fit(self, data: Any, run: Run) -> None:
        config = self.config
        if run.world_size > 1:
            raise UserError(
                f"`devices` {run.world_size}: {self.name} trains in one process; leave the option "
                "out"
            )
        parts = split_rows(data, config, run)
        check_evaluation(parts, config)
        run.say(
            f"training classes: {', '.join(parts.train)}; unseen: "
            f"{', '.join(parts.unseen) or 'none'}"
        )
        volumes = run.volumes(data)
        encoder, record = self._encoder(data.box, run)
        with run.timer("train"):
            train(encoder_stage(encoder, volumes, parts, config, run), parts, config, run)
        classes = torch.from_numpy(data.labels).to(run.device)
        with run.timer("embed"):
            descriptors = (
                Descriptors.fit(data, volumes, config.max_shift, run)
                if config.join_invariants
                else None
            )
            described = None if descriptors is None else descriptors(volumes)
            features = encoded(encoder, volumes, run)
            rows = (parts.known[0].to(run.device), parts.known[1].to(run.device))
            space = fit_space(
                encoder, features, descriptors, described, rows, classes, config.network_share
            )
            points = space.joined(features, described)
        attention, points = self._second_stage(space, volumes, points, described, parts, run)
        squares = left_out_distances(space, features, described, rows, classes)
        scales = fit_scales(squares, points, parts.held)
        names = [name for name in data.class_names if name in {*parts.train, *parts.unseen}]
        support = Support.of(data, points, names, parts.codes(len(data)))
        facts = {
            "box": data.box,
            "tilt_range": data.tilt_range,
            "tilt_axis": data.tilt_axis,
        } | record
        labeller = ProtoLabeller(space, support, scales, config.reject, facts, attention)
        with run.timer("evaluate"):
            write_tables(points, space, attention, parts, config, run)
        files.save(run, labeller)

    def _encoder(self, box: int, run: Run) -> tuple[nn.Module, dict[str, Any]]:
        """Build the encoder to train, and the record to build it again."""
        config = self.config
        run.reseed("encoder weights")
        if config.weights is not None:
            expect = config.encoder if "encoder" in config.model_fields_set else None
            encoder, record = pretrained_encoder(config.weights, box=box, expect=expect)
            return encoder.to(run.device), encoder_record(
                record["name"], record["box"], **record["options"]
            )
        blocks = config.blocks or blocks_for(box, config.bin)
        options = (
            {"width": config.width, "blocks": blocks, "bin": config.bin}
            if config.encoder == OWN
            else {}
        )
        encoder = build_encoder(config.encoder, box, **options)
        return encoder.to(run.device), encoder_record(config.encoder, box, **options)

    def _second_stage(
        self,
        space: Space,
        volumes: DeviceVolumes,
        points: Tensor,
        described: Tensor | None,
        parts: Parts,
        run: Run,
    ) -> tuple[Attention | None, Tensor]:
        """Leave the embedding as it is: there is no second stage here."""
        return None, points


class ProtoNetCE(ProtoNet):
    """Train as ``ProtoNet``, then attention between query and prototypes (ProtoNet-CE)."""

    name = "protonet_ce"
    summary = "protonet with attention between query and prototypes (ProtoNet-CE)"
    Config = ProtoNetCEConfig
    tiny: ClassVar = {**ProtoNet.tiny, "attention_epochs": 2}

    def _second_stage(
        self,
        space: Space,
        volumes: DeviceVolumes,
        points: Tensor,
        described: Tensor | None,
        parts: Parts,
        run: Run,
    ) -> tuple[Attention | None, Tensor]:
        run.reseed("attention weights")
        attention = Attention(space.dim).to(run.device)
        stage = attention_stage(
            attention, space, volumes, points, described, parts, self.config, run
        )
        with run.timer("train"):
            train(stage, parts, self.config, run)
        if not self.config.freeze_encoder:
            points = space.joined(encoded(space.encoder, volumes, run), described)
        return attention, points
