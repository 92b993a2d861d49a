"""One sound method, and for each check of the conformance kit methods that break just that rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pydantic
import torch

from cryoet_core import hookimpl
from cryoet_core.plugins.config import Config, option
from cryoet_core.plugins.interfaces import InputSpec, Labels, Trainer
from cryoet_core.support.errors import UserError


class Settings(Config):
    clusters: int = option(3, "number of classes", ge=2)
    steps: int = option(5, "number of iterations", ge=1)


def features(data: Any, device: torch.device) -> torch.Tensor:
    """Mean and standard deviation of the density in shells around the centre, (n, 8)."""
    if data.box < 8:
        raise UserError(f"{data.paths[0]}: box {data.box}; expected at least 8 voxels")
    volumes = torch.from_numpy(data.read(slice(None))).to(device)
    flat = torch.nn.functional.layer_norm(volumes, volumes.shape[1:]).flatten(1)
    axis = torch.arange(data.box) - data.box // 2
    radius = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt().flatten() / data.box
    shells = [(radius >= low) & (radius < low + 0.125) for low in (0, 0.125, 0.25, 0.375)]
    return torch.cat(
        [torch.stack([flat[:, s].mean(1), flat[:, s].std(1, correction=0)], dim=1) for s in shells],
        dim=1,
    )


class Labeller:
    """Nearest centre."""

    def __init__(self, centres: torch.Tensor) -> None:
        self.centres = centres
        self.classes = tuple(f"class{i + 1}" for i in range(len(centres)))

    def label(self, data: Any, run: Any) -> Labels:
        return self.answer(features(data, self.centres.device))

    def answer(self, found: torch.Tensor) -> Labels:
        near = torch.softmax(-0.3 * torch.cdist(found, self.centres) ** 2, dim=1)
        near, found = near.cpu(), found.cpu()
        return Labels(near.argmax(1).numpy(), near.numpy(), self.classes, found.numpy())


class Sound(Trainer):
    """Soft k-means by small steps, each on a random half of the volumes; a checkpoint after
    each.
    """

    name, task, summary = "sound", "clustering", "a method without a fault"
    inputs: ClassVar = {"data": InputSpec("subtomograms", labels="never")}
    Config = Settings
    tiny_box = 12

    def fit(self, inputs: Any, run: Any) -> Any:
        found = features(inputs["data"], self.device(run))
        if len(found) < self.config.clusters:
            raise UserError(
                f"--clusters {self.config.clusters}: the data has only {len(found)} volumes"
            )
        centres, done = self.begin(found, inputs["data"], run)
        for step in range(done, self.config.steps):
            half = torch.rand(len(found), generator=self.generator(run, step)) < 0.5
            half = half.to(self.device(run))
            share = torch.softmax(-0.3 * torch.cdist(found, centres) ** 2, dim=1) * half[:, None]
            centres = centres + 0.3 * (share.T @ found - share.sum(0)[:, None] * centres) / len(
                found
            )
            self.note(run, step, centres)
        return self.load(run)

    def begin(self, found: torch.Tensor, data: Any, run: Any) -> tuple[torch.Tensor, int]:
        last = run.load("last")
        if last is not None:
            return last[0]["centres"].to(self.device(run)), last[1]["step"]
        chosen = torch.randperm(len(found), generator=self.generator(run, -1))
        return found[chosen[: self.config.clusters]], 0

    def note(self, run: Any, step: int, centres: torch.Tensor) -> None:
        run.log(step=step, spread=centres.std())
        run.save("last", {"centres": centres}, {"step": step + 1})

    def generator(self, run: Any, step: int) -> torch.Generator:
        return run.generator("half", step)

    def device(self, run: Any) -> torch.device:
        return run.device

    def load(self, run: Any) -> Any:
        return self.labeller(run.load("last")[0]["centres"].to(self.device(run)))

    def labeller(self, centres: torch.Tensor) -> Any:
        return Labeller(centres)


class Misnamed(Sound):
    name = "another-name"


class Undescribed(Sound):
    name = "undescribed"

    class Config(Settings):
        momentum: float = 0.5


class Growing(Sound):
    """Its Config is another one after a trip through JSON."""

    name = "growing"

    class Config(Settings):
        width: int = option(4, "channels")

        @pydantic.field_validator("width")
        @classmethod
        def double(cls, width: int) -> int:
            return width * 2


class BadPreset(Sound):
    name = "bad-preset"

    class Config(Settings):
        width: int = option(4, "channels", ge=4, presets={"paper": 2})


class UnknownKind(Sound):
    name = "unknown-kind"
    inputs: ClassVar = {"data": InputSpec("cubes", kind="cubes", labels="never")}  # type: ignore[arg-type]


class NoInput(Sound):
    name = "no-input"
    inputs: ClassVar = {}


class Unnormalised(Sound):
    name = "unnormalised"

    def load(self, run: Any) -> Any:
        class Twice(Labeller):
            def answer(self, found: torch.Tensor) -> Labels:
                sound = super().answer(found)
                return Labels(sound.labels, sound.probabilities * 2, sound.classes)

        return Twice(run.load("last")[0]["centres"])


class Raising(Sound):
    name = "raising"

    def fit(self, inputs: Any, run: Any) -> Any:
        raise ZeroDivisionError("no luck")


class Forgetful(Sound):
    """``fit`` returns another labeller than ``load``."""

    name = "forgetful"

    def fit(self, inputs: Any, run: Any) -> Any:
        return Labeller(super().fit(inputs, run).centres * 1.5)


class Unseeded(Sound):
    name = "unseeded"

    def generator(self, run: Any, step: int) -> torch.Generator:
        generator = torch.Generator()
        generator.seed()
        return generator


class Meddling(Sound):
    """Overwrites the labels of the data that it is given."""

    name = "meddling"

    def fit(self, inputs: Any, run: Any) -> Any:
        learnt = super().fit(inputs, run)
        inputs["data"].labels[:] = learnt.label(inputs["data"], run).labels
        return learnt


class BatchDependent(Sound):
    """Standardises over the batch, as BatchNorm left in training mode does."""

    name = "batch-dependent"

    def load(self, run: Any) -> Any:
        class OverBatch(Labeller):
            def answer(self, found: torch.Tensor) -> Labels:
                return super().answer((found - found.mean(0)) / (found.std(0, correction=0) + 1e-3))

        return OverBatch(run.load("last")[0]["centres"])


class Peeping(Sound):
    """Starts from the true classes where it can see them."""

    name = "peeping"

    def begin(self, found: torch.Tensor, data: Any, run: Any) -> tuple[torch.Tensor, int]:
        if run.load("last") is None and (data.labels >= 0).any():
            return torch.stack(
                [found[torch.from_numpy(data.labels) == k].mean(0) for k in range(3)]
            ), 0
        return super().begin(found, data, run)


class Restarting(Sound):
    """Takes the checkpoint's centres but counts its steps from 0 again."""

    name = "restarting"

    def begin(self, found: torch.Tensor, data: Any, run: Any) -> tuple[torch.Tensor, int]:
        return super().begin(found, data, run)[0], 0


class StatefulRandom(Sound):
    """Draws from one generator for the whole fit, which a checkpoint does not hold."""

    name = "stateful-random"

    def fit(self, inputs: Any, run: Any) -> Any:
        self.one = run.generator("all")
        return super().fit(inputs, run)

    def generator(self, run: Any, step: int) -> torch.Generator:
        return self.one


class SavingFirst(Sound):
    """A crash between its checkpoint and its row of metrics loses the row."""

    name = "saving-first"

    def note(self, run: Any, step: int, centres: torch.Tensor) -> None:
        run.save("last", {"centres": centres}, {"step": step + 1})
        run.log(step=step, spread=centres.std())


class Silent(Sound):
    """Loses the rows of metrics that it logged before the interruption."""

    name = "silent"

    def fit(self, inputs: Any, run: Any) -> Any:
        (run.dir / "metrics.jsonl").unlink(missing_ok=True)
        return super().fit(inputs, run)


class Unguarded(Sound):
    """Takes for granted that there are as many volumes as clusters."""

    name = "unguarded"

    def fit(self, inputs: Any, run: Any) -> Any:
        inputs["data"].read(np.arange(3))
        return super().fit(inputs, run)


class Printing(Sound):
    name = "printing"

    def note(self, run: Any, step: int, centres: torch.Tensor) -> None:
        print("step", step)
        super().note(run, step, centres)


class Littering(Sound):
    """Writes into the working folder."""

    name = "littering"

    def fit(self, inputs: Any, run: Any) -> Any:
        Path("centres.txt").write_text("")
        return super().fit(inputs, run)


class Reseeding(Sound):
    """Seeds the global generator."""

    name = "reseeding"

    def fit(self, inputs: Any, run: Any) -> Any:
        torch.manual_seed(0)
        return super().fit(inputs, run)


class Threading(Sound):
    """Sets the number of threads."""

    name = "threading"

    def fit(self, inputs: Any, run: Any) -> Any:
        torch.set_num_threads(torch.get_num_threads() + 1)
        return super().fit(inputs, run)


class Doubled(Sound):
    """Its probabilities are of another type."""

    name = "doubled"

    def load(self, run: Any) -> Any:
        class Double(Labeller):
            def answer(self, found: torch.Tensor) -> Labels:
                sound = super().answer(found)
                return Labels(sound.labels, sound.probabilities.astype(np.float64), sound.classes)

        return Double(run.load("last")[0]["centres"])


class FromZero(Sound):
    """Ignores its checkpoint and does everything again."""

    name = "from-zero"

    def begin(self, found: torch.Tensor, data: Any, run: Any) -> tuple[torch.Tensor, int]:
        chosen = torch.randperm(len(found), generator=self.generator(run, -1))
        return found[chosen[: self.config.clusters]], 0


class HostBound(Sound):
    """Computes on the CPU, whatever the user asks for."""

    name = "host-bound"

    def device(self, run: Any) -> torch.device:
        return torch.device("cpu")


class SeedIgnoring(Sound):
    """Draws the same numbers for every seed."""

    name = "seed-ignoring"

    def generator(self, run: Any, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(step + 1)


class InPlace(Sound):
    """Changes its batches while predicting."""

    name = "in-place"

    def labeller(self, centres: torch.Tensor) -> Any:
        class Changing(Labeller):
            def label(self, data: Any, run: Any) -> Labels:
                for batch in run.volumes(data).batches(8):
                    batch *= 0.5
                return super().label(data, run)

        return Changing(centres)


class Guessing(Sound):
    """Its labels are the noise of one voxel."""

    name = "guessing"

    def labeller(self, centres: torch.Tensor) -> Any:
        class Guess(Labeller):
            def label(self, data: Any, run: Any) -> Labels:
                labels = np.abs(data.read(slice(None))[:, 0, 0, 0] * 1000).astype(np.int64) % 3
                return Labels(labels, np.eye(3, dtype=np.float32)[labels], self.classes)

        return Guess(centres)


class Deaf(Sound):
    """Asks for labels and does not use them."""

    name, task = "deaf", "classification"
    inputs: ClassVar = {"data": InputSpec("subtomograms", labels="required")}


class SmallEncoder(torch.nn.Module):
    """An encoder without a fault."""

    dim = 4

    def __init__(self, box: int) -> None:
        super().__init__()
        self.layer = torch.nn.Conv3d(1, self.dim, 3)

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        return self.layer(volumes).mean((2, 3, 4))


class Boxless(SmallEncoder):
    def __init__(self) -> None:
        super().__init__(24)


class Changes(SmallEncoder):
    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        if not self.training:
            volumes -= volumes.mean()
        return super().forward(volumes)


class Misdimensioned(SmallEncoder):
    dim = 4

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        return super().forward(volumes)[:, :3]


class OverBatch(SmallEncoder):
    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        found = super().forward(volumes)
        return found - found.mean(0)


class Doubles(SmallEncoder):
    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        return super().forward(volumes).double()


class Stuck(SmallEncoder):
    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        return super().forward(volumes).detach().requires_grad_()


ENCODER_FAULTS = {
    "boxless": (Boxless, "cannot be built for box size 24"),
    "changes": (Changes, "changes the volumes that it is given"),
    "misdimensioned": (Misdimensioned, "expected (4, 4), for its dim"),
    "over-batch": (OverBatch, "features of a volume depend on its batch"),
    "doubles": (Doubles, "expected float32"),
    "stuck": (Stuck, "no gradient reaches its parameters"),
}
"""Encoder -> factory and what the kit says of it."""


FAULTS: dict[str, set[str]] = {
    "sound": set(),
    "misnamed": {"check_name"},
    "undescribed": {"check_config"},
    "growing": {"check_config"},
    "bad-preset": {"check_config"},
    "unknown-kind": {"check_inputs"},
    "no-input": {"check_inputs"},
    "unnormalised": {"check_fit"},
    "raising": {"check_fit"},
    "forgetful": {"check_load"},
    "unseeded": {"check_seed"},
    "meddling": {"check_inputs_unchanged"},
    "batch-dependent": {"check_one_by_one"},
    "peeping": {"check_labels_unseen"},
    "restarting": {"check_resume"},
    "stateful-random": {"check_resume"},
    "saving-first": {"check_resume"},
    "silent": {"check_resume"},
    "unguarded": {"check_awkward_data"},
    "printing": {"check_output"},
    "littering": {"check_working_folder"},
    "reseeding": {"check_global_state"},
    "threading": {"check_global_state"},
    "doubled": {"check_fit"},
    "from-zero": {"check_resume"},
    "host-bound": {"check_device"},
    "seed-ignoring": {"check_seed_used"},
    "in-place": {"check_batches"},
    "guessing": {"check_learns"},
    "deaf": {"check_learns"},
}
"""Entry-point name -> the checks that must fail."""


@hookimpl
def cryoet_trainers() -> list[type[Trainer]]:
    found, left = [Sound], [Sound]
    while left:
        subclasses = left.pop().__subclasses__()
        found += subclasses
        left += subclasses
    return found


@hookimpl
def cryoet_encoders() -> dict[str, Any]:
    return {"small": SmallEncoder}
