"""The network of a run: YOPO, or an encoder of another plugin, fresh or trained by another run."""

from __future__ import annotations

from typing import Any

from torch import nn

from cryoet_core.runs.encoders import RECORD, build_encoder, encoder_record, pretrained_encoder
from cryoet_disca.config import DiscaConfig
from cryoet_disca.yopo import Yopo, check_box

Record = dict[str, Any]


def new_network(config: DiscaConfig, box: int) -> tuple[nn.Module, Record | None]:
    """The network that the options ask for, and the record of an encoder that is not our own.

    UserError where the cubes do not fit it, or the run named by ``--weights`` holds no such
    encoder.
    """
    if config.weights is not None:
        return pretrained_encoder(config.weights, box=box, expect=config.encoder)
    if config.encoder is not None:
        return build_encoder(config.encoder, box), encoder_record(config.encoder, box)[RECORD]
    check_box(box, config.blocks, config.bin)
    return _yopo(config), None


def same_network(config: DiscaConfig, record: Record | None) -> nn.Module:
    """A network of the same make, to be filled from a checkpoint; the run that its weights came
    from is not needed.
    """
    return (
        _yopo(config)
        if record is None
        else build_encoder(record["name"], record["box"], **record["options"])
    )


def _yopo(config: DiscaConfig) -> Yopo:
    return Yopo(config.width, config.blocks, config.features, config.bin)
