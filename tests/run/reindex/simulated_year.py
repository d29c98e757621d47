"""Simulate nightly runs of ``skytext reindex`` on a changing archive, with all kinds of faults."""

from __future__ import annotations

import logging
import random
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import ray

from skytext.config.settings import load_config
from skytext.errors import (
    BrokenListingError,
    IncompleteRunError,
    StoreFaultError,
    TableHeldError,
)
from skytext.run.plans.caption_plan import CaptionPlan, plan_caption
from skytext.run.progress import Progress
from skytext.run.reindex.reindex_run import ReindexSummary, run_reindex
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.standing.reported_matches import MatchLog
from tests.faulty_proxy import Faults, FaultyProxy
from tests.proof.commands import command
from tests.run.reindex.changing_archive import ChangingArchive
from tests.run.reindex.match_watcher import Watcher, watch_some
from tests.run.reindex.version_reader import VersionReader
from tests.table.rows import rows_of

EMBEDDERS = ("fake", "fake:dim=24", "fake:dim=16")
IMAGE_EMBEDDERS = (None, "fake", "fake:dim=12")
NUM_PROMPTS = 4
QUESTION = "a river beside fields and houses"
COMMAND_S = 300
_SETTINGS = {
    "caption.model": "fake",
    "job.unit_images": 8,
    "job.commit_images": 16,
    "job.lease_s": 3,
    "index.vector": "always",
    "index.recall_queries": 8,
    "sources.retry_s": 1,
    "reindex.max_withdrawn": 0.4,
    "reindex.max_failure_rate": 0.5,
    "reindex.keep_days": 0,
    "reindex.keep_reports": 3,
}
_log = logging.getLogger(__name__)
_FAULTS = ("reset", "truncate", "server_error", "slow_down")
# The driver is killed before or after one of these calls.
_STEPS = (
    "skytext.run.control.committer:RemoteCommitter.commit",
    "skytext.run.reindex.reindex_run:withdraw_gone",
    "skytext.run.reindex.reindex_run:refresh_indexes",
    "skytext.run.reindex.reindex_run:promote",
    "skytext.run.reindex.notify_run:find_new_matches",
    "skytext.run.reindex.notify_run:notify",
)
# Vector columns are added, filled, activated and dropped before, in or after these calls.
_COLUMN_STEPS = (
    "skytext.run.reindex.reindex_run:write_both",
    "skytext.run.reindex.reindex_run:drop_unused",
    "skytext.run.vector_run:prepare_vectors",
    "skytext.run.vector_run:finish_vectors",
)
_TRAP = """
import importlib, operator, os, signal
module, _, name = {step!r}.partition(":")
*owners, name = name.split(".")
owner = operator.attrgetter(*owners)(importlib.import_module(module)) if owners else (
    importlib.import_module(module))
real = getattr(owner, name)
def trapped(*args, **more):
    if {before}:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*args, **more)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, name, trapped)
"""
# The driver is killed after a random time if it is still running.
_TIMED_TRAP = """
import os, signal, threading
timer = threading.Timer({seconds}, lambda: os.kill(os.getpid(), signal.SIGKILL))
timer.daemon = True
timer.start()
"""
_LONGEST_S = 15
# These columns differ between two equal runs, or contain an earlier position of an image.
_OF_THE_RUN = {"run_id", "unit_id", "created_at", "byte_offset", "shard_etag"}
_COSTS = {"num_prompt_tokens", "num_cached_tokens", "num_output_tokens", "caption_attempts"}


@dataclass
class Night:
    """The events of a night.

    Attributes:
        prompt: number of the prompt.
        embedder: index of the text embedding model in `EMBEDDERS`.
        image_embedder: index of the image embedding model in `IMAGE_EMBEDDERS`.
        happens: ``kill``, ``column kill``, ``kill any time``, ``overlap``, ``faults`` or ``broken
            listing``. The text is empty if nothing special happens.
        max_images: maximum number of images that the run processes. If None, there is no limit.
    """

    prompt: int = 0
    embedder: int = 0
    image_embedder: int = 0
    happens: str = ""
    max_images: int | None = None


def plan_nights(
    num_nights: int, rng: random.Random, *, happens: dict[str, int], num_budgets: int
) -> list[Night]:
    """Return the nights of a year. Prompts and models change at regular intervals.

    A ``column kill`` occurs on a night on which an embedding model changes.
    """
    nights = [
        Night(
            i * NUM_PROMPTS // num_nights,
            i * len(EMBEDDERS) // num_nights,
            # The image model changes together with a prompt, but not with the text model.
            (i * NUM_PROMPTS // num_nights + 1) // 2,
        )
        for i in range(num_nights)
    ]
    changes = [i for i in range(1, num_nights) if _changes_models(nights[i - 1], nights[i])]
    column_kills = rng.sample(changes, min(len(changes), happens.get("column kill", 0)))
    for number in column_kills:
        nights[number].happens = "column kill"
    # Nothing special happens on the first night, because this night creates the table.
    quiet = [i for i in range(1, num_nights) if i not in column_kills]
    special = [what for what, number in happens.items() for _ in range(number)]
    special = [what for what in special if what != "column kill"]
    for number, what in zip(rng.sample(quiet, len(special)), special, strict=True):
        nights[number].happens = what
    for night in rng.sample([night for night in nights[1:] if not night.happens], num_budgets):
        night.max_images = rng.randint(4, 12)
    return nights


def _changes_models(before: Night, after: Night) -> bool:
    return (before.embedder, before.image_embedder) != (after.embedder, after.image_embedder)


@dataclass
class Year:
    """A table, its archive, and the nights.

    Attributes:
        folder: folder of the table and of all other files.
        archive: the archive that changes.
        proxy: the proxy between the workers of Ray and the archive.
        rng: random generator that selects the events.
        name: name of the table.
        sizes: number of files, bytes and rows of the table after each night.
        watchers: watchers of the standing queries of the table.
        num_kills: number of drivers that were killed.
    """

    folder: Path
    archive: ChangingArchive
    proxy: FaultyProxy
    rng: random.Random
    name: str = "table"
    sizes: list[tuple[int, int, int]] = field(default_factory=list)
    watchers: list[Watcher] = field(default_factory=list)
    num_kills: int = 0

    @property
    def table(self) -> Path:
        """The folder of the table."""
        return self.folder / self.name

    def open(self) -> ImagesTable:
        """Open the live version."""
        return ImagesTable.open_served(TableLocation.parse(str(self.table)))

    def run(self, nights: Sequence[Night], reader: VersionReader | None = None) -> None:
        """Run the nights, and check the live version after each night."""
        for night in nights:
            started = time.monotonic()
            self.archive.change()
            self._live_through(night)
            if reader is not None:
                reader.check()
            self.sizes.append(self._size())
            _log.info("night %d, %.1f s: %s", len(self.sizes), time.monotonic() - started, night)

    def watch(self) -> None:
        """Add standing queries. Their reports are checked after each run that ends."""
        self.watchers = watch_some(self.table, QUESTION)

    def run_until_idle(self, last: Night) -> None:
        """Repair the archive, and run without faults until no work is left."""
        self.archive.mend(all_shards=True)
        # Failed images are tried three times.
        for _ in range(5):
            if not self._reindex(replace(last, max_images=None)).has_changed:
                return
        raise AssertionError("there is still something to do")

    def check_against_scratch(self, last: Night) -> None:
        """Compare the live version, image by image, with a new table of the archive."""
        scratch = self.folder / "scratch"
        run_reindex(self._plan(replace(last, max_images=None), scratch))
        made_anew = ImagesTable.open_served(TableLocation.parse(str(scratch)))
        found, expected = _rows(self.open()), _rows(made_anew)
        withdrawn = {key for key, row in found.items() if row["status"] == "withdrawn"}
        assert len(found) == len(expected) + len(withdrawn)
        assert found.keys() - withdrawn == expected.keys()
        for key, row in expected.items():
            differ = {name for name, value in row.items() if found[key][name] != value}
            assert not differ, f"{key}: {[(n, found[key][n], row[n]) for n in differ]}"
        assert _manifests(self.table) == _manifests(scratch)

    def _live_through(self, night: Night) -> None:
        if night.happens == "kill any time":
            seconds = self.rng.uniform(1, _LONGEST_S)
            self._kill(night, _TIMED_TRAP.format(seconds=seconds), {0, -signal.SIGKILL})
        elif night.happens in ("kill", "column kill"):
            steps = _STEPS if night.happens == "kill" else _COLUMN_STEPS
            step, before = self.rng.choice(steps), self.rng.random() < 0.5
            self._kill(night, _TRAP.format(step=step, before=before), {-signal.SIGKILL})
        elif night.happens == "faults":
            self._meet_faults(night)
        elif night.happens == "broken listing":
            self._see_a_broken_listing(night)
        elif night.happens == "overlap":
            self._start_twice(night)
        else:
            self._check_night(self._reindex(night))

    def _settings(self, night: Night) -> dict[str, Any]:
        prompt = self.folder / f"prompt-{night.prompt}.yaml"
        prompt.write_text(f"id: night-{night.prompt}\none: Describe it, wording {night.prompt}.\n")
        given = {
            "caption.prompt": str(prompt),
            # The fake engine ignores the prompt. Another temperature gives other captions.
            "caption.temperature": round(0.5 + night.prompt / 10, 1),
            "embed.model": EMBEDDERS[night.embedder],
            "image_embed.model": IMAGE_EMBEDDERS[night.image_embedder],
            "reindex.max_images": night.max_images,
        }
        return _SETTINGS | given

    def _plan(self, night: Night, table: Path | None = None) -> CaptionPlan:
        config = load_config(None, self._settings(night))
        return plan_caption([self.archive.url], str(table or self.table), config, stale="all")

    def _reindex(self, night: Night, **more: Any) -> ReindexSummary:
        summary = run_reindex(self._plan(night), **more)
        for watcher in self.watchers:
            watcher.check()
        return summary

    def _kill(self, night: Night, trap: str, statuses: set[int]) -> None:
        """Run the command in a separate process, and kill this process during its work."""
        self.archive.add(3)
        settings = [
            f"{name}={value}" for name, value in self._settings(night).items() if value is not None
        ]
        call: list[object] = ["reindex", self.archive.url, "--table", self.table]
        call += ["--ray-address", ray.get_runtime_context().gcs_address]
        call += [word for setting in settings for word in ("--set", setting)]
        with command(self.folder, *call, prelude=trap) as running:
            status = running.finish(COMMAND_S)
            assert status in statuses, running.err
        self.num_kills += status != 0
        # The workers of the killed driver end soon. The next run waits until it can hold the claim.
        time.sleep(_SETTINGS["job.lease_s"])
        table = self.open()
        if MatchLog(table.location).last().table_version == table.version:
            # The driver was killed after the comparison. The next run reports the matches.
            for watcher in self.watchers:
                watcher.look()

    def _meet_faults(self, night: Night) -> None:
        kind, rate = self.rng.choice(_FAULTS), self.rng.choice([0.3, 0.7, 1.0])
        seed = self.rng.randrange(1000)
        self.proxy.faults = Faults(seed=seed, pattern=r"aerial/", **{kind: rate})  # type: ignore[arg-type]
        try:
            self._check_night(self._reindex(night))
        except (StoreFaultError, IncompleteRunError):
            # Many shards, or the headers of a sampled shard, could not be read. The next night
            # repeats this work.
            pass
        finally:
            self.proxy.faults = Faults()

    def _see_a_broken_listing(self, night: Night) -> None:
        before = self.open()
        latest = before.latest_version()
        self.archive.hide_most()
        with pytest.raises(BrokenListingError):
            self._reindex(night)
        self.archive.show_all()
        assert self.open().version == before.version
        assert self.open().latest_version() == latest

    def _start_twice(self, night: Night) -> None:
        """Start a second run during the first run.

        The second run is rejected and changes nothing.
        """
        self.archive.add(1)
        refused: list[BaseException] = []

        def start() -> None:
            try:
                self._reindex(night)
            except TableHeldError as error:
                refused.append(error)

        def start_once(_: Progress) -> None:
            if not refused:
                second = threading.Thread(target=start)
                second.start()
                second.join()

        self._check_night(self._reindex(night, on_progress=start_once))
        assert len(refused) == 1

    def _check_night(self, summary: ReindexSummary) -> None:
        """Check that the live version equals the archive.

        Do nothing if the run could not finish its work.
        """
        if summary.is_partial or any(run.num_unread for run in summary.runs.values()):
            return
        assert not summary.broken_listing
        assert summary.live_version == self.open().version
        rows = self.open().dataset.to_table(columns=["shard", "member", "status"]).to_pylist()
        statuses = {
            (row["shard"], row["member"]): row["status"] == "ok"
            for row in rows
            if row["status"] != "withdrawn" and row["shard"] not in self.archive.damaged
        }
        assert statuses == self.archive.images

    def _size(self) -> tuple[int, int, int]:
        """Return the number of files, bytes and rows of the table.

        Match reports are not counted, because they grow with the number of events.
        """
        files = [
            path.stat().st_size
            for path in self.table.rglob("*")
            if path.is_file() and path.suffix != ".geojson"
        ]
        return len(files), sum(files), self.open().num_rows()


def _manifests(table: Path) -> set[str]:
    """Return the names of all manifests. The same shards give the same names."""
    return {path.name for path in table.glob("state/manifest/*/*")}


def _rows(table: ImagesTable) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows of a table by shard and member."""
    vectors = {column.name for column in table.columns}
    names = set(table.dataset.schema.names) - vectors - _OF_THE_RUN - _COSTS
    found = {}
    kinds = ["vectors"] if table.image_column is None else ["vectors", "image_vector"]
    for row in rows_of(table, *sorted(names), *kinds):
        if row["failure"] is not None:
            row["failure"] = {**row["failure"], "attempts": 0}
        found[row["shard"], row["member"]] = row
    return found
