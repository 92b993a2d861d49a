"""``cryoet report RUN``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
) -> None:
    """Write the report.html of a run again, from what lies in its folder."""
    from cryoet_core.support.files import shown
    from cryoet_core.tasks.session import report_run

    print(shown(report_run(run)))
