"""Before a table is made: can its store hold one?

Exactly-once rests on the store: the claim, the records of staged units and Lance's commits each
create an object that must not be there yet. Some stores that speak S3 ignore the condition of such
a put, without an error. Then two runs could both hold the table. So this module tries the rules
out, with a dozen small objects under ``state/preflight/`` that it deletes again.

Requests that must meet come from threads, each with a client, and so with connections, of its own.
To a store they are no other than those of processes, and they start at one moment without the
seconds that a process takes to start.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier
from urllib.parse import urlsplit

from skytext.errors import JobError, TableError
from skytext.table.location import TableLocation
from skytext.table.state_files import StateStore

_FOLDER = "preflight"
_NUM_CLIENTS = 8
_NUM_ROUNDS = 3
# S3 refuses requests at 15 minutes. A clock that is off by 5 reaches that some day.
_MAX_CLOCK_S = 300.0
_NEEDS_CONDITIONAL_PUT = (
    "use a store that keeps If-None-Match, such as AWS S3 or Google Cloud Storage, or a folder"
)
_NEEDS_CONSISTENCY = "use a strongly consistent store, or switch off the cache in front of it"
_ANSWER = re.compile(r"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>")
_DIRECTORY_BUCKET = "--x-s3"


def try_store(location: TableLocation) -> float | None:
    """As `check_store`, and leave no folder behind that was not there before."""
    folders = [Path(location.uri, "state"), *Path(location.uri, "state").parents]
    missing = [path for path in folders if location.is_local and not path.exists()]
    try:
        return check_store(location)
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()


def check_store(location: TableLocation) -> float | None:
    """Try out what a table needs of its store; about twenty requests one after another.

    Args:
        location: the table; it need not exist yet.

    Returns:
        Seconds by which the store's clock is ahead of this machine's. None for a local
        folder, to which no clock matters: nothing is signed.

    Raises:
        TableError: the store refuses a request or breaks a rule: which, what was seen, and what
            to do.
    """
    clients = [StateStore(location, client=number) for number in range(_NUM_CLIENTS)]
    folder = f"{_FOLDER}/{uuid.uuid4().hex}"
    # In a listing they stand in another order than they are written in.
    own = [f"{folder}/own-{_NUM_CLIENTS - number}" for number in range(_NUM_CLIENTS)]
    contended = [f"{folder}/contended-{number}" for number in range(_NUM_ROUNDS)]
    single = [f"{folder}/{name}" for name in ("create", "read", "clock")]
    try:
        try:
            _check_create(clients[0], single[0])
            _check_reads(clients[0], clients[1], single[1])
            _check_contention(clients, own, contended)
            _check_listing(clients[0], folder, {single[0], *own, *contended})
            return None if location.is_local else _check_clock(clients[0], single[2])
        finally:
            with suppress(JobError):
                clients[0].delete([*single, *own, *contended])
            _remove_folders(location, folder)
    except JobError as error:
        rule = "objects below state/ can be written, read, listed and deleted"
        advice = "check the address, and the rights there"
        raise _broken(location, rule, _told(error), advice) from error


def _check_create(state: StateStore, path: str) -> None:
    rule = "a put on condition that there is no such object creates it"
    if not state.create(path, b"first"):
        raise _broken(state.location, rule, "it was refused", _NEEDS_CONDITIONAL_PUT)
    rule = "a put on condition that there is no such object is refused where there is one"
    if state.create(path, b"second") or state.get(path) != b"first":
        raise _broken(state.location, rule, "it was written over", _NEEDS_CONDITIONAL_PUT)


def _check_reads(writer: StateStore, reader: StateStore, path: str) -> None:
    # A cache may go on saying that there is nothing.
    reader.get(path)
    for what, data in (("is new", b"new"), ("was written over", b"newer")):
        writer.put(path, data)
        found = reader.get(path)
        if found != data:
            rule = f"an object that {what} is read as it was written"
            seen = "there was none" if found is None else "other bytes came"
            raise _broken(writer.location, rule, seen, _NEEDS_CONSISTENCY)
    writer.delete([path])
    if reader.get(path) is not None:
        rule = "an object that was deleted is gone"
        raise _broken(writer.location, rule, "it could be read", _NEEDS_CONSISTENCY)


def _check_contention(
    clients: Sequence[StateStore], own: Sequence[str], contended: Sequence[str]
) -> None:
    with ThreadPoolExecutor(len(clients)) as pool:
        # Opens each client's connection, so that the requests below start at one moment.
        _create_at_once(pool, clients, own)
        for path in contended:
            won = _create_at_once(pool, clients, [path] * len(clients))
            winners = [client for client, has_won in zip(clients, won, strict=True) if has_won]
            if len(winners) != 1 or winners[0].get(path) != _written_by(winners[0]):
                raise _broken(
                    clients[0].location,
                    "of several that create one object at the same moment exactly one succeeds",
                    f"{len(winners)} of {len(clients)} did",
                    _NEEDS_CONDITIONAL_PUT,
                )


def _create_at_once(
    pool: ThreadPoolExecutor, clients: Sequence[StateStore], paths: Sequence[str]
) -> list[bool]:
    barrier = Barrier(len(clients))

    def create(client: StateStore, path: str) -> bool:
        barrier.wait()
        return client.create(path, _written_by(client))

    return list(pool.map(create, clients, paths))


def _written_by(client: StateStore) -> bytes:
    return f"client {client.client}".encode()


def _check_listing(state: StateStore, folder: str, expected: set[str]) -> None:
    found = list(state.list(folder))
    if set(found) != expected:
        missing, more = len(expected - set(found)), len(set(found) - expected)
        raise _broken(
            state.location,
            "a listing holds every object that was written and none that was deleted",
            f"{missing} of {len(expected)} missing, {more} too many",
            _NEEDS_CONSISTENCY,
        )
    if _must_be_sorted(state.location) and found != sorted(found):
        raise _broken(
            state.location,
            "a listing is in the order of the keys (else Lance may open an old version)",
            "it is not",
            "use a store that sorts, or a folder",
        )


def _must_be_sorted(location: TableLocation) -> bool:
    # Lance knows that folders and S3's directory buckets list in no order. Elsewhere it opens the
    # first version that a listing names.
    return not location.is_local and not urlsplit(location.uri).netloc.endswith(_DIRECTORY_BUCKET)


def _check_clock(state: StateStore, path: str) -> float:
    before = dt.datetime.now(dt.UTC)
    state.put(path, b"clock")
    after = dt.datetime.now(dt.UTC)
    written = state.modified_at(path)
    # Stores tell whole seconds, rounded down.
    earliest = before.replace(microsecond=0)
    ahead_s = (written - min(max(written, earliest), after)).total_seconds()
    if abs(ahead_s) > _MAX_CLOCK_S:
        raise _broken(
            state.location,
            f"its clock and this machine's differ by {_MAX_CLOCK_S / 60:.0f} minutes at the most "
            "(S3 refuses requests from 15 minutes on)",
            f"the store is {abs(ahead_s) / 60:.0f} minutes {'ahead' if ahead_s > 0 else 'behind'}",
            "set the clock that is wrong (NTP)",
        )
    return ahead_s


def _remove_folders(location: TableLocation, folder: str) -> None:
    if location.is_local:
        for path in (folder, _FOLDER):
            # Another one may be at work beside this one, or the first folder could not be made.
            with suppress(OSError):
                Path(location.uri, "state", path).rmdir()


def _told(error: JobError) -> str:
    text = " ".join(str(error.__cause__).split())
    answer = _ANSWER.search(text)
    return text[:300] if answer is None else ": ".join(answer.groups()).rstrip(".")


def _broken(location: TableLocation, rule: str, seen: str, advice: str) -> TableError:
    return TableError(
        f"{location.uri} cannot hold a table. The rule: {rule}. Seen: {seen}. What to do: {advice}"
    )
