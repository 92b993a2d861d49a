"""Subtomograms on the device.

They are held once where they fit, and streamed from the memory map where they do not. Both give
the same numbers.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from cryoet_core.store import Subtomograms

_CHUNK_BYTES = 64 << 20
_CACHED_BYTES = 1 << 20
_AHEAD = 2
"""Batches that the reading thread may be ahead."""


class DeviceVolumes:
    """Subtomograms as batches (b, 1, d, d, d) float32 on a device, protein bright.

    Volumes are held once, as float16 on the device, where they fit; else each batch is read from
    the store, in memory for a few batches. Both ways give the same numbers, bit by bit.

    Parameters
    ----------
    data : Subtomograms
        The data set.
    device : torch.device or str
        Where the batches are.
    max_memory : int, optional
        Bytes that held volumes may take; None for no limit.
    indices : array of int, optional
        The rows that are wanted; by default all.
    standardise : bool
        Bring each volume to mean 0 and standard deviation 1; else the stored values times the
        density sign are given.
    """

    def __init__(
        self,
        data: Subtomograms,
        device: torch.device | str = "cpu",
        max_memory: int | None = None,
        indices: np.ndarray | None = None,
        standardise: bool = True,
    ) -> None:
        self.data = data if indices is None else data.subset(np.asarray(indices))
        self.device = torch.device(device)
        self.box, self.standardise = data.box, standardise
        mean, std = self.data.statistics()
        signs = self.data.signs.astype(np.float32)
        # stored float32 passes through float16 of the standardised volume, whatever its scale
        self._wide = self.data.dtype == np.float32
        self._stored_shift, self._stored_scale = (
            (mean, std) if self._wide else (0 * mean, 0 * std + 1)
        )
        if standardise:
            shift, scale = (0 * mean, signs) if self._wide else (mean, signs / std)
        else:
            shift, scale = (-mean / std, signs * std) if self._wide else (0 * mean, signs)
        self._shift = torch.from_numpy(shift.astype(np.float32)).to(self.device)
        self._scale = torch.from_numpy(scale.astype(np.float32)).to(self.device)
        self.held = max_memory is None or self.nbytes <= max_memory
        self._store = self._load() if self.held else None

    @property
    def nbytes(self) -> int:
        """Bytes that holding all volumes takes."""
        return 2 * len(self) * self.box**3

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int | slice | list[int] | np.ndarray | Tensor) -> Tensor:
        """A batch (b, 1, d, d, d) for a slice, indices or a mask; (1, d, d, d) for one index."""
        if isinstance(index, (int, np.integer)):
            return self[np.array([range(len(self))[index]])][0]
        if isinstance(index, Tensor) and index.dtype == torch.long and self._store is not None:
            index = index.to(self.device)  # no detour over the host
            return self._finish(None, torch.where(index < 0, index + len(self), index))
        rows = self._rows(index)
        return self._finish(None if self.held else self._read(rows), torch.from_numpy(rows))

    def batches(
        self, batch_size: int, indices: np.ndarray | Tensor | None = None
    ) -> Iterator[Tensor]:
        """Batches (b, 1, d, d, d), the last one shorter.

        A thread reads ahead while the device computes, where the volumes are not held.

        Parameters
        ----------
        batch_size : int
            Subtomograms in a batch.
        indices : array or Tensor of int, optional
            Their order; by default all as they come.

        Yields
        ------
        Tensor
            A batch on the device.
        """
        rows = np.arange(len(self)) if indices is None else self._rows(indices)
        parts = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
        if self.held:
            yield from (self._finish(None, torch.from_numpy(part)) for part in parts)
        else:
            for part, halves in zip(parts, _ahead(self._read, parts), strict=True):
                yield self._finish(halves, torch.from_numpy(part))

    def _rows(self, index: slice | list[int] | np.ndarray | Tensor) -> np.ndarray:
        if isinstance(index, Tensor):
            index = index.detach().cpu().numpy()
        chosen: np.ndarray = np.arange(len(self))[index]
        return chosen

    def _read(self, rows: np.ndarray) -> Tensor:
        """Volumes (b, d, d, d) float16 in host memory, pinned where a GPU is to fetch them."""
        halves = torch.empty(
            (len(rows), *(self.box,) * 3),
            dtype=torch.float16,
            pin_memory=self.device.type == "cuda",
        )
        if not self._wide:
            self.data.read_stored(rows, out=halves.numpy())
            return halves
        volumes = torch.from_numpy(self.data.read_stored(rows))
        volumes -= torch.from_numpy(self._stored_shift[rows])[:, None, None, None]
        volumes /= torch.from_numpy(self._stored_scale[rows])[:, None, None, None]
        return halves.copy_(volumes)

    def _load(self) -> Tensor:
        """All volumes as float16 on the device, read in chunks in the order of the files."""
        store = torch.empty((len(self), *(self.box,) * 3), dtype=torch.float16, device=self.device)
        order = np.lexsort((self.data.source_row, self.data.source_file))
        step = max(1, _CHUNK_BYTES // (2 * self.box**3))
        parts = [order[i : i + step] for i in range(0, len(order), step)]
        for part in parts:
            store[torch.from_numpy(part).to(self.device)] = self._read(part).to(self.device)
        return store

    def _held_rows(self, rows: Tensor) -> Tensor:
        if self._store is None:
            raise ValueError("the volumes are not held")
        return self._store.index_select(0, rows)

    def _finish(self, halves: Tensor | None, rows: Tensor) -> Tensor:
        """The batch that is handed out, from rows (b,) of held volumes or float16 as read."""
        rows = rows.to(self.device)
        batch = torch.empty((len(rows), 1, *(self.box,) * 3), device=self.device)
        shift, scale = (
            self._shift[rows, None, None, None, None],
            self._scale[rows, None, None, None, None],
        )
        # a CPU does the three passes on pieces that stay in its cache; a GPU takes the batch as one
        step = (
            len(rows) if self.device.type != "cpu" else max(1, _CACHED_BYTES // (4 * self.box**3))
        )
        for i in range(0, len(rows), max(step, 1)):
            part = slice(i, i + step)
            piece = self._held_rows(rows[part]) if halves is None else halves[part]
            batch[part].copy_(piece.unsqueeze(1), non_blocking=True).sub_(shift[part]).mul_(
                scale[part]
            )
        return batch


def _ahead(fetch: Callable[[np.ndarray], Tensor], parts: list[np.ndarray]) -> Iterator[Tensor]:
    """``fetch(part)`` for each part, from a thread that is at most ``_AHEAD`` batches ahead."""
    ready: queue.Queue[Tensor | BaseException | None] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(item: Tensor | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for part in parts:
                if not put(fetch(part)):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="cryoet-reader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
