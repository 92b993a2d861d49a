"""Volumes on the device: standardised, the same held or streamed, in any order, and done when the
reader stops.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoet_core.runs.volumes import DeviceVolumes
from cryoet_core.store import Subtomograms, open_subtomograms, write_store


@pytest.fixture(params=["float16", "float32"])
def data(tmp_path: Path, request: pytest.FixtureRequest) -> Subtomograms:
    generator = np.random.default_rng(0)
    for name, sign, offset in (("a", 1, 5.0), ("b", -1, -2.0)):
        volumes = generator.normal(offset, 3, (15, 8, 8, 8)).astype(np.float32)
        write_store(tmp_path / f"{name}.h5", volumes, 10.0, density_sign=sign, dtype=request.param)
    return open_subtomograms([tmp_path / "a.h5", tmp_path / "b.h5"])


def test_each_volume_is_standardised_and_bright(data: Subtomograms) -> None:
    volumes = DeviceVolumes(data)
    batch = volumes[np.arange(len(data))]
    assert batch.shape == (30, 1, 8, 8, 8)
    assert batch.dtype == torch.float32
    torch.testing.assert_close(batch.mean(dim=(1, 2, 3, 4)), torch.zeros(30), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        batch.std(dim=(1, 2, 3, 4), correction=0), torch.ones(30), atol=1e-3, rtol=0
    )
    for index in (0, 29):
        raw = data[index].astype(np.float64)
        expected = torch.from_numpy((raw - raw.mean()) / raw.std()).float()
        torch.testing.assert_close(batch[index, 0], expected, atol=3e-3, rtol=0)


def test_held_and_streamed_are_equal_bit_by_bit(data: Subtomograms) -> None:
    held, streamed = DeviceVolumes(data), DeviceVolumes(data, max_memory=100)
    assert held.held
    assert not streamed.held
    order = np.random.default_rng(1).permutation(30)
    assert torch.equal(
        torch.cat(list(held.batches(7, order))), torch.cat(list(streamed.batches(7, order)))
    )
    assert torch.equal(held[order], torch.cat([streamed[[int(i)]] for i in order]))
    assert [len(batch) for batch in streamed.batches(7)] == [7, 7, 7, 7, 2]


def test_raw_values_keep_their_scale(data: Subtomograms) -> None:
    raw = DeviceVolumes(data, standardise=False)
    expected = torch.from_numpy(data.read(slice(None)))[:, None]
    torch.testing.assert_close(raw[:], expected, atol=0.02, rtol=2e-3)


@pytest.mark.parametrize("limit", [None, 0])
def test_every_kind_of_index(data: Subtomograms, limit: int | None) -> None:
    volumes = DeviceVolumes(data, max_memory=limit)
    everything = volumes[:]
    mask = np.arange(30) % 4 == 0
    assert torch.equal(volumes[mask], everything[mask])
    assert torch.equal(volumes[torch.tensor([3, -1])], everything[[3, 29]])
    assert torch.equal(volumes[[3, 1]], everything[[3, 1]])
    assert torch.equal(volumes[5:9], everything[5:9])
    assert torch.equal(volumes[-2], everything[28])
    assert volumes[np.array([], dtype=int)].shape == (0, 1, 8, 8, 8)
    with pytest.raises(IndexError):
        volumes[30]
    with pytest.raises(IndexError):
        volumes[torch.tensor([31])]


def test_a_part_counts_its_own_volumes(data: Subtomograms) -> None:
    part = DeviceVolumes(data, indices=np.array([20, 3]))
    assert len(part) == 2
    assert part.nbytes == 2 * 2 * 8**3
    assert torch.equal(part[:], DeviceVolumes(data)[[20, 3]])


def test_the_reading_thread_ends_with_its_reader(data: Subtomograms) -> None:
    stream = DeviceVolumes(data, max_memory=0).batches(1)
    next(stream)
    assert any(thread.name == "cryoet-reader" for thread in threading.enumerate())
    del stream
    assert not any(thread.name == "cryoet-reader" for thread in threading.enumerate())


def test_an_error_while_reading_reaches_the_reader(
    data: Subtomograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes = DeviceVolumes(data, max_memory=0)

    def fail(rows: np.ndarray) -> torch.Tensor:
        raise OSError("the disk went away")

    monkeypatch.setattr(volumes, "_read", fail)
    with pytest.raises(OSError, match="went away"):
        list(volumes.batches(4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_has_the_same_volumes(data: Subtomograms) -> None:
    cpu = DeviceVolumes(data)[:]
    for limit in (None, 0):
        volumes = DeviceVolumes(data, "cuda", limit)
        assert torch.allclose(torch.cat(list(volumes.batches(4))).cpu(), cpu, atol=1e-6)
