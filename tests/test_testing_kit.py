"""The conformance kit: a sound method passes, every check can fail, and the example plugin installs
and passes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cryoet_core.plugins.interfaces import InputSpec
from cryoet_core.support.errors import UserError
from cryoet_core.testing import CHECKS, Failure, Skip, conformance, run_checks
from cryoet_core.testing.data import write_subtomograms
from cryoet_core.testing.encoders import check_encoder

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "examples" / "cryoet-minimal"
FAULTS = {
    line.split('"')[1]: set(line.split('"')[3::2])
    for line in (HERE / "faulty_plugins.py")
    .read_text()
    .split("FAULTS: ")[1]
    .split('}\n"""')[0]
    .splitlines()[1:]
}

ENCODER_FAULTS = ("boxless", "changes", "misdimensioned", "over-batch", "doubles", "stuck")

REASONS = {
    "seed-ignoring": "fit draws random numbers (torch.rand, torch.randperm), but seeds 1 and 2",
    "host-bound": "only 0 % of the products and convolutions",
    "deaf": "with other labels of `data` the method learns the same",
    "guessing": "on easy data the answer is no better than chance",
    "undescribed": "Config fields without a description: momentum",
    "raising": "ZeroDivisionError: no luck",
    "batch-dependent": "volume 0 alone and in a batch:",
    "restarting": "interrupted after 2 of 10 calls of Run.save and Run.log, then resumed:",
    "saving-first": "interrupted after 1 of 10 calls of Run.save and Run.log, then resumed: "
    "metrics.jsonl has",
    "unguarded": "two volumes: IndexError",
}


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with one entry point for each faulty method, on the path."""
    info = tmp_path / "site" / "cryoet_faulty-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cryoet-faulty\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(
        "[cryoet]\n" + "".join(f"{name} = faulty_plugins\n" for name in FAULTS)
    )
    shutil.copy(HERE / "faulty_plugins.py", info.parent)
    monkeypatch.syspath_prepend(info.parent)
    monkeypatch.delitem(sys.modules, "faulty_plugins", raising=False)


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_nothing_else(name: str) -> None:
    results = run_checks(name)
    assert [result.check for result in results] == [check.__name__ for check in CHECKS]
    failed = {result.check: result.reason for result in results if result.status == "failed"}
    assert set(failed) == FAULTS[name], failed
    assert all("\n" not in result.reason for result in results)
    assert all(result.reason for result in results if result.status != "passed")
    if name in REASONS:
        assert any(reason.startswith(REASONS[name]) for reason in failed.values()), failed
    if name == "sound":
        assert {result.status for result in results} == {"passed"}, results


def test_every_check_can_fail() -> None:
    assert set().union(*FAULTS.values()) == {check.__name__ for check in CHECKS} - {
        "check_encoders"  # below
    }


@pytest.mark.parametrize("name", ENCODER_FAULTS)
def test_each_fault_of_an_encoder_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    from faulty_plugins import ENCODER_FAULTS, SmallEncoder

    factory, reason = ENCODER_FAULTS[name]
    known = {"faulty.sound": SmallEncoder, f"faulty.{name}": factory}
    monkeypatch.setattr("cryoet_core.runs.encoders.load_encoder", known.__getitem__)
    check_encoder("faulty.sound")
    with pytest.raises(Failure) as failure:
        check_encoder(f"faulty.{name}")
    assert reason in str(failure.value)


def test_a_plugin_of_encoders_alone_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "cryoet_lens-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cryoet-lens\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[cryoet]\nlens = lens_plugin\n")
    (tmp_path / "lens_plugin.py").write_text(
        "from cryoet_core import hookimpl\nfrom faulty_plugins import Boxless, SmallEncoder\n\n"
        "@hookimpl\ndef cryoet_encoders():\n    return {'good': SmallEncoder, 'bad': Boxless}\n"
    )
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.syspath_prepend(tmp_path)
    results = run_checks("lens")
    assert [(r.check, r.status) for r in results] == [
        ("check_encoders", "passed"),
        ("check_encoders", "failed"),
    ]
    assert "encoder lens.bad: cannot be built" in results[1].reason


@pytest.mark.usefixtures("faulty")
def test_a_method_that_may_see_labels_skips_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from cryoet_core.plugins.discovery import load_trainer

    monkeypatch.setattr(
        load_trainer("sound"), "inputs", {"data": InputSpec("cubes", labels="required")}
    )
    skipped = {
        result.check: result.reason for result in run_checks("sound") if result.status == "skipped"
    }
    assert skipped == {"check_labels_unseen": "every input may have labels"}


def test_an_unknown_method_is_the_users_error() -> None:
    with pytest.raises(UserError, match="no method 'nothing'"):
        run_checks("nothing")


@pytest.mark.usefixtures("faulty")
def test_conformance_gives_pytest_one_call_for_each_check() -> None:
    calls = conformance("sound")
    assert [call.__name__ for call in calls] == [check.__name__ for check in CHECKS]
    for call in calls:
        call()
    with pytest.raises(AssertionError, match="without a description"):
        conformance("undescribed")[1]()


def test_a_skip_is_understood_by_pytest() -> None:
    with pytest.raises(pytest.skip.Exception):
        pytest.skip(str(Skip("why")))
    import unittest

    assert issubclass(Skip, unittest.SkipTest)


def test_the_data_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    from cryoet_core.store import open_subtomograms

    found = [
        open_subtomograms([write_subtomograms(tmp_path / f"{i}.h5", 12, seed=s)])
        for i, s in enumerate((0, 0, 1))
    ]
    volumes = [data.read(slice(None)) for data in found]
    assert (volumes[0] == volumes[1]).all()
    assert not (volumes[0] == volumes[2]).all()
    assert found[0].class_names == ("ball", "shell", "dumbbell")
    assert [int(label) for label in found[0].labels[:4]] == [0, 1, 2, 0]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example plugin, installed with pip into a folder of its own from a copy of its source."""
    base = tmp_path_factory.mktemp("minimal")
    source, target = base / "source", base / "site"
    shutil.copytree(
        EXAMPLE, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    )
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    done = subprocess.run(
        [*pip, "--target", target, source], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return target


def test_the_example_is_small() -> None:
    modules = sorted(path for path in EXAMPLE.glob("*.py"))
    assert [path.name for path in modules] == ["cryoet_minimal.py"]
    assert len(modules[0].read_text().splitlines()) <= 64


def test_the_example_installs_from_its_folder_and_passes_the_kit(installed: Path) -> None:
    code = """
import json
from cryoet_core.testing import run_checks
print(json.dumps({r.check: [r.status, r.reason] for r in run_checks("minimal")}))
"""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), str(HERE.parent)])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    import json

    results = json.loads(done.stdout.splitlines()[-1])
    assert len(results) == len(CHECKS)
    assert {name for name, (status, _) in results.items() if status != "passed"} == {
        "check_encoders"
    }, results


def test_the_example_sorts_the_kits_shapes(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cryoet_core.evaluation.metrics import clustering_report
    from cryoet_core.plugins.discovery import load_trainer
    from cryoet_core.testing import harness

    monkeypatch.syspath_prepend(installed)
    fitted, paths = harness.base_fit(load_trainer("minimal"), tmp_path)
    data = harness.opened(load_trainer("minimal"), paths, hide=False)["data"]
    assert (
        clustering_report(data.labels, fitted.answer.labels, data.class_names)["matched_accuracy"]
        == 1.0
    )
