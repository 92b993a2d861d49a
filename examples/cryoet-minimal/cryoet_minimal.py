"""k-means on radial profiles, which a rotation does not change, so nothing has to be aligned."""

from __future__ import annotations

from typing import ClassVar

import torch
from sklearn.cluster import KMeans

from cryoet_core import hookimpl
from cryoet_core.plugins.config import Config, option
from cryoet_core.plugins.interfaces import InputSpec, Labels, Trainer
from cryoet_core.support.errors import UserError


class MinimalConfig(Config):
    clusters: int = option(3, "number of classes to sort into", ge=2, le=100)


class Minimal(Trainer):
    name, task = "minimal", "clustering"
    summary = "k-means on radial profiles, the smallest complete method"
    inputs: ClassVar = {"data": InputSpec("subtomograms to sort", labels="never")}
    Config = MinimalConfig

    def fit(self, inputs, run):
        if run.load("centres") is None:  # else this is a resumed run, and the work is done
            found = profiles(inputs["data"], run)
            if len(found) < self.config.clusters:
                raise UserError(f"`clusters`: the data has only {len(found)} subtomograms")
            kmeans = KMeans(self.config.clusters, n_init=10, random_state=run.seed)
            fitted = kmeans.fit(found.numpy())
            run.log(step=0, loss=fitted.inertia_ / len(found))
            run.save("centres", {"centres": torch.from_numpy(fitted.cluster_centers_)})
        return self.load(run)

    def load(self, run):
        return NearestCentre(run.load("centres")[0]["centres"])


class NearestCentre:
    def __init__(self, centres):
        self.centres, self.classes = centres, tuple(f"class{i + 1}" for i in range(len(centres)))

    def label(self, data, run):
        found = profiles(data, run)
        near = torch.softmax(-(torch.cdist(found, self.centres) ** 2), dim=1)
        return Labels(near.argmax(1).numpy(), near.numpy(), self.classes, embedding=found.numpy())


def profiles(data, run):
    """Mean density in each one-voxel shell around the centre, (n, box // 2)."""
    axis = torch.arange(data.box, device=run.device) - data.box // 2
    square = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    shells = torch.nn.functional.one_hot(square.sqrt().round().long().flatten())[
        :, : data.box // 2
    ].float()
    batches = run.volumes(data).batches(256)
    return torch.cat([batch.flatten(1) @ (shells / shells.sum(0)) for batch in batches]).cpu()


@hookimpl
def cryoet_trainers():
    return [Minimal]
