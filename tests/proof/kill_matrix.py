"""Kill a process of a running job, run the same command to its end, and compare the table.

The job is the real command in separate processes on a local Ray. The models are real models or the
fake models of the package. The engine of a fake model is also a separate process.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from skytext.table.commits.stage_rows import staged_unit_ids
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from tests.proof.commands import Command, command
from tests.table.rows import rows_of as table_rows

RUN_S = 240
# The agents of Ray try for 60 s to report a dead raylet to the head node, which may also be dead.
CLEAN_UP_S = 90
# These columns differ between two equal runs.
_OF_THE_RUN = ("run_id", "unit_id", "created_at")
# Real models describe an image differently in another batch. "hit" contains the description.
_MODELS = ("captions", "vectors", "text", "hit", "num_variants", "num_truncated_variants")
_COUNTS = ("num_prompt_tokens", "num_cached_tokens", "num_output_tokens", "caption_attempts")

WORKERS = {
    "read worker": "ShardReader",
    "caption actor": "CaptionUnits",
    "embed actor": "EmbedUnits",
    "writer": "UnitWriter",
}
ENGINES = ("skytext-fake-engine", "EngineCore")
# The driver kills itself, because no timer can hit the time between staging and commit.
_TRAP = """
import os, signal
from skytext.run.control.committer import RemoteCommitter
real, calls = RemoteCommitter.commit, []
def trapped(self, unit_ids):
    calls.append(1)
    if len(calls) == {number} and {before}:
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, unit_ids)
    if len(calls) == {number}:
        os.kill(os.getpid(), signal.SIGKILL)
RemoteCommitter.commit = trapped
"""
TRAPS = {"driver, staged": True, "driver, committed": False}
TARGETS = ("driver", *WORKERS, "engine", *TRAPS)


@dataclass
class Tally:
    """The results of one kind of kill.

    Attributes:
        num_kills: number of kills.
        num_survived: number of kills after which the job continued to its end.
        num_committed: number of rows that the killed runs had committed.
        num_adopted: number of rows that the killed runs had staged and the next run committed.
        num_again: number of committed images that were described again.
        max_repeated: the maximum number of repeated model answers after one kill.
        violations: broken guarantees.
    """

    num_kills: int = 0
    num_survived: int = 0
    num_adopted: int = 0
    num_committed: int = 0
    num_again: int = 0
    max_repeated: int = 0
    violations: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Scene:
    """An archive, the options of its job, and the result of an undisturbed run.

    Attributes:
        folder: for output files.
        source: the archive.
        options: options of the command.
        compare: names of the columns that must be equal.
        reference: the rows of the undisturbed run by image id.
        run_s: duration of an undisturbed run in seconds.
        journal: the file in which the fake engine counts its answers. None if the models are real.
        undisturbed: further options of the runs that are not killed.
    """

    folder: Path
    source: str
    options: Sequence[str]
    compare: Sequence[str]
    reference: dict[str, dict[str, Any]]
    run_s: float
    journal: Path | None
    undisturbed: Sequence[str] = ()

    def call(self, table: str) -> list[str]:
        """Return the command's arguments for a table."""
        return ["caption", self.source, "--table", table, "--json", *self.options]


def make_scene(
    folder: Path,
    source: str,
    options: Sequence[str],
    table: str,
    *,
    whole_rows: bool,
    undisturbed: Sequence[str] = (),
) -> Scene:
    """Run the job without a kill on a separate table, and return the scene."""
    journal = folder / "journal" if whole_rows else None
    if journal is not None:
        options = [f"{o},journal={journal}" if o.startswith("fake:") else o for o in options]
    scene = Scene(folder, source, options, (), {}, 0.0, journal, undisturbed)
    started = time.monotonic()
    run_to_its_end(scene, table)
    run_s = time.monotonic() - started
    names = table_rows(ImagesTable.open(TableLocation.parse(table)))[0]
    left_out = _OF_THE_RUN if whole_rows else (*_OF_THE_RUN, *_MODELS, *_COUNTS)
    compare = [name for name in names if name not in left_out]
    reference = rows_of(table, compare)
    return replace(scene, compare=compare, reference=reference, run_s=run_s)


def run_to_its_end(scene: Scene, table: str) -> dict[str, Any]:
    """Run the command to its end, and return the summary."""
    with command(scene.folder, *scene.call(table), *scene.undisturbed) as running:
        status = running.finish(RUN_S)
        if status != 0:
            raise AssertionError(f"exit status {status}: {running.err[-2000:]}")
        summary: dict[str, Any] = json.loads(running.out)
        return summary


def rows_of(table: str, columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the rows of a table by image id. Fail if an image has two rows."""
    found = ImagesTable.find(TableLocation.parse(table))
    if found is None:
        return {}
    rows = table_rows(found, *dict.fromkeys(["image_id", *columns]))
    by_id = {row["image_id"]: row for row in rows}
    if len(by_id) != len(rows):
        raise AssertionError(f"{len(rows) - len(by_id)} double rows")
    return by_id


def kill_once(scene: Scene, table: str, target: str, rng: random.Random, tally: Tally) -> None:
    """Start the job, kill ``target`` at a random moment, run the job to its end, and compare."""
    before = rows_of(table, ["unit_id"])
    if scene.journal is not None:
        scene.journal.unlink(missing_ok=True)
    trap = ""
    if target in TRAPS:
        trap = _TRAP.format(number=rng.randint(1, 2), before=TRAPS[target])
    with command(scene.folder, *scene.call(table), prelude=trap) as running:
        if target == "driver":
            time.sleep(rng.uniform(0.2, scene.run_s))
            running.kill()
        elif target not in TRAPS:
            victims = _wait_for(running, _finder(running, target), rng.uniform(0, scene.run_s / 3))
            for victim in victims:
                victim.kill()
        status = running.finish(RUN_S)
        left = running.wait_for_the_rest(CLEAN_UP_S)
        if left:
            tally.violations.append(f"{target}: {left} outlived the job")
    tally.num_kills += 1
    tally.num_survived += status == 0
    committed = rows_of(table, ["unit_id"])
    if not before.items() <= committed.items():
        tally.violations.append(f"{target}: the killed run lost or changed rows")
    num_staged = len(staged_unit_ids(TableLocation.parse(table)))
    summary = run_to_its_end(scene, table)
    after = rows_of(table, [*scene.compare, "unit_id"])
    kept = {i: after[i]["unit_id"] for i in committed if i in after}
    num_again = sum(kept.get(i) != row["unit_id"] for i, row in committed.items())
    tally.num_again += num_again
    tally.num_committed += len(committed) - len(before)
    tally.num_adopted += summary["num_adopted"]
    _compare(scene, after, f"{target} ({num_staged} units were staged)", tally)
    if scene.journal is not None:
        asked = scene.journal.read_text(encoding="ascii").splitlines()
        tally.max_repeated = max(tally.max_repeated, len(asked) - len(set(asked)))
    new = summary["num_captioned"] + summary["num_newly_failed"] + summary["num_adopted"]
    if new != len(scene.reference) - len(committed):
        tally.violations.append(f"{target}: {new} rows made, not what was missing")


def _compare(scene: Scene, after: dict[str, dict[str, Any]], what: str, tally: Tally) -> None:
    if after.keys() != scene.reference.keys():
        lost, more = scene.reference.keys() - after.keys(), after.keys() - scene.reference.keys()
        tally.violations.append(f"{what}: {len(lost)} images lost, {len(more)} invented")
    for image_id, row in scene.reference.items():
        other = {name: after.get(image_id, {}).get(name) for name in row}
        differing = [name for name in row if row[name] != other[name]]
        if differing:
            tally.violations.append(f"{what}: {image_id} differs in {differing}")
            return


def _finder(running: Command, target: str) -> Callable[[], list[psutil.Process]]:
    words = ENGINES if target == "engine" else (WORKERS[target],)

    def find() -> list[psutil.Process]:
        return [
            process
            for process in running.left()
            if any(word in _command_line(process) for word in words)
        ]

    return find


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join([process.name(), *process.cmdline()])
    except psutil.Error:
        return ""


def _wait_for(
    running: Command, find: Callable[[], list[psutil.Process]], delay_s: float
) -> list[psutil.Process]:
    """Return the processes that ``find`` finds, after a delay.

    The delay of ``delay_s`` seconds starts when ``find`` finds the first process.
    """
    earliest = None
    while running.process.poll() is None:
        victims = find()
        if victims and earliest is None:
            earliest = time.monotonic() + delay_s
        if victims and earliest is not None and time.monotonic() >= earliest:
            return victims
        time.sleep(0.02)
    # The command ended before a process was killed. The tally counts this kill as survived.
    return []


def targets_in_turn(num_kills: int, rng: random.Random) -> Iterator[str]:
    """Yield this number of targets in random order. All kinds of targets are equally frequent."""
    turns = [TARGETS[i % len(TARGETS)] for i in range(num_kills)]
    rng.shuffle(turns)
    yield from turns


def table_of(tallies: dict[tuple[str, str], Tally]) -> str:
    """Return the tallies as text, one line for each kind of kill and store."""
    head = f"{'killed':18} {'where':8} kills survived committed adopted again repeated violations"
    lines = [head]
    total: Counter[str] = Counter()
    for (target, where), tally in sorted(tallies.items()):
        lines.append(
            f"{target:18} {where:8} {tally.num_kills:5} {tally.num_survived:8} "
            f"{tally.num_committed:9} {tally.num_adopted:7} {tally.num_again:5} "
            f"{tally.max_repeated:8} "
            f"{len(tally.violations):10}"
        )
        total.update(kills=tally.num_kills, violations=len(tally.violations))
    lines.append(f"{total['kills']} kills, {total['violations']} violations")
    return "\n".join(lines)
