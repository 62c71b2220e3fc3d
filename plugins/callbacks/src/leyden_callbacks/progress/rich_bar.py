"""The progress bar of rich."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leyden_callbacks.progress.base import ProgressBar
from leyden_callbacks.progress.lines import Bar, clock

if TYPE_CHECKING:
    from rich.progress import Progress, Task


class RichProgressBar(ProgressBar):
    """The same items as :class:`TQDMProgressBar`'s, in colour.

    On anything but a terminal it prints one plain line an epoch. Arguments are those of :class:`ProgressBar`.

    Raises:
        ImportError: rich is not installed.
    """

    def __init__(self, refresh_rate: int = 1, leave: bool = False) -> None:
        super().__init__(refresh_rate, leave)
        try:
            import rich.progress  # noqa: F401  # to fail here rather than in the run
        except ImportError as error:
            raise ImportError(
                'RichProgressBar needs rich, which is not installed; run: pip install "leyden-callbacks[rich]", '
                "or choose the progress bar of tqdm"
            ) from error
        self._screen: Progress | None = None
        self._open_bars = 0

    def make_bar(self, description: str, total: int | None, done: int, *, nested: bool, leave: bool) -> Bar:
        """Returns a bar of rich."""
        if self._screen is None:
            self._screen = _screen()
            self._screen.start()
        self._open_bars += 1
        return _RichBar(self, self._screen, description, total, done, nested=nested, leave=leave)

    def print(self, *values: Any) -> None:
        """Prints a line on standard error above the bars."""
        if self._screen is None:
            super().print(*values)
        else:
            self._screen.console.print(*values, markup=False, highlight=False, soft_wrap=True)

    def closed(self) -> None:
        """Gives the screen back when the last bar was closed; rich can have one such display at a time."""
        self._open_bars -= 1
        if not self._open_bars and self._screen is not None:
            self._screen.stop()
            self._screen = None


class _RichBar(Bar):
    is_live = True

    def __init__(
        self,
        owner: RichProgressBar,
        screen: Progress,
        description: str,
        total: int | None,
        done: int,
        *,
        nested: bool,
        leave: bool,
    ) -> None:
        super().__init__(description, total, done, nested=nested)
        self._owner = owner
        self._screen = screen
        self._leave = leave
        self._task = screen.add_task(description, total=total, completed=done, text="")
        self._closed = False
        screen.refresh()

    def draw(self, done: int, text: str) -> None:
        self._screen.update(self._task, completed=done, text=text)
        self._screen.refresh()

    def finish(self, done: int, text: str, *, keep_open: bool) -> None:
        self.draw(done, text)
        if not keep_open:
            self.abandon()

    def abandon(self, *, erase: bool = False) -> None:
        if self._closed:
            return
        self._closed = True
        self._screen.stop_task(self._task)
        if erase or not self._leave:
            self._screen.remove_task(self._task)
        self._owner.closed()


def _screen() -> Progress:
    """A display that nothing redraws by itself."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    from rich.table import Column
    from rich.text import Text

    class Counts(ProgressColumn):
        def render(self, task: Task) -> Text:
            done, seconds = int(task.completed), task.elapsed or 0.0
            count = f"{done}/{int(task.total)}" if task.total is not None else f"{done}it"
            remaining = f"<{clock(task.time_remaining)}" if task.time_remaining is not None else ""
            speed = task.speed or (done / seconds if seconds else 0.0)
            rate = f"{speed:.2f}it/s" if speed else "?it/s"
            text = str(task.fields["text"])
            return Text(f"{count} [{clock(seconds)}{remaining}, {rate}{', ' if text else ''}{text}]")

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        Counts(table_column=Column(no_wrap=True)),
    )
    return Progress(*columns, console=console, auto_refresh=False, expand=True)
