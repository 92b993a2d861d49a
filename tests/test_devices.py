"""What the machine has, and what is asked of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from cryoet_core.runs.devices import keep_freed_memory

kept = sys.argv[1] == "keep" and keep_freed_memory()
layers = torch.nn.Conv3d(1, 8, 3, padding=1), torch.nn.BatchNorm3d(8), torch.nn.ReLU(), torch.nn.MaxPool3d(2)
network, volumes = torch.nn.Sequential(*layers), torch.randn(64, 1, 28, 28, 28)
for step in range(5):
    if step == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    network(volumes).square().mean().backward()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(word: str) -> tuple[bool, int]:
    """Whether memory is kept, and the page faults of three training steps."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, word], capture_output=True, text=True, check=True
    )
    kept, count = done.stdout.split()
    return kept == "True", int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_used_again() -> None:
    kept, count = page_faults("keep")
    if not kept:
        pytest.skip("this C library has no mallopt")
    given, before = page_faults("give back")
    assert not given
    assert count < before / 4
