"""What a run tells on the terminal: lines, and progress bars where there is a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar, overload

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


class Terminal:
    """Print lines and draw progress bars.

    Parameters
    ----------
    silent : bool
        Whether nothing is printed, as for every rank but 0 and with quiet runs.
    to_stderr : bool
        Whether standard error is used, because standard output carries JSON.
    """

    def __init__(self, *, silent: bool = False, to_stderr: bool = False) -> None:
        self.silent = silent
        self.console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
        self._bars: Progress | None = None

    def say(self, text: str) -> None:
        """Print a line as it is, above the bars if there are any."""
        if not self.silent:
            console = self._bars.console if self._bars else self.console
            console.print(text, markup=False)

    @overload
    def progress(self, over: int, description: str) -> Iterator[int]: ...
    @overload
    def progress(self, over: Iterable[T], description: str) -> Iterator[T]: ...
    def progress(self, over: int | Iterable[Any], description: str) -> Iterator[Any]:
        """Iterate with a progress bar, which vanishes at the end; bars may nest.

        Parameters
        ----------
        over : int | Iterable[Any]
            What to iterate over; an int n means ``range(n)``.
        description : str
            Text beside the bar.

        Yields
        ------
        Iterator[Any]
            The items.
        """
        items: Iterable[Any] = range(over) if isinstance(over, int) else over
        if self.silent or not self.console.is_terminal:
            yield from items
            return
        outermost = self._bars is None
        bars = self._bars or self._new_bars()
        if outermost:
            self._bars = bars
            bars.start()
        task = bars.add_task(description, total=len(items) if isinstance(items, Sized) else None)
        try:
            for item in items:
                yield item
                bars.advance(task)
        finally:
            bars.remove_task(task)
            if outermost:
                bars.stop()
                self._bars = None

    def _new_bars(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        return Progress(
            *columns,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
