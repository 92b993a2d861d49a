"""Fixtures for the tests of the core, of the plugins and of the examples."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# What is drawn is the same in every run: `make fuzz` is where new examples are looked for.
hypothesis.settings.register_profile("suite", derandomize=True, deadline=None)
hypothesis.settings.load_profile("suite")

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

ROOT = Path(__file__).parent

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Files of other programs and real data, beside the repository; tests that read them are
    skipped without.
    """
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the shared test data is not at {folder}")
    return folder


@pytest.fixture(scope="session")
def cryoet() -> Command:
    """Run ``cryoet`` with arguments in a process of its own: ``cryoet("run", "toy", cwd=...,
    site=folder)``.

    ``site``: a folder of throw-away distributions. ``code``: the expected exit code, None for any.
    """

    def call(
        *arguments: object,
        cwd: Path | None = None,
        site: Path | None = None,
        code: int | None = 0,
        **env: str,
    ) -> Any:
        environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "160", **env}
        if site is not None:
            environment["PYTHONPATH"] = os.pathsep.join(
                filter(None, [str(site), environment.get("PYTHONPATH")])
            )
        command = [sys.executable, "-m", "cryoet_core.cli.main", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
        )
        if code is not None:
            assert done.returncode == code, (
                f"exit code {done.returncode}, expected {code}:\n{done.stdout}\n{done.stderr}"
            )
        return done

    return call


@pytest.fixture
def here(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """Run ``cryoet`` in this process, with the plugins of ``site``, in the folder ``tmp_path``."""
    from cryoet_core.cli.main import main

    monkeypatch.chdir(site.parent)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delenv("CRYOET_DEBUG", raising=False)

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, captured.out, captured.err)

    yield call
    for path in site.glob("*.py"):
        sys.modules.pop(path.stem, None)


def make_distribution(site: Path, name: str, entry: str, source: str) -> None:
    """Install a throw-away distribution into ``site``, as pip leaves one: a module, METADATA and
    entry_points.txt.
    """
    module = name.replace("-", "_")
    (site / f"{module}.py").write_text(source)
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nSummary: throw-away {entry}\n"
    )
    (info / "entry_points.txt").write_text(f"[cryoet]\n{entry} = {module}\n")
    (info / "RECORD").write_text("")


TOY = '''
"""A clustering method of a page: volumes are told apart by how bright their middle is."""
from collections.abc import Mapping

import numpy as np

from cryoet_core import hookimpl
from cryoet_core.plugins.config import Config, option
from cryoet_core.plugins.interfaces import InputSpec, Labels, Trainer


class ToyConfig(Config):
    classes: int = option(2, "number of classes", ge=1, le=9, paper="3", presets={"paper": 3})
    sharpness: float = option(10.0, "how sure the labels are", gt=0)
    centre: bool = option(True, "look at the middle only")


class Toy(Trainer):
    name = "toy"
    summary = "Tells volumes apart by how bright their middle is."
    task = "clustering"
    inputs = {"data": InputSpec("Subtomograms to sort.", labels="never")}
    Config = ToyConfig

    def fit(self, inputs, run):
        import torch

        data = inputs["data"]
        if len(data) < self.config.classes:
            from cryoet_core.support.errors import UserError

            raise UserError(f"--classes {self.config.classes}: more than the {len(data)} volumes")
        assert (data.labels == -1).all() and not data.class_names
        if run.load("model") is None:
            values = np.sort(brightness(data, self.config.centre))
            edges = np.linspace(0, len(values), self.config.classes + 1)[:-1].astype(int)
            bins = np.append(edges, len(values))
            means = [values[a:b].mean() for a, b in zip(bins[:-1], bins[1:])]
            run.log(step=0, loss=float(np.var(values)), k=self.config.classes)
            run.save("model", {"means": torch.tensor(means)}, {})
        run.barrier()
        return self.load(run)

    def load(self, run):
        tensors, _ = run.load("model")
        return ToyLabeller(tensors["means"].numpy(), self.config)


class ToyLabeller:
    def __init__(self, means, config):
        self.means, self.config = means, config
        self.classes = tuple(f"class{i}" for i in range(len(means)))

    def label(self, data, run):
        values = brightness(data, self.config.centre)
        scores = -self.config.sharpness * (values[:, None] - self.means) ** 2
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
        return Labels(probabilities.argmax(axis=1), probabilities, self.classes, values[:, None].astype(np.float32))


def brightness(data, centre):
    middle = slice(data.box // 4, -(data.box // 4)) if centre else slice(None)
    return np.array([data[i][middle, middle, middle].mean() for i in range(len(data))])


@hookimpl
def cryoet_trainers():
    return [Toy]
'''


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with one sound throw-away plugin, ``toy``, for ``cryoet(..., site=site)``;
    ``install`` adds more.
    """
    folder = tmp_path / "site"
    folder.mkdir()
    make_distribution(folder, "cryoet-toy", "toy", TOY)
    return folder


@pytest.fixture
def install(site: Path) -> Callable[[str, str, str], None]:
    """``install(distribution, entry_point, module_source)`` puts one more throw-away distribution
    into ``site``.
    """
    return functools.partial(make_distribution, site)


@pytest.fixture
def toy_source() -> str:
    """The module of the plugin ``toy``, to make variants of."""
    return TOY


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 noisy cubes of 16^3 voxels of 10 Å, 12 with a bright middle ("ball") and 12 with a dark
    one ("shell").
    """
    import numpy as np

    from cryoet_core.store import write_store

    random = np.random.default_rng(0)
    z, y, x = np.indices((16, 16, 16)) - 8
    radius = np.sqrt(z**2 + y**2 + x**2)
    ball, shell = np.where(radius < 4, 1.0, 0.0), np.where(abs(radius - 6) < 1, 1.0, 0.0)
    labels = np.arange(24) % 2
    volumes = np.stack([ball, shell])[labels] + random.normal(0, 0.3, (24, 16, 16, 16))
    path = tmp_path_factory.mktemp("tiny") / "tiny.h5"
    return write_store(
        path,
        volumes,
        10.0,
        labels,
        class_names=("ball", "shell"),
        tilt_range=(-60.0, 60.0),
        snr=0.5,
    )


@pytest.fixture
def lockstep() -> Callable[[int, Callable[[int, Any], None]], None]:
    """``lockstep(n, work)`` runs ``work(rank, reduce)`` in n threads; reduce sums a tensor in place
    over all of them.

    As over a process group, and where processes would wait for one another in vain or sum different
    things, it fails.
    """
    import threading

    import torch

    def call(count: int, work: Callable[[int, Any], None]) -> None:
        barrier, slots = threading.Barrier(count, timeout=60), [torch.zeros(0)] * count
        errors: list[BaseException] = []

        def run(rank: int) -> None:
            def reduce(tensor: torch.Tensor) -> torch.Tensor:
                slots[rank] = tensor.clone()
                barrier.wait()
                assert len({(part.shape, part.dtype) for part in slots}) == 1, (
                    "the processes sum different things"
                )
                total = torch.stack(slots).sum(0)
                barrier.wait()
                return tensor.copy_(total)

            try:
                work(rank, reduce)
            except BaseException as error:
                errors.append(error)
                barrier.abort()

        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise next(
                (error for error in errors if not isinstance(error, threading.BrokenBarrierError)),
                errors[0],
            )

    return call
