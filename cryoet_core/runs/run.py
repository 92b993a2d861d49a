"""Run: what the core gives to a method while it trains.

That is its folder, seed, device, processes, log, progress and checkpoints.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload
from weakref import WeakSet

from cryoet_core.runs import checkpoint, devices, runfolder
from cryoet_core.runs.devices import keep_freed_memory, resolve
from cryoet_core.runs.distributed import Collectives, Processes, launch
from cryoet_core.runs.runfolder import RunFolder
from cryoet_core.support import files, provenance
from cryoet_core.support.errors import UserError
from cryoet_core.support.journal import Journal
from cryoet_core.support.progress import Terminal

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from cryoet_core.plugins.config import Config
    from cryoet_core.runs.volumes import DeviceVolumes
    from cryoet_core.store import Subtomograms

T = TypeVar("T")
Inputs = Mapping[str, Sequence[str | Path]]


class Run(RunFolder, Collectives):
    """One run of a method, in one folder.

    All processes of a run have the same folder; only rank 0 writes there. ``create`` starts a run,
    ``resume`` resumes one, ``open`` reads one (to predict, evaluate or report).
    """

    def __init__(
        self,
        folder: Path,
        record: Mapping[str, Any],
        processes: Processes | None = None,
        *,
        device: str = "auto",
        config: Config | None = None,
        quiet: bool = False,
        json: bool = False,
    ) -> None:
        """Use ``create``, ``resume`` or ``open`` instead."""
        super().__init__(folder, record)
        self.quiet = quiet
        self.rank = processes.rank if processes else 0
        self.world_size = processes.world_size if processes else 1
        self.terminal = Terminal(silent=quiet or self.rank > 0, to_stderr=json)
        self.scratch = self.dir / "scratch"
        """Where long work on one tomogram keeps what it has done, until its picks are written."""
        self.results = self.dir
        """Where a picker may leave volumes beside its picks: this folder, or that of ``cryoet
        predict --out``.
        """
        self._given, self._wish, self._config = processes, device, config
        self._journal: Journal | None = None
        self._started, self._timings = time.monotonic(), defaultdict[str, float](float)
        self._lock: Any = None
        self._volumes: DeviceVolumes | None = None
        self._alive: WeakSet[DeviceVolumes] = WeakSet()

    # ---- three ways to get one -------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        method: str,
        config: Config,
        inputs: Inputs,
        out: Path | None = None,
        *,
        seed: int = 0,
        device: str = "auto",
        devices: int = 1,
        precision: str = "auto",
        max_memory: int | None = None,
        threads: int | None = None,
        preset: str | None = None,
        reading: Mapping[str, Any] | None = None,
        quiet: bool = False,
        json: bool = False,
    ) -> Run:
        """Make the run's folder and start its processes.

        Parameters
        ----------
        method : str
            Name of the method.
        config : Config
            Its options.
        inputs : mapping of str to sequence of path
            Files by the name of the input.
        out : Path, optional
            The folder; by default runs/<method>/<time>-<hash>.
        seed : int
            What all random numbers are derived from.
        device : str
            "auto", "cpu", "cuda" or "cuda:N".
        devices : int
            Processes: GPUs, or parts of the CPU.
        precision : {"auto", "32", "bf16"}
            Arithmetic of forward passes.
        max_memory : int, optional
            Bytes for volumes; by default half of what is free.
        threads : int, optional
            Threads of the CPU; by default every core.
        preset : str, optional
            Name of the set of defaults that ``config`` was made from.
        reading : mapping, optional
            What the user said of tomograms that their files do not, so that a resumed run reads
            them alike.
        quiet : bool
            Print nothing while running.
        json : bool
            Standard output carries JSON: print on standard error.

        Returns
        -------
        Run
            The run, on every process.

        Raises
        ------
        UserError
            The folder exists, the device does not, or an option is out of range.
        """
        options: dict[str, Any] = {"device": device, "devices": devices, "precision": precision}
        options |= {"max_memory": max_memory, "threads": threads}
        paths = {name: [Path(path).absolute() for path in some] for name, some in inputs.items()}
        record: dict[str, Any] = {
            "method": method,
            "preset": preset,
            "seed": seed,
            "inputs": {name: [str(path) for path in some] for name, some in paths.items()},
            "reading": dict(reading or {}),
            "options": options,
            "config": config.model_dump(mode="json"),
        }

        def make() -> Path:
            prints = {
                name: [provenance.fingerprint(path) for path in some]
                for name, some in paths.items()
            }
            facts = {
                "status": "started",
                "started": _now(),
                "resumed": 0,
                "wall_seconds": 0.0,
                "timings": {},
            }
            facts |= {"provenance": provenance.collect(resolve(device)), "fingerprints": prints}
            return runfolder.make(out, method, record, facts)

        folder, processes = launch(options, make)
        return cls(folder, record, processes, config=config, quiet=quiet, json=json)._begin()

    @classmethod
    def resume(
        cls,
        path: Path,
        *,
        config: Config | None = None,
        quiet: bool = False,
        json: bool = False,
        **options: Any,
    ) -> Run:
        """Resume an interrupted run, with its own options unless some are given here.

        Parameters
        ----------
        path : Path
            The folder of the run.
        config : Config, optional
            Spares the look-up of the method's plugin.
        quiet : bool
            Print nothing while running.
        json : bool
            Standard output carries JSON: print on standard error.
        **options
            ``device``, ``devices``, ``precision``, ``max_memory``, ``threads``; None as before.

        Returns
        -------
        Run
            The run, on every process.

        Raises
        ------
        UserError
            ``path`` is no run folder, a process still writes it, or the input files have changed.
        """
        path = Path(path).absolute()
        record = runfolder.read(path)
        merged = record["options"] | {
            name: value for name, value in options.items() if value is not None
        }

        def check() -> Path:
            for group in files.read_json(path / runfolder.FACTS)["fingerprints"].values():
                for known in group:
                    if provenance.fingerprint(Path(known["path"])) != known:
                        raise UserError(
                            f"{known['path']}: changed since {path} was started; start a new run"
                        )
            return path

        _, processes = launch(merged, check)
        run = cls(
            path, {**record, "options": merged}, processes, config=config, quiet=quiet, json=json
        )
        facts = run.facts
        run._timings.update(facts["timings"])
        run._started -= facts["wall_seconds"]
        return run._begin(resumed=facts["resumed"] + 1)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        config: Config | None = None,
        device: str = "auto",
        quiet: bool = False,
        json: bool = False,
        **options: Any,
    ) -> Run:
        """Read a run, in one process, on any device.

        Parameters
        ----------
        path : Path
            The folder of the run.
        config : Config, optional
            Spares the look-up of the method's plugin, which reads it from the folder otherwise.
        device : str
            "auto", "cpu", "cuda" or "cuda:N".
        quiet : bool
            Print nothing while running.
        json : bool
            Standard output carries JSON: print on standard error.
        **options
            ``precision``, ``max_memory``, ``threads``; those given here count, not the run's.

        Returns
        -------
        Run
            The run.

        Raises
        ------
        UserError
            ``path`` is no run folder.
        """
        path = Path(path).absolute()
        record = runfolder.read(path)
        fresh = {
            "device": device,
            "devices": 1,
            "precision": "auto",
            "max_memory": None,
            "threads": None,
        } | options
        return cls(
            path, {**record, "options": fresh}, device=device, config=config, quiet=quiet, json=json
        )

    def _begin(self, resumed: int = 0) -> Run:
        import torch

        if self.rank == 0:
            self._lock = runfolder.lock(self.dir)
            self._journal = Journal(self.dir / runfolder.METRICS)
            self._note(status="running", resumed=resumed, processes=self.world_size)
        if self.options["threads"]:
            torch.set_num_threads(self.options["threads"])
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            keep_freed_memory()
        self.reseed("start")
        return self

    @cached_property
    def processes(self) -> Processes:
        """The processes of this run; ``run.processes.fabric`` for what is not offered here."""
        return self._given or Processes(devices.Layout("none"), resolve(self._wish))

    # ---- configuration, device, precision --------------------------------------------------------

    @cached_property
    def config(self) -> Config:
        """The method's configuration; that of an opened run needs the installed plugin."""
        if self._config is not None:
            return self._config
        from cryoet_core.plugins.discovery import load_trainer

        return load_trainer(self.method).Config.model_validate(self.record["config"])

    @cached_property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.processes.device

    @cached_property
    def max_memory(self) -> int:
        """Bytes that volumes may take in this process, in the memory of its device."""
        per_node = self.processes.per_node
        given: int | None = self.options["max_memory"]
        if given is None:
            return devices.usable_memory(self.device, per_node)
        return given if self.device.type == "cuda" else given // per_node

    @cached_property
    def precision(self) -> str:
        """Either "32" or "bf16"; "auto" is bf16 on a GPU that has it, else 32."""
        import torch

        wish: str = self.options["precision"]
        if wish != "auto":
            return wish
        return "bf16" if self.device.type == "cuda" and torch.cuda.is_bf16_supported() else "32"

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision for a forward pass: ``with run.autocast(): ...``."""
        import torch

        if self.precision == "32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    # ---- random numbers --------------------------------------------------------------------------

    def generator(self, *key: str | int) -> torch.Generator:
        """A CPU generator that depends on the seed and the key alone.

        ``run.generator("rotate", step)`` draws the same numbers in a resumed run, without stored
        state. Where processes must differ, put ``run.rank`` in the key.

        Parameters
        ----------
        *key : str or int
            What the numbers are for.

        Returns
        -------
        torch.Generator
            On the CPU.
        """
        import torch

        return torch.Generator().manual_seed(self._derived(*key))

    def reseed(self, *key: str | int) -> None:
        """Seed torch's global generators (dropout, initial weights) from seed, key and rank."""
        import torch

        torch.manual_seed(self._derived(*key) + self.rank)

    def _derived(self, *key: str | int) -> int:
        return int.from_bytes(hashlib.sha256(repr((self.seed, *key)).encode()).digest()[:6], "big")

    # ---- telling ---------------------------------------------------------------------------------

    def log(self, **values: Any) -> None:
        """Append a row to metrics.jsonl.

        With ``step``, a resumed run first removes the rows of that step and later. So log a step
        before the checkpoint that contains it: a crash between the two then loses nothing. A method
        with several loops that each count from 0 tells them apart by ``phase="..."``.
        """
        if self._journal is not None:
            self._journal.append(values)

    def say(self, text: str) -> None:
        """Print a line on rank 0, unless quiet.

        It goes to standard error when standard output carries JSON.
        """
        self.terminal.say(text)

    @overload
    def progress(self, over: int, description: str) -> Iterator[int]: ...
    @overload
    def progress(self, over: Iterable[T], description: str) -> Iterator[T]: ...
    def progress(self, over: int | Iterable[Any], description: str) -> Iterator[Any]:
        """Iterate over ``over`` (an int n means range(n)) with a bar on a terminal."""
        return self.terminal.progress(over, description)

    @contextmanager
    def timer(self, name: str) -> Iterator[None]:
        """Add the seconds of the block to the phase ``name`` of run.json's timings."""
        self._synchronise()
        start = time.perf_counter()
        try:
            yield
        finally:
            self._synchronise()
            self._timings[name] += time.perf_counter() - start

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)

    # ---- files -----------------------------------------------------------------------------------

    def save(
        self, name: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any] | None = None
    ) -> None:
        """Write checkpoints/NAME.safetensors, tensors and JSON state, in one atomic step.

        Every process must call it: rank 0 writes, and all wait until the file can be loaded.

        Parameters
        ----------
        name : str
            Name of the checkpoint.
        tensors : mapping of str to Tensor
            What is stored.
        state : mapping, optional
            What JSON has.
        """
        if self.rank == 0:
            checkpoint.save(self.checkpoint_path(name), tensors, state or {})
            self._note(checkpoint=name)
        self.barrier()

    def write_json(self, name: str, value: Any) -> None:
        """Write a small file NAME of the run folder atomically (rank 0)."""
        if self.rank == 0:
            files.write_json(self.dir / name, value)

    def volumes(self, dataset: Subtomograms, indices: np.ndarray | None = None) -> DeviceVolumes:
        """The subtomograms as standardised batches on this device.

        All that are alive together stay within ``max_memory``; a whole data set that is asked for
        again is kept.

        Parameters
        ----------
        dataset : Subtomograms
            The data set.
        indices : array of int, optional
            The rows that are wanted; by default all.

        Returns
        -------
        DeviceVolumes
            Batches (b, 1, d, d, d).
        """
        from cryoet_core.runs.volumes import DeviceVolumes

        if indices is None and self._volumes is not None and self._volumes.data is dataset:
            return self._volumes
        self._volumes = None
        budget = self.max_memory - sum(volumes.nbytes for volumes in self._alive if volumes.held)
        volumes = DeviceVolumes(dataset, self.device, max(budget, 0), indices=indices)
        self._alive.add(volumes)
        if indices is None:
            self._volumes = volumes
        return volumes

    # ---- the end ---------------------------------------------------------------------------------

    def finish(self, **facts: Any) -> None:
        """Close the run as done, with facts for run.json."""
        self._note(status="done", finished=_now(), facts=facts)
        self._leave()

    def fail(self, reason: str, status: str = "failed") -> None:
        """Close the run as failed or interrupted.

        The processes that it started are ended. A full disk is no error here.

        Parameters
        ----------
        reason : str
            What happened, for run.json.
        status : {"failed", "interrupted"}
            How the run ended.
        """
        with contextlib.suppress(UserError, OSError):
            self._note(status=status, finished=_now(), reason=reason)
        self._leave(kill=True)

    def _note(self, **facts: Any) -> None:
        """Update run.json (rank 0), with what this process has used so far."""
        if self.rank == 0:
            used = {
                "wall_seconds": round(time.monotonic() - self._started, 3),
                "timings": {name: round(seconds, 3) for name, seconds in self._timings.items()},
                "peak_memory": devices.peak_memory(self.device),
            }
            kept = {name: value for name, value in self.facts.items() if name not in _CLOSING}
            files.write_json(self.dir / runfolder.FACTS, kept | used | facts)

    def _leave(self, *, kill: bool = False) -> None:
        if self._lock is not None:
            self._lock.close()
        self.processes.leave(kill=kill)


_CLOSING = ("finished", "reason", "facts")  # of an earlier end, wrong once the run resumes


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
