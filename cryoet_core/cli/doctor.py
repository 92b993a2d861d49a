"""``cryoet doctor``: what this machine and installation have, and what is wrong with them."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from cryoet_core.cli.closing import plural
from cryoet_core.cli.options import JSON

State = Literal["ok", "note", "wrong"]
MARKS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "wrong": ("wrong", "red")}

PACKAGES = (
    "numpy",
    "h5py",
    "scipy",
    "scikit-learn",
    "gemmi",
    "mrcfile",
    "lightning-fabric",
    "safetensors",
    "bokeh",
)
POISONED = {"lightning": ("2.6.2", "2.6.3"), "pytorch-lightning": ("2.6.2", "2.6.3")}
"""Releases that carried malicious code."""

LITTLE_DISK, LITTLE_MEMORY = 2e9, 2e9


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    Attributes
    ----------
    what : str
        What was looked at.
    state : {"ok", "note", "wrong"}
        The verdict.
    found : str
        What was found, and what to do about it.
    """

    what: str
    state: State
    found: str


def command(as_json: JSON = False) -> int:
    """Say what this machine has and what is wrong with it; exit code 1 when something is."""
    findings = list(diagnose())
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        _print(findings)
    return 1 if any(finding.state == "wrong" for finding in findings) else 0


def diagnose() -> Iterator[Finding]:
    """Every finding, in the order of a reader's questions."""
    yield Finding(
        "system",
        "ok",
        f"{platform.platform()}, Python {platform.python_version()} at {sys.executable}",
    )
    yield from _packages()
    yield from _torch()
    yield from _machine()
    yield from _disk()
    yield from _plugins()


def _packages() -> Iterator[Finding]:
    for name in ("cryoet", *PACKAGES):
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding(name, "wrong", f"not installed; pip install {name}")
    for name, bad in POISONED.items():
        try:
            if version(name) in bad:
                yield Finding(
                    name,
                    "wrong",
                    f"{version(name)} was a malicious release: uninstall it, change your keys",
                )
        except PackageNotFoundError:
            continue


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:  # a torch that does not import is what this command is for
        yield Finding(
            "torch",
            "wrong",
            f"does not import: {type(error).__name__}: {' '.join(str(error).split())}",
        )
        return
    yield Finding("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")
    hardware = (
        shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()
    )
    if torch.cuda.is_available():
        yield from _gpus()
    elif hardware and torch.version.cuda is None:
        yield Finding(
            "GPU",
            "wrong",
            "there is an NVIDIA driver, but this torch is a CPU build; install a CUDA build",
        )
    elif hardware:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = f"; CUDA_VISIBLE_DEVICES is {seen!r}" if seen is not None else ""
        yield Finding(
            "GPU",
            "wrong",
            f"an NVIDIA driver, but torch (CUDA {torch.version.cuda}) sees no GPU{hidden}",
        )
    else:
        yield Finding("GPU", "note", "none: methods run on the CPU, with the preset fast")


def _gpus() -> Iterator[Finding]:
    import torch

    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        capability = f"sm_{facts.major}{facts.minor}"
        words = (
            f"{facts.name}, {facts.total_memory / 1e9:.0f} GB, {capability}, CUDA "
            f"{torch.version.cuda}"
        )
        try:
            torch.ones(2, device=f"cuda:{index}").sum().item()
            yield Finding(f"GPU {index}", "ok", words)
        except RuntimeError as error:
            yield Finding(
                f"GPU {index}",
                "wrong",
                f"{words}: does not compute: {' '.join(str(error).split())}",
            )


def _machine() -> Iterator[Finding]:
    from cryoet_core.runs.devices import free_host_memory

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("CPU", "ok", f"{usable} of {os.cpu_count()} cores usable by this process")
    free = free_host_memory()
    state: State = "ok" if free > LITTLE_MEMORY else "wrong"
    yield Finding("memory", state, f"{free / 1e9:.1f} GB free")


def _disk() -> Iterator[Finding]:
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    if not os.access(here, os.W_OK):
        yield Finding("disk", "wrong", f"{here}: not writable; runs need --out elsewhere")
    else:
        state: State = "ok" if free > LITTLE_DISK else "wrong"
        yield Finding("disk", state, f"{free / 1e9:.1f} GB free in {here}")


def _plugins() -> Iterator[Finding]:
    from cryoet_core.plugins.discovery import inspect_all

    found = inspect_all()
    if not found:
        yield Finding("methods", "wrong", "none installed; for example: pip install cryoet-disca")
    for info in found:
        state: State = "ok" if info.status == "ok" else "wrong"
        yield Finding(
            f"method {info.name}", state, info.reason or f"{info.distribution} {info.version}"
        )


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for finding in findings:
        word, colour = MARKS[finding.state]
        table.add_row(Text(word, style=colour), finding.what, Text(finding.found))
    console = Console(highlight=False)
    console.print(table)
    wrong = sum(finding.state == "wrong" for finding in findings)
    console.print("no problems found" if not wrong else plural(wrong, "problem") + " found")
