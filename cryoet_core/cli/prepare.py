"""Files that no other command makes: some known centres as labels, a phantom as a template.

python -m cryoet_core.cli.prepare labels TOMOGRAM --share 0.05 --seed 0 --out labels.csv
python -m cryoet_core.cli.prepare template large-two-lobed --out template.mrc
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cryoet_core.support import files
from cryoet_core.support.errors import UserError

app = typer.Typer(add_completion=False)
VOXEL_SIZE = 5.0
"""Å, of templates of phantoms."""


@app.command()
def labels(
    tomogram: Path,
    share: Annotated[float, typer.Option()],
    seed: Annotated[int, typer.Option()],
    out: Annotated[Path, typer.Option()],
    particle: Annotated[str, typer.Option()] = "",
) -> None:
    """Write a random fraction of a tomogram's known centres, of one class if it is named.

    At least one centre is written.
    """
    import numpy as np

    from cryoet_core.formats.picks import write_picks
    from cryoet_core.tomograms import open_tomograms

    truth = open_tomograms([tomogram]).picks
    if truth is None or not len(truth):
        raise UserError(f"{tomogram}: has no particle centres to take labels from")
    chosen = truth.of_class(particle) if particle else truth
    count = max(1, round(share * len(chosen)))
    rows = np.sort(np.random.default_rng(seed).permutation(len(chosen))[:count])
    with files.replacing(out) as beside:
        write_picks(beside, chosen.select(rows), "csv")
    _say({"out": str(out), "labels": count, "of": len(chosen)})


@app.command()
def template(particle: str, out: Annotated[Path, typer.Option()]) -> None:
    """Write the density of a phantom as a map."""
    import mrcfile

    from cryoet_core.simulate.shapes.phantoms import draw_phantom

    density = draw_phantom(particle, VOXEL_SIZE).astype("float32")
    with files.replacing(out) as beside, mrcfile.new(beside, overwrite=True) as file:
        file.set_data(density)
        file.voxel_size = VOXEL_SIZE
    _say({"out": str(out), "voxels": list(density.shape)})


def _say(facts: dict[str, Any]) -> None:
    print(json.dumps(facts), flush=True)


def main() -> int:
    """Errors end as those of the program do."""
    from cryoet_core.cli.guard import guarded

    return guarded(lambda: app(standalone_mode=False) or 0)


if __name__ == "__main__":
    sys.exit(main())
