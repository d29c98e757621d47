"""Functions that print the output of commands: notes, results, progress and JSON objects."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from skytext.cli.typed_name import as_typed

if TYPE_CHECKING:
    from skytext.run.progress import Progress as JobProgress


_COLUMNS = 80
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_CONTROLS_OF_LINES = {code: shown for code, shown in _CONTROLS.items() if chr(code) not in "\n\t"}


class _Console(Console):
    """A console that escapes control characters.

    If a text contains a command of skytext, the console writes the command in a form that the user
    can paste (see `as_typed`).
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.width < 1:  # Without a terminal, some shells set COLUMNS=0. Then no text would fit.
            self.width = _COLUMNS

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(_typed(one) if isinstance(one, str) else one for one in objects), **options)


def _typed(text: str) -> str:
    return as_typed(text.translate(_CONTROLS_OF_LINES))


def one_line(text: str) -> str:
    """Replace each control character by ``\\xNN``, so that the text has only one line."""
    return text.translate(_CONTROLS)


notes = _Console(stderr=True, highlight=False)
"""The console for notes, warnings and progress (stderr)."""
answers = _Console(highlight=False)
"""The console for results in readable form (stdout)."""


def print_json(value: Any) -> None:
    """Print one JSON object on stdout. If stdout is not UTF-8, escape non-ASCII characters."""
    is_utf_8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    typer.echo(json.dumps(value, ensure_ascii=not is_utf_8, default=str))


def note(text: str) -> None:
    """Print one line on stderr, without markup."""
    notes.print(text, markup=False, soft_wrap=True)


class _TimeLeft(TimeRemainingColumn):
    """A column with the remaining time. If the total is known, the word "left" follows the time."""

    def render(self, task: Task) -> Text:
        shown = super().render(task)
        return shown if task.total is None else shown.append(" left")


class JobBar:
    """A progress bar for a captioning run. It also prints some of the descriptions.

    On a terminal, the bar is one line that is updated. Without a terminal, nothing is shown.
    """

    def __init__(self) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[images]} images  {task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("so far"),
            _TimeLeft(),
            console=notes,
            transient=True,
            disable=not notes.is_terminal,
        )
        # The bar shows how many bytes of the shards are processed, because the total number of
        # images is not known.
        self._task = self._bar.add_task("starting the engine", total=None, images=0, rate="")
        self._num_images = 0
        self._run: JobProgress | None = None

    def __enter__(self) -> JobBar:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bar."""
        self._bar.stop()

    def __rich__(self) -> RenderableType:
        """Return the content of the bar."""
        return self._bar.get_renderable()

    def on_described(self, num_images: int) -> None:
        """Show the number of described images. It includes images in units that are not finished.

        This method is thread-safe.
        """
        if num_images > self._num_images:
            self._num_images = num_images
            self._bar.update(self._task, description="captioning", images=num_images)

    def on_progress(self, progress: JobProgress) -> None:
        """Show the progress of a run after a unit is finished."""
        if progress is not self._run:  # A new run has started. One reindex has several runs.
            self._num_images = 0 if self._run else self._num_images
            self._run = progress
        self._num_images = max(self._num_images, progress.num_ok + progress.num_failed)
        self._bar.update(
            self._task,
            description="stopping" if progress.is_stopping else "captioning",
            total=progress.total_bytes,
            completed=progress.bytes_done,
            images=self._num_images,
            rate=f"{progress.images_per_s:.1f}/s" if progress.images_per_s else "",
        )
        if progress.example is not None and self._bar.live.is_started:
            member, sentence = progress.example
            self._bar.console.print(f"  {member}: {sentence}", style="dim", markup=False)


def plural(count: int, noun: str) -> str:
    """Return the count with the noun: ``1 image``, ``2 images``, ``1,000 images``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def ignored_words(ignored: Mapping[str, int]) -> str:
    """Return a text such as ``ignored: 12 hidden files, 3 links, 40 other files (csv 30, md 10)``.

    Args:
        ignored: number of ignored files of each kind (see `skytext.archive.ignored`). The mapping
            must not be empty.
    """
    # Do not import this at the start of the module, because the import is slow.
    from skytext.archive.ignored import HIDDEN, LINK, OTHER, SIDECAR, SPECIAL

    nouns = {
        HIDDEN: "hidden file",
        LINK: "link",
        SPECIAL: "special file",
        SIDECAR: "unused sidecar",
    }
    words = [plural(ignored[kind], noun) for kind, noun in nouns.items() if kind in ignored]
    others = {kind: number for kind, number in ignored.items() if kind not in nouns}
    if others:
        by_number = sorted(others.items(), key=lambda item: (item[0] == OTHER, -item[1], item[0]))
        some = ", ".join(f"{kind.lstrip('.')} {number:,}" for kind, number in by_number[:5])
        more = ", …" if len(others) > 5 else ""
        words.append(f"{plural(sum(others.values()), 'other file')} ({some}{more})")
    return f"ignored: {', '.join(words)}"


def index_words(kind: str, facts: Mapping[str, Any]) -> str:
    """Return a readable description of a vector index.

    Args:
        kind: the name of the index type in Lance.
        facts: a mapping with the keys ``num_partitions``, ``recall_at_10``, ``nprobes`` and
            ``search_effort``.
    """
    looked = f"with {facts['nprobes']} partitions read per query"
    if facts["search_effort"] is not None:
        looked = f"with a search effort of {facts['search_effort']:g}"
    partitions = facts["num_partitions"]
    return f"{kind}, {partitions} partitions, recall@10 {facts['recall_at_10']:.3f} {looked}"
