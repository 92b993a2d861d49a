"""What all writers of stores do: fill a file beside the target, and rename it once it is whole."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TypeVar

from cryoet_core.store.columns import claim
from cryoet_core.support import files

Writer = TypeVar("Writer", bound="StoreWriter")


class StoreWriter(ABC):
    """A context in which a store is written.

    Nothing named ``path`` appears or changes before the block ends well; a crash leaves
    ``path.partial`` at most, which no reader takes for a store.

    Parameters
    ----------
    path : Path or str
        The store to write.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.partial = self.path.with_name(f"{self.path.name}.partial")
        self._lock: BinaryIO | None = None
        self._renamed = False

    def __enter__(self: Writer) -> Writer:
        self._lock = claim(self.partial, self.path)
        try:
            self._start()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                with files.explained(self.path):
                    self._finish()
                    self._rename()
            elif isinstance(error, OSError) and (known := files.disk_error(error, self.path)):
                raise known from error
        finally:
            self._clean_up()

    @abstractmethod
    def _start(self) -> None:
        """Write what can be written before anything is added."""

    @abstractmethod
    def _finish(self) -> None:
        """Write what is still missing in the partial file."""

    def _rename(self) -> None:
        """Mark the partial file as complete and give it its name.

        The mark comes only once everything else is on the disk, so that no half-written file ever
        says that it is complete.
        """
        import h5py

        files.sync(self.partial)
        with h5py.File(self.partial, "r+", locking=False) as file:
            file.attrs["complete"] = True
        files.sync(self.partial)
        os.replace(self.partial, self.path)
        self._renamed = True
        files.sync(self.path.parent)

    def _clean_up(self) -> None:
        """Remove the partial file, unless it has been renamed, and release the lock."""
        if self._lock is not None:
            if not self._renamed:
                self.partial.unlink(missing_ok=True)
            self._lock.close()
            self._lock = None
