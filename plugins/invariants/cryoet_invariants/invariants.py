"""The baseline of every clustering method; the work is done by ``cryoet_core.tasks.baseline``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from cryoet_core.plugins.config import Config, option
from cryoet_core.plugins.interfaces import InputSpec, Trainer
from cryoet_core.runs.run import Run
from cryoet_core.tasks.baseline import Yardstick


class InvariantsConfig(Config):
    """The number of clusters is chosen by BIC between k_min and k_max."""

    k_min: int = option(2, "smallest number of clusters to consider", ge=1, le=200)
    k_max: int = option(15, "largest number of clusters to consider", ge=1, le=200)
    dimensions: int = option(16, "principal components that are clustered", ge=1, le=128)
    restarts: int = option(5, "starts of each mixture", advanced=True, ge=1, le=100)
    reg_covar: float = option(
        1e-5, "added to covariances, as a fraction of the mean variance", advanced=True, gt=0, le=1
    )
    max_shift: float = option(
        6.0,
        "how far a particle may lie from the box centre, voxels; 0: all are centred",
        ge=0,
        le=32,
    )


class InvariantsTrainer(Trainer):
    name, task = "invariants", "clustering"
    is_baseline = True
    summary = (
        "rotation-invariant descriptors and a Gaussian mixture: the line that deep methods "
        "have to beat"
    )
    inputs: ClassVar = {"data": InputSpec("subtomograms to sort", labels="never")}
    Config = InvariantsConfig
    tiny: ClassVar = {"k_min": 1, "k_max": 4, "dimensions": 4, "restarts": 2, "max_shift": 2}

    def fit(self, inputs: Mapping[str, Any], run: Run) -> Yardstick:
        if run.load("model") is None:  # else this is a resumed run, and the work is done
            fitted, selection = Yardstick.fit(inputs["data"], run, **self.config.model_dump())
            run.write_json("model_selection.json", selection)
            run.log(step=0, k=selection["chosen"])
            fitted.save(run, "model")
        return self.load(run)

    def load(self, run: Run) -> Yardstick:
        return Yardstick.load(run, "model")
