"""``cryoet run`` killed with SIGKILL at random moments, then ``cryoet resume``: the labels of an
uninterrupted run.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cryoet_core.runs.predictions import read_predictions
from cryoet_core.runs.run import Run
from cryoet_core.testing.data import write_subtomograms

HERE = Path(__file__).parent
STEPS = 60
MOMENTS = int(os.environ.get("CRYOET_TEST_KILLS", "3"))
"""How many kills; each takes a few seconds."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, the sound method of faulty_plugins.py installed, and its
    uninterrupted run.
    """
    place = tmp_path_factory.mktemp("kill")
    info = place / "site" / "cryoet_sound-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cryoet-sound\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[cryoet]\nsound = faulty_plugins\n")
    shutil.copy(HERE / "faulty_plugins.py", info.parent)
    write_subtomograms(place / "data.h5", 12)
    assert command(place, "whole").wait() == 0
    return place


def command(place: Path, out: str, resume: bool = False) -> subprocess.Popen[str]:
    words = (
        ["resume", out]
        if resume
        else ["run", "sound", "--data", "data.h5", "--steps", str(STEPS), "--out", out]
    )
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(place / "site"), str(HERE.parent)]),
        "OMP_NUM_THREADS": "1",
    }
    program = [sys.executable, "-m", "cryoet_core.cli.main", *words, "--no-report", "--json"]
    return subprocess.Popen(
        program,
        cwd=place,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_start(folder: Path, process: subprocess.Popen[str]) -> None:
    while not folder.exists() and process.poll() is None:
        time.sleep(0.001)


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_killed_and_resumed_is_as_uninterrupted(place: Path, moment: int) -> None:
    out = f"killed{moment}"
    process = command(place, out)
    wait_for_start(place / out, process)
    # a run of 60 steps takes about half a second here; the first kill falls into its start
    time.sleep(random.Random(moment).uniform(0, 0.6) if moment else 0)
    process.kill()
    process.communicate()
    done = command(place, out, resume=True)
    stdout, stderr = done.communicate()
    assert done.returncode == 0, stderr
    assert json.loads(stdout.splitlines()[-1])["run"] == out
    whole, again = read_predictions(place / "whole"), read_predictions(place / out)
    assert np.array_equal(whole.labels.labels, again.labels.labels)
    assert np.array_equal(whole.labels.probabilities, again.labels.probabilities)
    rows = [Run.open(place / name).metrics() for name in ("whole", out)]
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[1]] == list(range(STEPS))
    assert Run.open(place / out).facts["status"] == "done"


def test_killed_before_the_folder_is_made(place: Path) -> None:
    process = command(place, "early")
    process.kill()
    process.communicate()
    assert not (place / "early").exists()
    done = command(place, "early", resume=True)
    assert (done.communicate()[1].count("\n"), done.returncode) == (1, 2)
    assert command(place, "early").wait() == 0
