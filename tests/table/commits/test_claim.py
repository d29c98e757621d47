"""Only one run at a time can hold the claim of a table."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from skytext.errors import TableHeldError
from skytext.table.commits import claim as claims
from skytext.table.commits.claim import (
    Claim,
    Holder,
    check_claim,
    current_holder,
    hold,
)
from skytext.table.location import TableLocation
from skytext.table.store.state_files import StateStore

# This lease is longer than any test. So if a run takes the table during a test, it did not wait
# until the lease expired.
NEVER_S = 600.0
HOLD = """
import sys
from skytext.errors import TableHeldError
from skytext.table.commits.claim import hold
from skytext.table.location import TableLocation

with hold(TableLocation.parse(sys.argv[1]), "theirs", "caption", lease_s=float(sys.argv[2])) as c:
    print("holds", flush=True)
    for line in sys.stdin:
        try:
            c.check()
            print("holds", flush=True)
        except TableHeldError as error:
            print(error, flush=True)
"""


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return TableLocation.parse(str(tmp_path / "table"))


class Other:
    """Another process that holds a table."""

    def __init__(self, where: TableLocation, lease_s: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, where.uri, str(lease_s)],
            env={**os.environ, "PYTHONPATH": str(Path(claims.__file__).parents[3])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def check(self) -> str:
        """Let the process check whether it still holds the table."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.says()


@contextmanager
def other_process(where: TableLocation, lease_s: float) -> Iterator[Other]:
    other = Other(where, lease_s)
    with other.process:
        try:
            assert other.says() == "holds"
            yield other
        finally:
            other.process.kill()


def plant(where: TableLocation, beat: bytes = b"7", **changes: Any) -> Holder:
    """Write a claim of this process. ``changes`` replaces some of its fields."""
    holder = dataclasses.replace(Holder.this_process("theirs", "caption"), **changes)
    state = StateStore(where)
    state.put("claim/00000041.beat", beat)
    state.put("claim/00000041.json", json.dumps(dataclasses.asdict(holder)).encode())
    return holder


def test_a_table_is_held_and_released(where: TableLocation) -> None:
    assert current_holder(where) is None
    with hold(where, "one", "caption") as claim:
        claim.check()
        assert not claim.took_over
        holder = current_holder(where)
        assert holder is not None
        assert (holder.run_id, holder.command, holder.pid) == ("one", "caption", os.getpid())
    assert current_holder(where) is None
    with hold(where, "two", "caption", lease_s=NEVER_S) as second:
        assert (second.number, second.took_over) == (claim.number + 1, False)


def test_a_failed_run_releases_its_claim(where: TableLocation) -> None:
    with pytest.raises(OSError, match="disk full"), hold(where, "one", "caption"):
        raise OSError("disk full")
    with hold(where, "two", "caption", lease_s=NEVER_S) as second:
        assert not second.took_over


def test_old_claims_are_deleted(where: TableLocation) -> None:
    for number in range(1, 6):
        with hold(where, f"run{number}", "caption") as claim:
            assert claim.number == number
    assert len(list(StateStore(where).list("claim"))) <= 4


def test_a_second_run_is_rejected_within_one_heartbeat(where: TableLocation) -> None:
    with hold(where, "one", "caption", lease_s=3.0) as claim:
        started = time.monotonic()
        with (
            pytest.raises(TableHeldError) as refused,
            hold(where, "two", "caption", lease_s=NEVER_S),
        ):
            pass
        # The second run waited only for one heartbeat of the holder. The interval between two
        # heartbeats is a tenth of the holder's lease.
        assert time.monotonic() - started < 2.5
        told = str(refused.value)
        assert f"{where.uri} is held by skytext caption of " in told
        assert f" on {socket.gethostname()}, process {os.getpid()}, since " in told
        assert re.search(r"since \d+ s: wait until that run ends, then", told)
        claim.check()


def test_only_one_of_many_concurrent_runs_gets_the_table(where: TableLocation) -> None:
    barrier, done = threading.Barrier(8), threading.Event()
    got: list[int] = []

    def take(number: int) -> bool:
        barrier.wait()
        try:
            with hold(where, f"run{number}", "caption", lease_s=1.0) as claim:
                got.append(claim.number)
                done.wait(30)
                claim.check()
                return True
        except TableHeldError:
            refused.append(number)
            if len(refused) == 7:
                done.set()
            return False

    refused: list[int] = []
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(take, range(8))).count(True) == 1
    assert got == [1]


@pytest.mark.parametrize("is_reaped", [True, False])
def test_a_killed_local_run_is_replaced_at_once(where: TableLocation, is_reaped: bool) -> None:
    with other_process(where, NEVER_S) as other:
        other.process.kill()
        if is_reaped:
            other.process.wait()
        else:
            # The process is now a zombie, because its parent has not read its exit status.
            os.waitid(os.P_PID, other.process.pid, os.WEXITED | os.WNOWAIT)
        with hold(where, "ours", "caption", lease_s=NEVER_S) as claim:
            assert claim.took_over
            claim.check()


def test_a_suspended_run_loses_the_table_when_its_lease_expires(where: TableLocation) -> None:
    with other_process(where, 1.0) as other:
        assert other.check() == "holds"
        other.process.send_signal(signal.SIGSTOP)
        with hold(where, "ours", "caption", lease_s=1.0) as claim:
            assert claim.took_over
            other.process.send_signal(signal.SIGCONT)
            message = other.check()
            assert message.startswith(f"the lease of this run on {where.uri} expired, and ")
            assert f"process {os.getpid()}" in message
            # The heartbeats and the release of the other run do not affect the new claim.
            assert other.process.stdin is not None
            other.process.stdin.close()
            assert other.process.wait(30) == 0
            claim.check()
        with hold(where, "next", "caption", lease_s=NEVER_S) as after:
            assert not after.took_over


@pytest.mark.parametrize(
    "changes",
    [{"boot_id": "of another machine", "host": "elsewhere"}, {"pid_namespace": "pid:[1]"}],
    ids=["machine", "container"],
)
def test_a_remote_holder_keeps_the_table_until_its_lease_expires(
    where: TableLocation, changes: dict[str, str]
) -> None:
    # No process with this id runs here. This does not matter, because the holder runs elsewhere.
    plant(where, pid=2**22 + 1, lease_s=0.5, **changes)
    started = time.monotonic()
    # The new run waits for the lease of the holder, not for its own lease.
    with hold(where, "ours", "import", lease_s=NEVER_S) as claim:
        assert 0.5 <= time.monotonic() - started < 5
        assert claim.took_over
        assert claim.number == 42


def test_a_remote_holder_with_heartbeats_keeps_the_table(where: TableLocation) -> None:
    holder = plant(where, boot_id="of another machine", host="elsewhere")
    stop = threading.Event()
    beats = (where_state := StateStore(where), 41, stop, 0.5)
    beat = threading.Thread(target=claims._keep_beating, args=beats)
    beat.start()
    try:
        with (
            pytest.raises(TableHeldError, match=f"on elsewhere, process {holder.pid}, since"),
            hold(where, "ours", "caption", lease_s=30.0),
        ):
            pass
    finally:
        stop.set()
        beat.join()
    assert claims._highest(where_state) == 41


def test_a_claim_released_while_it_is_watched_is_taken_at_once(
    where: TableLocation,
) -> None:
    plant(where, boot_id="of another machine")
    looked = threading.Event()

    def let_go() -> None:
        looked.wait(30)
        StateStore(where).put("claim/00000041.beat", b"released")

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        real = claims._beat

        def beat(state: StateStore, number: int) -> bytes | None:
            found = real(state, number)
            looked.set()
            return found

        patch.setattr(claims, "_beat", beat)
        letting_go = pool.submit(let_go)
        with hold(where, "ours", "caption", lease_s=60.0) as claim:
            assert not claim.took_over
        letting_go.result()


def test_a_reused_process_id_is_not_the_holder(where: TableLocation) -> None:
    mine = Holder.this_process("theirs", "caption")
    plant(where, started_ticks=mine.started_ticks - 1)
    with hold(where, "ours", "caption", lease_s=NEVER_S) as claim:
        assert claim.took_over


def test_the_current_process_is_alive(where: TableLocation) -> None:
    assert not Holder.this_process("run", "caption").is_dead_here()
    assert dataclasses.replace(Holder.this_process("", ""), pid=2**22 + 1).is_dead_here()


def test_a_claim_number_that_was_cleared_away_is_not_taken(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other runs take the table between two steps of the slow run.

    The slow run has listed the claims and wants to create the claim with the next number. Before it
    does this, two other runs take and release the table. A third run takes the table and deletes
    the claim with this number.
    """
    with hold(where, "first", "caption"):
        pass
    with ExitStack() as held:
        live: list[Claim] = []
        real = claims._beat

        def slow(state: StateStore, number: int) -> bytes | None:
            monkeypatch.setattr(claims, "_beat", real)
            for name in ("second", "third"):
                with hold(where, name, "caption"):
                    pass
            live.append(held.enter_context(hold(where, "fourth", "caption")))
            return real(state, number)

        monkeypatch.setattr(claims, "_beat", slow)
        with pytest.raises(TableHeldError), hold(where, "slow", "caption"):
            pass
        assert [claim.number for claim in live] == [4]
        live[0].check()
        # The slow run has deleted its own claim again.
        assert sorted(StateStore(where).list("claim")) == [
            f"claim/{number:08d}.{kind}" for number in (3, 4) for kind in ("beat", "json")
        ]


def test_a_higher_claim_number_takes_over(where: TableLocation) -> None:
    with hold(where, "ours", "caption") as claim:
        plant(where, host="elsewhere")
        for check in (claim.check, lambda: check_claim(where, claim.number)):
            with pytest.raises(
                TableHeldError, match=r"expired, and .* on elsewhere.*commits nothing more"
            ):
                check()
