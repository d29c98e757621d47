"""The claim: one run at a time may commit to a table.

Claims are numbered objects ``claim/00000007.json`` beside the data, each created only if it is
not there yet; the highest number holds the table. Its holder alone rewrites ``….beat`` beside it,
every few seconds, with a new value. A newcomer takes the next number

* at once, where the holder has let go, or is a process of this machine that is gone (its process
  id, start time, boot and process namespace say so);
* otherwise when the holder's beat has not changed for the lease that stands in its claim. No
  clocks are compared.

A holder that lost its claim learns so before its next commit. What a sleeping one sends all the
same is caught by the fence: whoever takes over from a holder that did not let go first commits an
empty `Update` to the ``images`` data set, with which any commit prepared before conflicts.
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
from skytext.table.state_files import StateStore

_FOLDER = "claim"
_RELEASED = b"released"
LEASE_S = 30.0
_BEATS_PER_LEASE = 10


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a claim: enough to tell whether that process still lives.

    Attributes:
        run_id: the run.
        command: what it does.
        user: whose process it is.
        host: the machine's name, for people.
        pid: the process's id in its namespace.
        started_ticks: the process's start, kernel ticks since the machine's: no clock that is set
            can change it.
        boot_id: of the machine's kernel since its last start.
        pid_namespace: processes of another one cannot be seen from here.
        taken_at: seconds since the epoch, by the holder's clock; for people.
        lease_s: seconds that its beat may stand still before others take the table.
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
        """Return the holder that this process would be."""
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
        """Return whether it was a process of this machine and is no more."""
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
        """Return the holder in words."""
        age_s = max(0.0, time.time() - self.taken_at)
        return (
            f"skytext {self.command} of {self.user} on {self.host}, process {self.pid}, "
            f"since {_duration(age_s)}"
        )


class Claim:
    """A claim that this process holds; made by `hold`.

    Attributes:
        location: the table.
        number: the claim's.
        took_over: whether the one before did not let go: then the fence must be raised.
    """

    def __init__(self, location: TableLocation, number: int, took_over: bool) -> None:
        self.location = location
        self.number = number
        self.took_over = took_over

    def check(self) -> None:
        """Return if this claim is still the highest.

        Raises:
            TableHeldError: another run took over; nothing more may be committed.
        """
        check_claim(self.location, self.number)


def check_claim(location: TableLocation, number: int) -> None:
    """Return if claim ``number`` of a table is still the highest.

    Raises:
        TableHeldError: another run took over.
    """
    state = StateStore(location)
    highest = _highest(state)
    if highest == number:
        return
    found = None if highest is None else state.get(_path(highest))
    who = "another run" if found is None else _holder(found).describe()
    raise TableHeldError(
        f"this run did not answer for a while and lost {location.uri} to {who}; what this run "
        "committed stays, nothing more will be: run the same command again when the other has ended"
    )


@contextmanager
def told_by_claim(location: TableLocation, number: int) -> Iterator[None]:
    """Say of what fails inside that claim ``number`` was lost, where that is why.

    A successor commits what is staged and deletes its records: who lost the claim finds them gone.

    Raises:
        TableHeldError: another run took over.
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
    """Hold a table for the time of the block.

    Args:
        location: the table; it need not exist yet.
        run_id: stands in the claim.
        command: stands in the claim.
        lease_s: how long this holder's beat may stand still.

    Raises:
        TableHeldError: another run that lives holds it.
        JobError: the store refuses.
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
    """Return who holds a table by its last claim, without asking whether it still lives."""
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
        # Others came and went meanwhile, and cleared away the number that was taken here.
        state.delete([_path(ours), _beat_path(ours)])
        raise _held(state, highest or ours)
    if number is not None:
        _forget_older(state, number)
    return Claim(state.location, ours, took_over)


def _wait_until_free(state: StateStore, number: int) -> bool:
    """Return True where the claim was let go, False where its holder is dead.

    Raises:
        TableHeldError: the holder lives.
    """
    first = _beat(state, number)
    if first == _RELEASED:
        return True
    found = state.get(_path(number))
    if found is None:
        # Cleared away by others that came and went since it was listed.
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
            # One missed beat is no loss; who misses a lease of them finds out at its next commit.
            continue


def _release(state: StateStore, number: int) -> None:
    try:
        # Letting go of a claim that was lost changes nothing: its successor has a higher one.
        state.put(_beat_path(number), _RELEASED)
    except JobError:
        # The next run finds a dead process, or waits for one lease.
        return


def _forget_older(state: StateStore, number: int) -> None:
    state.delete([path for path in state.list(_FOLDER) if _number(path) < number])


def _held(state: StateStore, number: int) -> TableHeldError:
    found = state.get(_path(number))
    who = "another run" if found is None else _holder(found).describe()
    return TableHeldError(
        f"{state.location.uri} is held by {who}: let it end, then run the same command again"
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
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())


def _started_ticks(pid: int) -> int:
    # The name in parentheses may hold anything; behind it the start is the 20th field.
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
