"""Save and load a finished run's labeller, in one checkpoint."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cryoet_core.algorithms.centring import Centring
from cryoet_core.algorithms.descriptors import Invariants
from cryoet_core.runs.encoders import build_encoder, encoder_tensors
from cryoet_core.runs.run import Run
from cryoet_core.support.errors import RunError
from cryoet_protonet.attention import Attention
from cryoet_protonet.labeller import ProtoLabeller, Support
from cryoet_protonet.metric import Linear
from cryoet_protonet.scales import Scales
from cryoet_protonet.space import Descriptors, Space

MODEL = "model"
_LINEAR = ("mean", "matrix")
_CENTRING = ("template", "whitening")


def save(run: Run, labeller: ProtoLabeller) -> None:
    """Write everything that labelling needs, the encoder as ``runs.encoders`` wants it."""
    space, support, scales = labeller.space, labeller.support, labeller.scales
    tensors = dict(encoder_tensors(space.encoder)) | {
        f"network.{k}": getattr(space.network, k) for k in _LINEAR
    }
    facts = labeller.facts | {
        "reject": labeller.reject,
        "attention": labeller.attention is not None,
    }
    facts |= {"variance": scales.variance, "names": support.names, "files": support.files}
    if space.descriptors is not None and space.described is not None:
        centring = space.descriptors.centring
        tensors |= {f"described.{k}": getattr(space.described, k) for k in _LINEAR}
        tensors |= {f"centring.{k}": getattr(centring, k) for k in _CENTRING}
        facts |= {"centring": [centring.max_shift, centring.spread]}
    if labeller.attention is not None:
        tensors |= {f"attention.{k}": v for k, v in labeller.attention.state_dict().items()}
    tensors |= {
        "support.points": support.points,
        "support.classes": support.classes,
        "members": scales.members,
    }
    tensors |= {
        f"support.{k}": torch.from_numpy(getattr(support, k).copy())
        for k in ("codes", "file", "row")
    }
    run.save(MODEL, tensors, facts)


def load(run: Run) -> ProtoLabeller:
    """Return the labeller that ``save`` wrote.

    Raises
    ------
    RunError
        Where there is none.
    """
    saved = run.load(MODEL)
    if saved is None:
        raise RunError(
            f"{run.checkpoint_path(MODEL)}: missing, so there is nothing to label with; start the "
            "run again"
        )
    tensors, facts = saved
    device = run.device

    def part(prefix: str) -> dict[str, Tensor]:
        start = prefix + "."
        return {
            k.removeprefix(start): v.to(device) for k, v in tensors.items() if k.startswith(start)
        }

    record = facts["encoder"]
    encoder = build_encoder(record["name"], record["box"], **record["options"]).to(device)
    encoder.load_state_dict(part("encoder"))
    space = Space(encoder.eval(), Linear(**part("network")))
    if "centring" in facts:
        tilts = tuple(facts["tilt_range"]) if facts["tilt_range"] else None
        invariants = Invariants(facts["box"], tilts, facts["tilt_axis"], device)
        max_shift, spread = facts["centring"]
        centring = Centring(max_shift=max_shift, spread=spread, **part("centring"))
        space.descriptors = Descriptors(centring, invariants)
        space.described = Linear(**part("described"))
    attention = None
    if facts["attention"]:
        attention = Attention(space.dim).to(device)
        attention.load_state_dict(part("attention"))
        attention.eval()
    known = part("support")
    codes, file, row = (np.asarray(known[k].cpu()) for k in ("codes", "file", "row"))
    support = Support(
        tuple(facts["names"]),
        known["points"],
        known["classes"],
        codes,
        tuple(facts["files"]),
        file,
        row,
    )
    scales = Scales(facts["variance"], tensors["members"])
    kept = {k: facts[k] for k in ("box", "tilt_range", "tilt_axis", "encoder")}
    return ProtoLabeller(space, support, scales, facts["reject"], kept, attention)
