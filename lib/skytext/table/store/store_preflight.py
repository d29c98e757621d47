"""Check whether a store is suitable for a table. The check runs before the table is made.

A conditional put creates an object only if the object does not exist. Exactly-once processing needs
conditional puts. The claim, the records of staged units and Lance's commits use conditional puts.
Some S3-compatible stores ignore the condition without an error. Two runs could then hold the same
table. So this module tests the store with a dozen small objects under ``state/preflight/``. It
deletes these objects after the test.

The test sends concurrent requests from several threads. Each thread has its own client and its own
connections. So for the store, the threads are the same as separate processes. The test uses threads
because threads can start their requests at the same moment.
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
from skytext.table.store.state_files import StateStore

_FOLDER = "preflight"
_NUM_CLIENTS = 8
_NUM_ROUNDS = 3
# S3 rejects requests if the clocks differ by 15 minutes. A difference of 5 minutes may increase to
# 15 minutes.
_MAX_CLOCK_S = 300.0
_NEEDS_CONDITIONAL_PUT = (
    "use a store that supports If-None-Match, such as AWS S3 or Google Cloud Storage, or a folder"
)
_NEEDS_CONSISTENCY = "use a strongly consistent store, or disable the cache in front of it"
_ANSWER = re.compile(r"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>")
_DIRECTORY_BUCKET = "--x-s3"


def try_store(location: TableLocation) -> float | None:
    """Call `check_store`, and remove the folders that it creates."""
    folders = [Path(location.uri, "state"), *Path(location.uri, "state").parents]
    missing = [path for path in folders if location.is_local and not path.exists()]
    try:
        return check_store(location)
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()


def check_store(location: TableLocation) -> float | None:
    """Test whether a store follows the rules that a table needs.

    A few dozen small requests are sent.

    Args:
        location: the table. It may not exist yet.

    Returns:
        The number of seconds by which the store's clock is ahead of this machine's clock. None for
        a local folder, because a local folder needs no signed requests.

    Raises:
        TableError: a request failed, or the store does not follow a rule. The message contains the
            rule, the observed behaviour and a recommendation.
    """
    clients = [StateStore(location, client=number) for number in range(_NUM_CLIENTS)]
    folder = f"{_FOLDER}/{uuid.uuid4().hex}"
    # These names are chosen so that the order in which they are written differs from the sorted
    # order.
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
        advice = "check the address and the permissions"
        raise _broken(location, rule, _reason(error), advice) from error


def _check_create(state: StateStore, path: str) -> None:
    rule = "a conditional put creates an object that does not exist"
    if not state.create(path, b"first"):
        raise _broken(state.location, rule, "the put was rejected", _NEEDS_CONDITIONAL_PUT)
    rule = "a conditional put does not overwrite an object that exists"
    if state.create(path, b"second") or state.get(path) != b"first":
        raise _broken(state.location, rule, "the object was overwritten", _NEEDS_CONDITIONAL_PUT)


def _check_reads(writer: StateStore, reader: StateStore, path: str) -> None:
    # Read the object before it is written, because a cache may store that the object does not
    # exist.
    reader.get(path)
    for what, data in (("a new", b"new"), ("an overwritten", b"newer")):
        writer.put(path, data)
        found = reader.get(path)
        if found != data:
            rule = f"a read of {what} object returns its last bytes"
            seen = "the object was missing" if found is None else "other bytes were returned"
            raise _broken(writer.location, rule, seen, _NEEDS_CONSISTENCY)
    writer.delete([path])
    if reader.get(path) is not None:
        rule = "a deleted object cannot be read"
        raise _broken(writer.location, rule, "the object was still read", _NEEDS_CONSISTENCY)


def _check_contention(
    clients: Sequence[StateStore], own: Sequence[str], contended: Sequence[str]
) -> None:
    with ThreadPoolExecutor(len(clients)) as pool:
        # The first requests open the connections of the clients. So the requests in the loop below
        # start at the same moment.
        _create_at_once(pool, clients, own)
        for path in contended:
            won = _create_at_once(pool, clients, [path] * len(clients))
            winners = [client for client, has_won in zip(clients, won, strict=True) if has_won]
            if len(winners) != 1 or winners[0].get(path) != _written_by(winners[0]):
                raise _broken(
                    clients[0].location,
                    "exactly one of several concurrent conditional puts succeeds",
                    f"{len(winners)} of {len(clients)} puts succeeded",
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
            "a listing contains every written object and no deleted object",
            f"{missing} of {len(expected)} objects were missing, and {more} other objects were "
            "listed",
            _NEEDS_CONSISTENCY,
        )
    if _must_be_sorted(state.location) and found != sorted(found):
        raise _broken(
            state.location,
            "a listing is sorted by key (otherwise Lance may open an old version)",
            "the listing is not sorted",
            "use a store with sorted listings, or a folder",
        )


def _must_be_sorted(location: TableLocation) -> bool:
    # For local folders and S3 directory buckets, Lance does not depend on the order of a listing.
    # For other stores, Lance opens the version that is listed first.
    return not location.is_local and not urlsplit(location.uri).netloc.endswith(_DIRECTORY_BUCKET)


def _check_clock(state: StateStore, path: str) -> float:
    before = dt.datetime.now(dt.UTC)
    state.put(path, b"clock")
    after = dt.datetime.now(dt.UTC)
    written = state.modified_at(path)
    # Stores may round the time down to whole seconds.
    earliest = before.replace(microsecond=0)
    ahead_s = (written - min(max(written, earliest), after)).total_seconds()
    if abs(ahead_s) > _MAX_CLOCK_S:
        raise _broken(
            state.location,
            "the clock of the store must differ from the clock of this machine by at most "
            f"{_MAX_CLOCK_S / 60:.0f} minutes (S3 rejects requests if the clocks differ by 15 "
            "minutes)",
            f"the clock of the store is {abs(ahead_s) / 60:.0f} minutes "
            f"{'ahead' if ahead_s > 0 else 'behind'}",
            "correct the clock that is wrong (NTP)",
        )
    return ahead_s


def _remove_folders(location: TableLocation, folder: str) -> None:
    if location.is_local:
        for path in (folder, _FOLDER):
            # If another check runs at the same time, the folder is not empty. If the check failed
            # before the first write, the folder does not exist.
            with suppress(OSError):
                Path(location.uri, "state", path).rmdir()


def _reason(error: JobError) -> str:
    text = " ".join(str(error.__cause__).split())
    answer = _ANSWER.search(text)
    return text[:300] if answer is None else ": ".join(answer.groups()).rstrip(".")


def _broken(location: TableLocation, rule: str, seen: str, advice: str) -> TableError:
    return TableError(
        f"{location.uri} cannot hold a table. Rule: {rule}. Observed: {seen}. What to do: {advice}"
    )
