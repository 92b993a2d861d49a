"""Segment other subtomograms with a finished run.

``python -m cryoet_autoencoder.segment RUN --data more.h5 --out labels.mrcs``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cryoet_autoencoder.edss3d import Edss3dTrainer
from cryoet_autoencoder.labelfiles import write_stack
from cryoet_autoencoder.segmenting import cube_labels
from cryoet_core.runs.inputs import SAME_VOXELS
from cryoet_core.runs.run import Run
from cryoet_core.store import open_subtomograms
from cryoet_core.support.errors import RunError, UserError


def segment(folder: Path, paths: list[Path], out: Path, device: str = "auto") -> int:
    """Write the labels of subtomograms as a stack of MRC volumes.

    Parameters
    ----------
    folder : Path
        Folder of a run of edss3d.
    paths : list[Path]
        Stores of subtomograms.
    out : Path
        Stack to write, .mrcs.
    device : str, optional
        Device to compute on: "auto", "cpu", "cuda".

    Returns
    -------
    int
        Number of subtomograms.

    Raises
    ------
    UserError
        Where the folder is no run of edss3d, ``out`` exists, or the voxel size differs.
    """
    if out.exists():
        raise UserError(f"`out` {out}: exists already; choose another name or remove it")
    run = Run.open(folder, device=device, quiet=True)
    if run.method != Edss3dTrainer.name:
        raise UserError(f"{folder}: a run of {run.method}; expected one of edss3d")
    learnt = Edss3dTrainer(run.config).load(run)
    data = open_subtomograms(paths)
    wanted = learnt.facts["voxel_size"]
    if abs(data.voxel_size / wanted - 1) > SAME_VOXELS:
        raise UserError(
            f"{paths[0]}: voxels of {data.voxel_size:g} Å, but the run was trained on {wanted:g} "
            "Å; resample"
        )
    write_stack(out, cube_labels(learnt.network, data, run), len(data), data.box, data.voxel_size)
    return len(data)


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m cryoet_autoencoder.segment", description=__doc__
    )
    parser.add_argument("run", type=Path, help="folder of a run of edss3d")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="stores of subtomograms"
    )
    parser.add_argument("--out", type=Path, required=True, help="the stack to write, .mrcs")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    try:
        count = segment(given.run, given.data, given.out, given.device)
    except (UserError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{given.out}: labels of {count:,} subtomograms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
