"""What a run found, for a notebook or a script."""

from __future__ import annotations

import html
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cryoet_core.algorithms.averages import read_averages
from cryoet_core.api.opening import PathLike, as_paths, files_of, temporary_folder
from cryoet_core.api.picking import Picks, geometry_of
from cryoet_core.formats.picks.store_file import load_picks
from cryoet_core.plugins.discovery import load_trainer
from cryoet_core.report.drawing.images import central_slices, strip
from cryoet_core.runs.inputs import open_input, subject_name
from cryoet_core.runs.predictions import HDF5_NAME, Predictions, read_predictions
from cryoet_core.runs.run import Run
from cryoet_core.support.errors import UserError
from cryoet_core.support.files import read_json
from cryoet_core.tasks.session import evaluate_run, predict_run
from cryoet_core.tomograms import Tomograms

PICKS_FILE, EVALUATION, AVERAGES = "picks.h5", "evaluation.json", "averages"


@dataclass(frozen=True)
class Poses:
    """Rotations and shifts that a method found, one row for each subtomogram.

    Attributes
    ----------
    rotations : numpy.ndarray
        (n, 3, 3), active, from the frame of the average to that of the subtomogram.
    shifts : numpy.ndarray
        (n, 3), axes (z, y, x), in voxels.
    """

    rotations: np.ndarray
    shifts: np.ndarray | None


class Result:
    """The result of a run, or of what a run predicted for other data.

    Parameters
    ----------
    folder : Path
        Where labels or picks lie.
    run_folder : Path
        The folder of the run; the same, but for predictions.
    facts : mapping
        The facts of the closing line.
    tomograms : Tomograms, optional
        The tomograms that were picked in, where they are open already.
    """

    def __init__(
        self,
        folder: Path,
        run_folder: Path,
        facts: Mapping[str, Any],
        tomograms: Tomograms | None = None,
    ) -> None:
        self.folder, self.run_folder, self.facts = folder, run_folder, dict(facts)
        self._tomograms = tomograms

    @classmethod
    def of_run(cls, folder: Path) -> Result:
        """Open the folder of a finished run. UserError where it is none."""
        run = Run.open(folder, quiet=True)
        if run.facts["status"] != "done":
            raise UserError(f"{folder}: this run is not finished; resume it with `cryoet resume`")
        facts = {"method": run.method, "seed": run.seed} | run.facts.get("facts", {})
        return cls(run.dir, run.dir, facts)

    # ---- subtomograms ----------------------------------------------------------------------------

    @cached_property
    def _predictions(self) -> Predictions:
        if not (self.folder / HDF5_NAME).exists():
            raise UserError(f"{self.folder}: this run picks in tomograms; see `result.picks`")
        return read_predictions(self.folder)

    @property
    def labels(self) -> np.ndarray:
        """Label (n,) of each subtomogram: an index into ``class_names``, -1 for none of them."""
        return self._predictions.labels.labels

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self._predictions.labels.classes

    @property
    def probabilities(self) -> np.ndarray:
        """Probability (n, k) of each class; rows sum to 1."""
        return self._predictions.labels.probabilities

    @property
    def embedding(self) -> np.ndarray | None:
        """Features (n, f) of each subtomogram, None where the method has none."""
        return self._predictions.labels.embedding

    @property
    def poses(self) -> Poses | None:
        """Rotations and shifts, None where the method finds none."""
        extra = self._predictions.labels.extra
        return Poses(extra["rotations"], extra.get("shifts")) if "rotations" in extra else None

    @cached_property
    def averages(self) -> dict[str, np.ndarray]:
        """The average (d, h, w) of each class, by name; protein is bright."""
        folder = self.folder / AVERAGES
        found = read_averages(folder) if folder.is_dir() else {}
        return {name: volume for name, (volume, _) in found.items()}

    # ---- tomograms -------------------------------------------------------------------------------

    @cached_property
    def picks(self) -> Picks:
        """The particle centres that a picker found."""
        path = self.folder / PICKS_FILE
        if not path.exists():
            raise UserError(f"{self.folder}: this run labels subtomograms; see `result.labels`")
        return Picks.wrap(load_picks(path), self._geometry())

    def _geometry(self) -> dict[str, Any]:
        if self._tomograms is not None:
            return geometry_of(self._tomograms)
        run = Run.open(self.run_folder, quiet=True)
        trainer = load_trainer(run.method)
        name = subject_name(trainer, run.inputs)
        try:
            data = open_input(
                name,
                trainer.inputs[name],
                run.inputs[name],
                labels_required=False,
                reading={"default_contrast": "dark", **run.reading},
            )
        except UserError:  # the tomograms have gone: formats that count in voxels ask for a size
            return {}
        return geometry_of(data)

    # ---- both ------------------------------------------------------------------------------------

    @property
    def metrics(self) -> dict[str, Any]:
        """The comparison with known labels or picks; empty where none are known."""
        path = self.folder / EVALUATION
        return dict(read_json(path)) if path.exists() else {}

    @property
    def report(self) -> Path:
        """The path of the HTML report."""
        return self.folder / "report.html"

    def predict(
        self,
        data: Any,
        *,
        out: PathLike | None = None,
        support: Any = None,
        quiet: bool = False,
        **said: Any,
    ) -> Result:
        """Label or pick in other data with what was learnt.

        Parameters
        ----------
        data : path, paths, Subtomograms, Tomograms or numpy.ndarray
            The other data.
        out : str or os.PathLike, optional
            The folder of the results; a temporary one without it.
        support : path or paths, optional
            Labelled examples of the classes to name, for methods that learn to compare.
        quiet : bool
            Print nothing.
        **said
            What files do not say: ``contrast``, ``voxel_size``, ``tilt_range``.

        Returns
        -------
        Result
            The labels or the picks of the other data.

        Raises
        ------
        UserError
            The data does not fit the run.
        """
        scratch = temporary_folder()
        folder = scratch / "predictions" if out is None else Path(out)
        paths = files_of("data", data, scratch / "inputs", said)
        examples = [] if support is None else as_paths(support)
        facts = predict_run(
            self.run_folder, paths, folder, reading=said, support=examples, quiet=quiet
        )
        return Result(folder, self.run_folder, facts, data if isinstance(data, Tomograms) else None)

    def evaluate(self, data: Any = None, **options: Any) -> dict[str, Any]:
        """Compare labels or picks with the known ones.

        Parameters
        ----------
        data : path or paths, optional
            Other data with known labels or picks; the run's own without it.
        **options
            Of picks: ``radius`` (Å), ``rule``, ``particle``, ``picks``.

        Returns
        -------
        dict
            The metrics by name.
        """
        paths = [] if data is None else as_paths(data)
        return evaluate_run(self.run_folder, paths, reading=options, quiet=True)

    def save(self, path: PathLike) -> Path:
        """Keep the folder of the result.

        Parameters
        ----------
        path : str or os.PathLike
            A new folder.

        Returns
        -------
        Path
            The folder; ``cryoet.open_run(path)`` opens a run again.

        Raises
        ------
        UserError
            The folder exists.
        """
        target = Path(path)
        if target.exists():
            raise UserError(f"`path` {target}: exists already; expected a new folder")
        shutil.copytree(self.folder, target)
        return target

    # ---- how it looks ----------------------------------------------------------------------------

    def _counts(self) -> dict[str, int]:
        if (self.folder / HDF5_NAME).exists():
            names, labels = self.class_names, self.labels
        else:
            names, labels = self.picks.class_names, self.picks.classes
        return {name: int((labels == index).sum()) for index, name in enumerate(names)}

    def __repr__(self) -> str:
        counts = self._counts()
        shown = ", ".join(f"{name} {count}" for name, count in list(counts.items())[:8])
        more = ", ..." if len(counts) > 8 else ""
        method = self.facts.get("method", "run")
        return f"Result({method}: n={sum(counts.values())}; {shown}{more}; folder={self.folder})"

    def _repr_html_(self) -> str:
        """Show class averages and counts in a notebook."""
        averages = self.averages
        rows = []
        for name, count in self._counts().items():
            picture = ""
            if name in averages:
                source = strip(central_slices(averages[name]))
                picture = f'<img src="{source}" style="height:80px" alt="average">'
            rows.append(f"<tr><td>{html.escape(name)}</td><td>{count}</td><td>{picture}</td></tr>")
        method = html.escape(str(self.facts.get("method", "run")))
        return (
            f"<p><b>{method}</b>: {html.escape(str(self.folder))}</p><table><tr><th>class</th>"
            f"<th>count</th><th>average: central slices</th></tr>{''.join(rows)}</table>"
        )
