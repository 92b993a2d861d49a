"""A small network that learns from labels and can be resumed, and the encoder in it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import nn

from cryoet_core import hookimpl
from cryoet_core.plugins.config import Config, option
from cryoet_core.plugins.interfaces import InputSpec, Labels, Trainer
from cryoet_core.runs.training_state import network_tensors, restore_training, training_tensors
from cryoet_core.support.errors import UserError


class SmallEncoder(nn.Module):
    """Volumes (n, 1, d, h, w) to features (n, dim); it takes the box and ``dim``."""

    def __init__(self, box, dim=16):
        super().__init__()
        if box < 8:
            raise ValueError(f"expected boxes of at least 8 voxels, not {box}")
        self.dim = dim
        self.first, self.second = nn.Conv3d(1, 8, 3), nn.Conv3d(8, dim, 3)

    def forward(self, volumes):
        x = nn.functional.avg_pool3d(torch.relu(self.first(volumes)), 2)
        return torch.relu(self.second(x)).mean(dim=(2, 3, 4))


class SmallNetworkConfig(Config):
    epochs: int = option(50, "passes over the data", ge=1, presets={"fast": 10})
    learning_rate: float = option(0.01, "of Adam", gt=0)
    batch_size: int = option(16, "subtomograms in a batch", ge=1)


class SmallNetwork(Trainer):
    name, task = "small_network", "classification"
    summary = "a network of two convolutions, trained on labels"
    inputs: ClassVar = {"data": InputSpec("labelled subtomograms", labels="required")}
    Config = SmallNetworkConfig
    tiny: ClassVar = {"epochs": 25, "learning_rate": 0.03}
    tiny_box = 16

    def fit(self, inputs, run):
        data, config = inputs["data"], self.config
        rows = np.flatnonzero(data.labels >= 0)
        if data.box < 8:
            raise UserError(f"{data.paths[0]}: box {data.box}; expected at least 8 voxels")
        run.reseed("network")  # the initial weights depend on the run's seed
        network = network_of(data.box, len(data.class_names)).to(run.device)
        optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
        done = 0
        if (saved := run.load("network")) is not None:  # this is a resumed run
            restore_training(network, optimiser, saved[0])
            done = saved[1]["epochs"]
        volumes = run.volumes(data)
        labels = torch.from_numpy(data.labels).to(run.device)
        for epoch in run.progress(range(done, config.epochs), "training"):
            generator = run.generator("order", epoch)  # the same numbers after a resume
            order = rows[torch.randperm(len(rows), generator=generator).numpy()]
            losses = []
            for start in range(0, len(order), config.batch_size):
                chosen = torch.from_numpy(order[start : start + config.batch_size])
                with run.autocast():
                    answer = network(volumes[chosen])
                    loss = nn.functional.cross_entropy(answer, labels[chosen.to(run.device)])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.item())
            run.log(step=epoch, loss=float(np.mean(losses)))  # first the row, then the checkpoint
            state = {"epochs": epoch + 1, "box": data.box, "classes": list(data.class_names)}
            run.save("network", training_tensors(network, optimiser), state)
        return self.load(run)

    def load(self, run):
        tensors, state = run.load("network")
        network = network_of(state["box"], len(state["classes"]))
        network.load_state_dict(network_tensors(tensors))
        return Labeller(network.to(run.device).eval(), tuple(state["classes"]))


class Labeller:
    def __init__(self, network, classes):
        self.network, self.classes = network, classes

    @torch.no_grad()
    def label(self, data, run):
        encoder, head = self.network
        features = torch.cat([encoder(batch) for batch in run.volumes(data).batches(64)])
        found = torch.softmax(head(features).float(), dim=1).cpu().numpy()
        return Labels(
            found.argmax(1), found, self.classes, embedding=features.float().cpu().numpy()
        )


def network_of(box, classes):
    encoder = SmallEncoder(box)
    return nn.Sequential(encoder, nn.Linear(encoder.dim, classes))


@hookimpl
def cryoet_trainers():
    return [SmallNetwork]


@hookimpl
def cryoet_encoders():
    return {"small": SmallEncoder}
