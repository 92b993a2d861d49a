"""The report of a run: one HTML file that needs no network, from what lies in the run's folder.

``facts`` gathers; ``header``, ``sections``, ``embedding``, ``confusion`` and ``provenance`` make
the parts; ``page`` puts them together.
"""

from __future__ import annotations

from pathlib import Path

REPORT = "report.html"


def write_report(run_dir: Path) -> Path:
    """Write report.html into the folder of a run.

    What a method did not leave (model selection, averages, embedding, ...) is left out, and so are
    the slices of particles when the data is gone or has changed.

    Parameters
    ----------
    run_dir : Path
        The folder of the run.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    UserError
        ``run_dir`` is no folder of a run or cannot be written.
    """
    from cryoet_core.report.facts import gather
    from cryoet_core.report.page import render
    from cryoet_core.support import files

    run_dir = Path(run_dir)
    path = run_dir / REPORT
    files.write_bytes(path, render(gather(run_dir)).encode())
    return path


__all__ = ["REPORT", "write_report"]
