"""The claim of a table. Only the run that holds the claim may commit to the table.

Claims are numbered objects ``claim/00000007.json`` in the table's state folder. A run can create a
claim only if no object with the same number exists. The run with the highest number holds the
table. This run is the *holder*. Every few seconds, the holder writes a new value to the object
``claim/00000007.beat``. This is the heartbeat. Another run may create the claim with the next
number

* immediately, if the holder has released its claim, or if the holder was a process of the same
  machine and this process is dead. The process is identified by process id, start time, boot id and
  process namespace;
* in all other cases, after the lease has expired. The claim contains a lease time. The lease
  expires if the heartbeat does not change during the lease time. The clocks of two machines are
  never compared.

Before each commit, a holder checks that no claim has a higher number than its own claim. If the
process is suspended between this check and the commit, it may send the commit too late. The *fence*
makes such a commit fail. A run that replaces an unreleased claim first commits an empty `Update` to
the ``images`` data set. Every commit that was prepared before this `Update` then fails with a
conflict.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from skytext.errors import JobError, TableHeldError
from skytext.table.location import TableLocation
from skytext.table.store.state_files import StateStore

_FOLDER = "claim"
_RELEASED = b"released"
LEASE_S = 30.0
_BEATS_PER_LEASE = 10


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of a claim.

    The fields identify the process of the holder, so that another run can check whether this
    process is alive.

    Attributes:
        run_id: id of the run.
        command: name of the command that the run executes.
        user: the user who owns the process.
        host: name of the machine. It is only displayed.
        pid: process id in the namespace ``pid_namespace``.
        started_ticks: start time of the process, in kernel ticks since boot. The number stays the
            same if the system clock is changed.
        boot_id: id that the kernel generated when the machine started.
        pid_namespace: namespace of the process id. A process cannot see processes of another
            namespace.
        taken_at: time when the holder created the claim, in seconds since the epoch, by the
            holder's clock. It is only displayed.
        lease_s: seconds without a heartbeat until the lease expires.
    """

    run_id: str
    command: str
    user: str
    host: str
    pid: int
    started_ticks: int
    boot_id: str
    pid_namespace: str
    taken_at: float
    lease_s: float = LEASE_S

    @classmethod
    def this_process(cls, run_id: str, command: str, lease_s: float = LEASE_S) -> Holder:
        """Return a holder that describes this process."""
        return cls(
            run_id=run_id,
            command=command,
            user=_user(),
            host=socket.gethostname(),
            pid=os.getpid(),
            started_ticks=_started_ticks(os.getpid()),
            boot_id=_read("/proc/sys/kernel/random/boot_id"),
            pid_namespace=_link("/proc/self/ns/pid"),
            taken_at=time.time(),
            lease_s=lease_s,
        )

    def is_dead_here(self) -> bool:
        """Return whether the holder was a process of this machine and this process has ended."""
        here = Holder.this_process("", "")
        if (self.boot_id, self.pid_namespace) != (here.boot_id, here.pid_namespace):
            return False
        try:
            if _started_ticks(self.pid) != self.started_ticks:
                return True
            return bool(psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE)
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            return True

    def describe(self) -> str:
        """Return a description of the holder for messages."""
        age_s = max(0.0, time.time() - self.taken_at)
        return (
            f"skytext {self.command} of {self.user} on {self.host}, process {self.pid}, "
            f"since {_duration(age_s)}"
        )


class Claim:
    """A claim that this process holds. `hold` creates it.

    Attributes:
        location: the table.
        number: number of the claim.
        took_over: true if this claim replaced a claim that was not released. The caller must then
            raise the fence.
    """

    def __init__(self, location: TableLocation, number: int, took_over: bool) -> None:
        self.location = location
        self.number = number
        self.took_over = took_over

    def check(self) -> None:
        """Check that no claim has a higher number than this claim.

        Raises:
            TableHeldError: another run has a claim with a higher number. This run must not commit.
        """
        check_claim(self.location, self.number)


def check_claim(location: TableLocation, number: int) -> None:
    """Check that no claim of a table has a number higher than ``number``.

    Raises:
        TableHeldError: another run has a claim with a higher number.
    """
    state = StateStore(location)
    highest = _highest(state)
    if highest == number:
        return
    found = None if highest is None else state.get(_path(highest))
    who = "another run" if found is None else _holder(found).describe()
    raise TableHeldError(
        f"the lease of this run on {location.uri} expired, and the table is now held by {who}. "
        "Committed work is kept, but this run commits nothing more. Wait until the other run ends, "
        "then run the same command again"
    )


@contextmanager
def check_claim_on_error(location: TableLocation, number: int) -> Iterator[None]:
    """Raise `TableHeldError` instead of a `JobError` if claim ``number`` is lost.

    The next holder commits the staged units and deletes their records. The previous holder then
    raises a `JobError` because the records are missing. `TableHeldError` reports the cause of this
    failure.

    Raises:
        TableHeldError: another run has a claim with a higher number.
    """
    try:
        yield
    except JobError:
        check_claim(location, number)
        raise


@contextmanager
def hold(
    location: TableLocation, run_id: str, command: str, *, lease_s: float = LEASE_S
) -> Iterator[Claim]:
    """Create a claim, and hold this claim while the ``with`` block runs.

    Args:
        location: the table. It may not exist yet.
        run_id: id of the run. It is written to the claim.
        command: name of the command that the run executes. It is written to the claim.
        lease_s: seconds without a heartbeat until the lease expires.

    Raises:
        TableHeldError: another live run holds the table.
        JobError: a store request failed.
    """
    state = StateStore(location)
    holder = Holder.this_process(run_id, command, lease_s)
    claim = _take(state, holder)
    stop = threading.Event()
    beat = threading.Thread(
        target=_keep_beating, args=(state, claim.number, stop, lease_s), daemon=True
    )
    beat.start()
    try:
        yield claim
    finally:
        stop.set()
        beat.join()
        _release(state, claim.number)


def current_holder(location: TableLocation) -> Holder | None:
    """Return the holder of the latest claim.

    The result is None if no claim exists, or if the latest claim is released. The holder may be a
    dead process.
    """
    state = StateStore(location)
    number = _highest(state)
    if number is None or _beat(state, number) == _RELEASED:
        return None
    found = state.get(_path(number))
    return None if found is None else _holder(found)


def _take(state: StateStore, holder: Holder) -> Claim:
    number = _highest(state)
    took_over = False
    if number is not None:
        took_over = not _wait_until_free(state, number)
    ours = (number or 0) + 1
    state.put(_beat_path(ours), b"0")
    if not state.create(_path(ours), json.dumps(asdict(holder)).encode()):
        raise _held(state, ours)
    highest = _highest(state)
    if highest != ours:
        # After this run listed the claims, another run created a claim with this number and
        # released it. A later run created a claim with a higher number and deleted the claim with
        # this number.
        state.delete([_path(ours), _beat_path(ours)])
        raise _held(state, highest or ours)
    if number is not None:
        _forget_older(state, number)
    return Claim(state.location, ours, took_over)


def _wait_until_free(state: StateStore, number: int) -> bool:
    """Return True if the claim was released, and False if the holder is dead or its lease expired.

    Raises:
        TableHeldError: the holder is alive.
    """
    first = _beat(state, number)
    if first == _RELEASED:
        return True
    found = state.get(_path(number))
    if found is None:
        # Another run deleted the claim after this run had listed the claims.
        raise _held(state, _highest(state) or number)
    last = _holder(found)
    if last.is_dead_here():
        return False
    deadline = time.monotonic() + last.lease_s
    while time.monotonic() < deadline:
        time.sleep(min(1.0, last.lease_s / (2 * _BEATS_PER_LEASE)))
        now = _beat(state, number)
        if now == _RELEASED:
            return True
        if now != first:
            raise _held(state, number)
        if last.is_dead_here():
            return False
    return False


def _keep_beating(state: StateStore, number: int, stop: threading.Event, lease_s: float) -> None:
    count = 0
    while not stop.wait(lease_s / _BEATS_PER_LEASE):
        count += 1
        try:
            state.put(_beat_path(number), str(count).encode())
        except JobError:
            # One missed heartbeat causes no failure. If the lease expires and another run creates a
            # claim, the check before the next commit raises an error.
            continue


def _release(state: StateStore, number: int) -> None:
    try:
        # This is also correct if the claim is lost, because the claim of the next holder has a
        # higher number.
        state.put(_beat_path(number), _RELEASED)
    except JobError:
        # The next run detects that this process is dead, or waits until the lease expires.
        return


def _forget_older(state: StateStore, number: int) -> None:
    state.delete([path for path in state.list(_FOLDER) if _number(path) < number])


def _held(state: StateStore, number: int) -> TableHeldError:
    found = state.get(_path(number))
    who = "another run" if found is None else _holder(found).describe()
    return TableHeldError(
        f"{state.location.uri} is held by {who}: wait until that run ends, then run the same "
        "command again"
    )


def _highest(state: StateStore) -> int | None:
    numbers = [_number(path) for path in state.list(_FOLDER) if path.endswith(".json")]
    return max(numbers, default=None)


def _number(path: str) -> int:
    return int(path.rpartition("/")[2].partition(".")[0])


def _path(number: int) -> str:
    return f"{_FOLDER}/{number:08d}.json"


def _beat_path(number: int) -> str:
    return f"{_FOLDER}/{number:08d}.beat"


def _beat(state: StateStore, number: int) -> bytes | None:
    return state.get(_beat_path(number))


def _holder(data: bytes) -> Holder:
    return Holder(**json.loads(data))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, the user may have no name
        return str(os.getuid())


def _started_ticks(pid: int) -> int:
    # The file contains the process name in parentheses. The name may contain any character. The
    # start time is the 20th field after the closing parenthesis.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return int(fields.rpartition(")")[2].split()[19])


def _read(path: str) -> str:
    return Path(path).read_text(encoding="ascii").strip()


def _link(path: str) -> str:
    return str(Path(path).readlink())


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
