"""Define what the six methods have in common: domains, encoder, stages, calibration, reports."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from cryoet_core.plugins.interfaces import InputSpec, Trainer
from cryoet_core.runs.run import Run
from cryoet_core.support.errors import UserError
from cryoet_fsft import labeller as models
from cryoet_fsft.cubes import Cubes
from cryoet_fsft.domains import match
from cryoet_fsft.labeller import DomainLabeller
from cryoet_fsft.networks import Discriminator, Networks, feature_size
from cryoet_fsft.scoring import accuracy, fitted_temperature, target_logits
from cryoet_fsft.stages import AlignStage, Job
from cryoet_fsft.telling import maps, protocol_words, stage_table
from cryoet_fsft.training import Stage, run_stage, take_over

SMALL_BOX = 32
"""Below it the published network is narrow with many features (28 voxels), from it on wide with few
(40 voxels).
"""

MakeStage = Callable[[Job], Stage]


class DomainTrainer(Trainer):
    """Run the stages that a subclass names, with or without shots."""

    task = "classification"
    inputs: ClassVar = {
        "source": InputSpec(
            "labelled subtomograms to learn from, for example simulated ones", labels="required"
        ),
        "target": InputSpec(
            "subtomograms to classify, a few of each class labelled", labels="optional"
        ),
    }
    tiny_box = 16
    needs_shots: ClassVar[bool] = True
    split_encoder: ClassVar[bool] = False

    @abstractmethod
    def stages(self) -> list[MakeStage]:
        """Return the stages in order; the last one sees the shots, where any does."""

    def discriminator(self, edge: int, width: int, channels: int) -> Discriminator | None:
        """Build the discriminator, in methods that have one.

        Parameters
        ----------
        edge : int
            Edge of the volumes in voxels.
        width : int
            Channels of the convolutions.
        channels : int
            Channels of the last block.
        """
        return None

    def fit(self, inputs: Mapping[str, Any], run: Run) -> DomainLabeller:
        """Train, or resume an interrupted training, and return what was learnt."""
        finished = models.load(run)
        if finished is not None:
            return finished
        if run.world_size > 1:
            raise UserError(
                f"`devices` {run.world_size}: {self.name} trains in one process; leave `devices` "
                "out"
            )
        job = self._job(inputs, run)
        for line in (*job.domains.notes, protocol_words(job)):
            run.say(f"note: {line}")
        facts, makers = [], self.stages()
        if self.config.start is not None:
            self._take_over(job, [make(job) for make in makers], Path(self.config.start))
        for number, make in enumerate(makers):
            last = number == len(makers) - 1
            facts.append(
                run_stage(make(job), run, lambda: accuracy(job), best=last and job.domains.counted)
            )
        temperature = self._temperature(job, makers)
        self._tell(job, facts, temperature)
        models.save(run, self._labeller(job, inputs, temperature))
        return self.load(run)

    def load(self, run: Run) -> DomainLabeller:
        """Rebuild what ``fit`` returned from the run's folder."""
        found = models.load(run)
        assert found is not None
        return found

    # ---- the steps

    def _take_over(self, job: Job, stages: list[Stage], folder: Path) -> None:
        """Stage 1 of another run, and stage 2.1 where target and options are the same, too."""
        take_over(stages[0], folder, job.run, required=True)
        if (
            len(stages) > 1
            and isinstance(stages[1], AlignStage)
            and take_over(stages[1], folder, job.run, required=False)
        ):
            job.run.say(f"note: {stages[1].title} is that of {folder}, too")

    def _job(self, inputs: Mapping[str, Any], run: Run) -> Job:
        config, source, target = self.config, inputs["source"], inputs["target"]
        counted = config.protocol == "paper"
        domains = match(source, target, config.shots, run.seed, self.needs_shots, counted)
        edge = min(config.edge, source.box) or source.box
        small = edge < SMALL_BOX
        width = config.width or (16 if small else 32)
        channels = config.channels or (128 if small else 32)
        feature_size(edge, channels)
        torch.manual_seed(run.generator("networks").initial_seed())
        sizes = {"box": edge, "classes": len(domains.classes), "width": width, "channels": channels}
        self._network = sizes | {"split": self.split_encoder, "domain_norm": config.domain_norm}
        networks = Networks(**self._network).to(run.device)
        torch.manual_seed(run.generator("discriminator").initial_seed())
        discriminator = self.discriminator(edge, width, channels)
        if discriminator is not None:
            discriminator = discriminator.to(run.device)
        with run.timer("read"):
            cubes = Cubes(source, run, edge), Cubes(target, run, edge)
        record = {
            "source": [
                part.get("sha256_sampled", part["path"])
                for part in run.facts["fingerprints"]["source"]
            ],
            "classes": list(domains.classes),
            "encoder": {name: value for name, value in self._network.items() if name != "split"},
        }
        return Job(config, run, domains, *cubes, networks, record, discriminator)

    def _temperature(self, job: Job, makers: list[MakeStage]) -> float:
        """Fit the temperature on labelled target volumes that the networks have not learnt from.

        Those are the file's split val, or else, in a method that does not learn from the shots,
        the shots; in one that does, the last shot of each class, which a second run of the last
        stage leaves out.
        """
        saved = job.run.load("temperature")
        if saved is not None:
            return float(saved[1]["temperature"])
        rows, used = job.domains.held_out, job
        if self.config.calibrate and not len(rows) and len(job.domains.shots):
            if not self.needs_shots:
                rows = job.domains.shots
            else:
                used = self._without_last_shots(job)
                rows = used.domains.held_out
                if len(rows):
                    run_stage(_named(makers[-1](used), "calibrate"), job.run, lambda: None)
        found = 1.0
        if self.config.calibrate and len(rows):
            held = replace(used, domains=replace(used.domains, counted=False))
            found = fitted_temperature(target_logits(held, rows), job.domains.target_labels[rows])
        job.run.save(
            "temperature",
            {"temperature": torch.tensor(found)},
            {"temperature": found, "rows": len(rows)},
        )
        return found

    def _without_last_shots(self, job: Job) -> Job:
        """Return the job as it was before the last stage, with a shot of each class less."""
        domains = job.domains.without_last_shot()
        networks, discriminator = copy.deepcopy(job.networks), copy.deepcopy(job.discriminator)
        before = replace(job, domains=domains, networks=networks, discriminator=discriminator)
        _restore_stage(before, self._stage_names(job)[-2])
        return before

    def _stage_names(self, job: Job) -> list[str]:
        return [make(job).name for make in self.stages()]

    def _tell(self, job: Job, facts: list[dict[str, Any]], temperature: float) -> None:
        run = job.run
        run.write_json("tables.json", [stage_table(job, facts)])
        with run.timer("maps"):
            first = replace(job, networks=copy.deepcopy(job.networks), discriminator=None)
            _restore_stage(first, facts[0]["name"])
            panels = [
                *maps(first, "After stage 1"),
                *(maps(job, "At the end") if len(facts) > 1 else []),
            ]
        note = (
            "Features of up to 400 volumes of each domain on the two main axes of their joint "
            "variance."
        )
        run.write_json("scatters.json", [{"title": "Both domains", "note": note, "panels": panels}])
        counted = int((run.load("temperature") or ({}, {"rows": 0}))[1]["rows"])
        calibration = (
            f"probabilities: temperature {temperature:.2f}, fitted on {counted} held-out target "
            "volumes"
            if counted
            else "probabilities are not calibrated: no labelled target volume could be held out"
        )
        transductive = (
            "the unlabelled target volumes of training are those that are classified (transductive)"
        )
        seen = [transductive] if any(f["name"] == "align" for f in facts) else []
        run.write_json("notes.json", [*job.domains.notes, protocol_words(job), *seen, calibration])

    def _labeller(self, job: Job, inputs: Mapping[str, Any], temperature: float) -> DomainLabeller:
        target = inputs["target"]
        facts = {
            "box": target.box,
            "edge": self._network["box"],
            "network": self._network,
            "protocol": self.config.protocol,
            "split": job.domains.split.tolist(),
            "rows_of_files": [
                int((target.source_file == i).sum()) for i in range(len(target.paths))
            ],
        }
        return DomainLabeller(job.networks, job.domains.classes, temperature, facts)


def _restore_stage(job: Job, name: str) -> None:
    """Load the networks as a finished stage left them."""
    saved = job.run.load(name)
    assert saved is not None
    for part, module in (("networks.", job.networks), ("discriminator.", job.discriminator)):
        tensors = {k.removeprefix(part): v for k, v in saved[0].items() if k.startswith(part)}
        if module is not None and tensors:
            module.load_state_dict(tensors)


def _named(stage: Any, name: str) -> Stage:
    stage.name, stage.title = name, f"{stage.title}, without a shot of each class"
    named: Stage = stage
    return named
