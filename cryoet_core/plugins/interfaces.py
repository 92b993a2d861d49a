"""The interfaces that methods implement: protocols for components, one ABC for what carries
metadata.

Array axes are (z, y, x) throughout; the beam is along z and the tilt axis is y. Positions are in Å.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from cryoet_core.picks.table import Picks

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from cryoet_core.plugins.config import Config as MethodConfig
    from cryoet_core.runs.run import Run
    from cryoet_core.tomograms import Tomogram, Tomograms

__all__ = [
    "Clusterer",
    "Dataset",
    "Encoder",
    "FewShotLabeller",
    "InputSpec",
    "Kind",
    "Labeller",
    "Labels",
    "MeasuredPicker",
    "Picker",
    "Picks",
    "Task",
    "Trainer",
]

Kind = Literal["subtomograms", "tomograms"]
Task = Literal["clustering", "classification", "picking"]


@dataclass(frozen=True)
class InputSpec:
    """One input of a trainer; its name becomes an option of ``cryoet run`` (``data`` ->
    ``--data``).

    ``labels`` says what the trainer may see: "never" makes the core strip labels and class names
    before ``fit``, "required" makes the core refuse a data set without any. The labels of tomograms
    are their picks.
    """

    help: str
    kind: Kind = "subtomograms"
    labels: Literal["never", "optional", "required"] = "optional"
    required: bool = True


@runtime_checkable
class Dataset(Protocol):
    """A data set of one kind. ``voxel_size`` is in Å.

    ``[i]`` of subtomograms is subtomogram i, float32, (z, y, x), protein bright; of tomograms it is
    the ``Tomogram``.
    """

    @property
    def kind(self) -> Kind: ...

    @property
    def voxel_size(self) -> float: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@runtime_checkable
class Encoder(Protocol):
    """A ``torch.nn.Module`` from volumes (n, 1, d, h, w) to features (n, dim)."""

    @property
    def dim(self) -> int:
        """Number of features of each volume."""

    def __call__(self, volumes: torch.Tensor, /) -> torch.Tensor: ...


@runtime_checkable
class Clusterer(Protocol):
    """scikit-learn's shape: ``fit`` on features (n, f), ``predict`` labels (n,)."""

    def fit(self, features: Any, /) -> Any: ...

    def predict(self, features: Any, /) -> Any: ...


@runtime_checkable
class Picker(Protocol):
    """Finds particle centres in a tomogram. The answer for one tomogram must not depend on others.

    ``tomogram`` comes without its own picks and may have another voxel size than those of training:
    ``tomogram.at`` resamples it. Long work keeps what it has done in the folder ``run.scratch``
    (``tomograms.tiles`` does) and goes on from there when ``pick`` is called again after a crash.
    Volumes that belong beside the picks go to ``run.results``.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that picks are of."""

    def pick(self, tomogram: Tomogram, run: Run, /) -> Picks: ...


@runtime_checkable
class MeasuredPicker(Protocol):
    """A picker of which more can be measured than its picks, where tomograms come with more truth
    than centres.

    ``cryoet run`` and ``cryoet evaluate`` print it beside precision and recall; in a benchmark it
    is the metric ``EVALUATION.measured.NAME``.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that picks are of."""

    def pick(self, tomogram: Tomogram, run: Run, /) -> Picks: ...

    def measure(self, truth: Tomograms, folder: Path, /) -> Mapping[str, float]:
        """Numbers by name for what ``pick`` left in ``folder``, its ``run.results``; none where
        ``truth`` lacks what they need, such as masks."""


@dataclass(frozen=True)
class Labels:
    """What a labeller says of n subtomograms, row i for volume i.

    labels (n,) int64: index into ``classes``, or -1 for "none of these". probabilities (n, k)
    float32, rows sum to 1. embedding (n, f) float32 or None. ``extra`` may hold, row for row:
    ``rotations`` (n, 3, 3) and ``shifts`` (n, 3) of the particles; ``split`` (n,) int8, into train,
    val and test, of rows that a classifier learnt from, so that only the others count in its
    accuracy.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    classes: tuple[str, ...]
    embedding: np.ndarray | None = None
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)


@runtime_checkable
class Labeller(Protocol):
    """Names subtomograms. Labelling one by one must equal labelling in a batch.

    A method that sorts or names depending on its input says which of them a labeller does by an
    attribute ``task``.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""

    def label(self, data: Dataset, run: Run, /) -> Labels: ...


@runtime_checkable
class FewShotLabeller(Protocol):
    """A labeller that can be shown a few examples of other classes: ``cryoet predict RUN --support
    FILE``.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""

    def label(self, data: Dataset, run: Run, /) -> Labels: ...

    def with_support(self, support: Dataset, run: Run, /) -> Labeller:
        """A labeller with the classes of the labelled subtomograms ``support``. UserError where
        they do not do.
        """


class Trainer(ABC):
    """A method. ``cryoet run NAME`` builds it from its config, calls ``fit`` and labels the data
    with the result.

    ``fit`` must resume from the run's last checkpoint when there is one, and reach the same result
    as an uninterrupted fit. ``load`` rebuilds the fitted labeller or picker from the run's folder
    alone.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    task: ClassVar[Task]
    inputs: ClassVar[Mapping[str, InputSpec]]
    Config: ClassVar[type[MethodConfig]]
    is_baseline: ClassVar[bool] = False
    """Whether other methods are compared with this one, so that its own runs show no baseline."""
    tiny: ClassVar[Mapping[str, Any]] = {}
    """Options with which the conformance kit fits a few volumes in seconds."""
    tiny_box: ClassVar[int] = 24
    """Edge in voxels of the volumes in the kit: the smallest that the method takes, or more."""

    def __init__(self, config: MethodConfig) -> None:
        self.config: Any = config

    @abstractmethod
    def fit(self, inputs: Mapping[str, Any], run: Run) -> Labeller | Picker:
        """Train on the data sets in ``inputs`` (keys as in ``self.inputs``) and return what was
        learnt.
        """

    @abstractmethod
    def load(self, run: Run) -> Labeller | Picker:
        """Rebuild what ``fit`` returned from the files that it left in ``run``."""
