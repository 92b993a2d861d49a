"""Pick in many tomograms, one after the other, and do nothing twice after a crash.

A survey's folder holds ``status.json`` (one row per tomogram), one star per tomogram, ``picks.h5``
once all are done, and until then ``.work/`` with what is finished so far.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cryoet_core.picks.table import Picks, join
from cryoet_core.support import files
from cryoet_core.support.errors import RunError, UserError

if TYPE_CHECKING:
    from cryoet_core.plugins.interfaces import Picker
    from cryoet_core.runs.run import Run
    from cryoet_core.tomograms import Tomogram

STATUS, PICKS, _REQUEST, _WORK = "status.json", "picks.h5", "request.json", ".work"
DIALECT = "relion31"


@dataclass(frozen=True)
class SurveyRow:
    """What came of one tomogram.

    Attributes
    ----------
    name : str
        The tomogram.
    status : {"done", "failed"}
        How it ended.
    picks : int
        Number of picks.
    seconds : float
        The time of picking alone.
    message : str
        Why it failed.
    """

    name: str
    status: str
    picks: int = 0
    seconds: float = 0.0
    message: str = ""


class Survey:
    """The picks of many tomograms in a folder.

    Parameters
    ----------
    folder : Path
        Where the results go. A survey of the same request is resumed there.
    request : mapping
        What is asked for: run, files with fingerprints, how they are read.
    stars : Path, optional
        Where the star of each tomogram goes; by default the same folder.

    Raises
    ------
    UserError
        The folder holds a survey of another request.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any], stars: Path | None = None) -> None:
        self.folder, self.stars, self.work = folder, stars or folder, folder / _WORK
        files.make_folder(self.work)
        files.make_folder(self.stars)
        known = files.read_json(folder / _REQUEST) if (folder / _REQUEST).exists() else None
        asked = {**files.plain(request), "done": False}
        if known is None:
            files.write_json(folder / _REQUEST, asked)
        elif {**known, "done": False} != asked:
            raise UserError(
                f"{files.shown(folder)}: holds picks of another request (run {known.get('run')}); "
                "expected a new "
                "folder; choose another `out` or remove it"
            )
        self._request = asked

    @staticmethod
    def is_done(folder: Path) -> bool:
        """Whether a survey has ended in this folder."""
        path = folder / _REQUEST
        return path.exists() and bool(files.read_json(path).get("done"))

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether a survey was begun in this folder."""
        return (folder / _REQUEST).exists()

    def pick(
        self,
        picker: Picker,
        tomograms: Sequence[Tomogram],
        run: Run,
        failed: Sequence[SurveyRow] = (),
    ) -> tuple[Picks, list[SurveyRow]]:
        """Pick in every tomogram that is not done yet.

        What fails gets a row too and the others are done; where there is only one tomogram, its
        error is raised.

        Parameters
        ----------
        picker : Picker
            What finds the particles.
        tomograms : sequence of Tomogram
            Where it looks.
        run : Run
            Gives the scratch folder and prints.
        failed : sequence of SurveyRow
            Rows of files that could not be opened.

        Returns
        -------
        picks : Picks
            The picks in all tomograms.
        rows : list of SurveyRow
            One for each tomogram.
        """
        rows, parts = list(failed), []
        only = len(tomograms) + len(rows) == 1
        for tomogram in tomograms:
            row, picks = self._one(picker, tomogram, run, only)
            rows.append(row)
            parts.append(picks)
            files.write_json(self.folder / STATUS, [asdict(row) for row in rows])
            run.say(f"{row.name}: {row.message or f'{row.picks} picks, {row.seconds:.1f} s'}")
        picks = join(
            [part for part in parts if part is not None] or [Picks.empty(picker.class_names)]
        )
        self._end(picks)
        return picks, rows

    # ---- one tomogram ----------------------------------------------------------------------------

    def _one(
        self, picker: Picker, tomogram: Tomogram, run: Run, only: bool
    ) -> tuple[SurveyRow, Picks | None]:
        from cryoet_core.formats.picks.store_file import load_picks, save_picks

        kept = self.work / f"{file_name(tomogram.name)}.h5"
        said = self.work / f"{file_name(tomogram.name)}.json"
        if kept.exists() and said.exists():
            return SurveyRow(**files.read_json(said)), load_picks(kept)
        run.scratch = self.work / f"{file_name(tomogram.name)}.scratch"
        run.results = self.folder
        started = time.monotonic()
        try:
            picks = checked(picker.pick(tomogram.without_picks(), run), tomogram)
            self._write_star(picks, tomogram)
        except (UserError, RunError, OSError, MemoryError) as error:
            if only:
                raise
            return SurveyRow(
                tomogram.name,
                "failed",
                message=" ".join(str(error).split()) or type(error).__name__,
            ), None
        row = SurveyRow(tomogram.name, "done", len(picks), round(time.monotonic() - started, 3))
        files.write_json(said, asdict(row))
        save_picks(kept, picks)  # the last step: its presence says that the tomogram is done
        shutil.rmtree(run.scratch, ignore_errors=True)
        return row, picks

    def _write_star(self, picks: Picks, tomogram: Tomogram) -> None:
        from cryoet_core.formats.picks import Geometry, write_picks

        geometry = {tomogram.name: Geometry(tomogram.shape, tomogram.voxel_size)}
        write_picks(self.stars / f"{file_name(tomogram.name)}.star", picks, DIALECT, geometry)

    def _end(self, picks: Picks) -> None:
        from cryoet_core.formats.picks.store_file import save_picks

        save_picks(self.folder / PICKS, picks)
        files.write_json(self.folder / _REQUEST, {**self._request, "done": True})
        shutil.rmtree(self.work, ignore_errors=True)


def file_name(tomogram: str) -> str:
    """A tomogram's name as the name of a file."""
    return tomogram.replace("/", "_")


def checked(picks: Picks, tomogram: Tomogram) -> Picks:
    """The picks of a method, best first.

    Raises
    ------
    RunError
        They are not of this tomogram or lie outside it.
    """
    outside = (picks.positions < 0) | (picks.positions > tomogram.extent)
    if not np.isfinite(picks.positions).all() or (
        outside.any() and np.abs(_excess(picks, tomogram)).max() > 1.0
    ):
        raise RunError(
            f"{tomogram.name}: the method gave {int(outside.any(1).sum())} picks outside the "
            "tomogram"
        )
    if len(picks) and set(picks.tomograms) != {tomogram.name}:
        raise RunError(
            f"{tomogram.name}: the method gave picks in {sorted(set(picks.tomograms))[:3]}"
        )
    return picks.best_first()


def _excess(picks: Picks, tomogram: Tomogram) -> np.ndarray:
    """Voxels by which picks lie outside; a sub-voxel fit at the border may go a little over."""
    over: np.ndarray = (
        np.maximum(-picks.positions, picks.positions - tomogram.extent).clip(min=0)
        / tomogram.voxel_size
    )
    return over


def opened_one_by_one(
    paths: Sequence[Path], open_one: Callable[[Path], Any]
) -> tuple[list[Tomogram], list[SurveyRow]]:
    """The tomograms of each file, and a failed row for each file that cannot be opened.

    Parameters
    ----------
    paths : sequence of Path
        The files.
    open_one : callable
        Opens one of them.

    Returns
    -------
    tomograms : list of Tomogram
        Those of all files that were opened.
    failed : list of SurveyRow
        One for each other file.

    Raises
    ------
    UserError
        The only file cannot be opened.
    """
    from cryoet_core.tomograms import Tomograms

    found: list[Tomogram] = []
    failed: list[SurveyRow] = []
    for path in paths:
        try:
            found.extend(open_one(path))
        except UserError as error:
            if len(paths) == 1:
                raise
            failed.append(SurveyRow(path.stem, "failed", message=str(error)))
    return list(Tomograms(tuple(found))), failed
