"""Hold what a finished autoencoder run knows: encoder, decoder and the clusters of the codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cryoet_autoencoder.kmeans import Clusters
from cryoet_autoencoder.network import Autoencoder3D
from cryoet_autoencoder.pose import Preparation
from cryoet_core.plugins.interfaces import Labels
from cryoet_core.runs.encoders import encoder_record
from cryoet_core.runs.run import Run
from cryoet_core.support.errors import UserError

ENCODER = "autoencoder.encoder3d"
NETWORK = ("width", "code", "bin")
BATCH = 64


class Encoded(NamedTuple):
    """Codes and poses of volumes, on the CPU.

    Attributes
    ----------
    codes : Tensor
        Codes (n, dim).
    rotations : Tensor
        Rotations (n, 3, 3) of the particles.
    shifts : Tensor
        Shifts (n, 3) of the particles, in voxels.
    """

    codes: Tensor
    rotations: Tensor
    shifts: Tensor


class ClusterLabeller:
    """Label subtomograms by the cluster whose centre is nearest.

    Parameters
    ----------
    model : Autoencoder3D
        The autoencoder.
    clusters : Clusters
        Clusters of the codes.
    options : Mapping[str, Any]
        Options of the run that made it.
    """

    def __init__(
        self, model: Autoencoder3D, clusters: Clusters, options: Mapping[str, Any]
    ) -> None:
        self.model, self.clusters, self.options = model.eval(), clusters, dict(options)
        self.classes = tuple(f"cluster{i + 1}" for i in range(len(clusters.centres)))

    def label(self, data: Any, run: Run) -> Labels:
        """Label subtomograms; ``extra`` holds the poses where the run normalises them.

        Raises
        ------
        UserError
            For subtomograms of another box size.
        """
        self.check(data)
        encoded = encode(
            self.model.encoder, self.preparation(data.box, run), run.volumes(data), run
        )
        nearest, shares = self.clusters.assign(encoded.codes)
        posed = {"rotations": encoded.rotations.numpy(), "shifts": encoded.shifts.numpy()}
        extra = posed if self.options["pose"] else {}
        return Labels(nearest.numpy(), shares.numpy(), self.classes, encoded.codes.numpy(), extra)

    def check(self, data: Any) -> None:
        """Check that subtomograms have the box size of the training.

        Raises
        ------
        UserError
            Where they have not.
        """
        box = self.model.encoder.box
        if data.box != box:
            raise UserError(
                f"the run was trained on subtomograms of {box} voxels, the data set has "
                f"{data.box}; cut or resample the new subtomograms to the same box size and voxel "
                "size"
            )

    def preparation(self, box: int, run: Run) -> Preparation:
        """Build what is done with subtomograms before the network sees them."""
        return Preparation(box, self.options["smoothing"], self.options["pose"], run.device)

    @torch.no_grad()
    def decoded(self, codes: Tensor) -> Tensor:
        """Decode codes (n, dim) to volumes (n, s, s, s) on their device; s is box over ``bin``."""
        device = next(self.model.parameters()).device
        parts = [
            self.model.decoder(part.to(device))[:, 0].to(codes.device)
            for part in codes.split(BATCH)
        ]
        return torch.cat(parts)


@torch.no_grad()
def encode(encoder: torch.nn.Module, preparation: Preparation, volumes: Any, run: Run) -> Encoded:
    """Compute codes and poses of all volumes.

    It is in float32, so that the code of a subtomogram does not depend on the rest of its batch.

    Parameters
    ----------
    encoder : torch.nn.Module
        Network from volumes (n, 1, b, b, b) to features (n, dim).
    preparation : Preparation
        What is done with volumes before the encoder sees them.
    volumes : Any
        Volumes of the data set, which give batches.
    run : Run
        The run: device, random numbers, log and checkpoints.
    """
    parts = []
    for batch in run.progress(volumes.batches(BATCH), "encoding"):
        ready = preparation(batch)
        parts.append(
            (encoder(ready.volumes.half().float()).cpu(), ready.rotations.cpu(), ready.shifts.cpu())
        )
    return Encoded(*(torch.cat(column) for column in zip(*parts, strict=True)))


# ---- files ---------------------------------------------------------------------------------------


def save(run: Run, name: str, labeller: ClusterLabeller) -> None:
    """Write network and clusters in one checkpoint, from which others may take the encoder.

    See ``cryoet_core.runs.encoders``.

    Parameters
    ----------
    run : Run
        The run: device, random numbers, log and checkpoints.
    name : str
        Name of the checkpoint.
    labeller : ClusterLabeller
        The finished autoencoder with its clusters.
    """
    encoder, clusters = labeller.model.encoder, labeller.clusters
    options = {key: labeller.options[key] for key in NETWORK}
    tensors = dict(labeller.model.state_dict()) | {"clusters.centres": clusters.centres}
    state = {
        "options": labeller.options,
        "box": encoder.box,
        "variance": clusters.variance,
        "inertia": clusters.inertia,
    }
    run.save(name, tensors, state | encoder_record(ENCODER, encoder.box, **options))


def load(run: Run, name: str) -> ClusterLabeller | None:
    """Return what ``save`` wrote, or None where there is nothing."""
    saved = run.load(name)
    if saved is None:
        return None
    tensors, state = saved
    model = Autoencoder3D(state["box"], **{key: state["options"][key] for key in NETWORK})
    centres = tensors.pop("clusters.centres")
    model.load_state_dict(tensors)
    return ClusterLabeller(
        model.to(run.device),
        Clusters(centres, state["variance"], state["inertia"]),
        state["options"],
    )
