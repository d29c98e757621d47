"""API keys with different rights; only a hash of each key is stored.

Each key is a small object under ``T/state/keys`` in the table's folder. So every replica on every
machine knows it, and a revoked key is refused everywhere within seconds. A key has 256 random bits,
so a salt or a slow hash would not make it harder to guess.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import hmac
import json
import logging
import re
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum

from pydantic import TypeAdapter, ValidationError

from skytext.errors import CallError
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.state_files import StateStore

_FOLDER = "keys"
_PREFIX = "skytext"
_KEY = re.compile(rf"{_PREFIX}_(?P<key_id>[0-9a-f]{{12}})_(?P<secret>[\w-]{{43}})", re.ASCII)
_NAME = re.compile(r"[\w][\w .@-]{0,63}")
MAX_KEY_CHARS = 128
_log = logging.getLogger("skytext.service.access.api_keys")


class Right(StrEnum):
    """The right of a key; an admin key may also search."""

    SEARCH = "search"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """The stored record of a key.

    Attributes:
        key_id: its middle part, used to find it; not secret.
        name: name of its owner.
        right: its right.
        digest: SHA-256 of the whole key, hexadecimal.
        created_at: time of creation, ISO 8601.
    """

    key_id: str
    name: str
    right: Right
    digest: str
    created_at: str

    def may(self, right: Right) -> bool:
        """Return whether the key has a right."""
        return self.right in (right, Right.ADMIN)


def digest(key: str) -> str:
    """Return the digest that is stored instead of the key."""
    return hashlib.sha256(key.encode()).hexdigest()


_STORED = TypeAdapter(StoredKey)
_NOBODY = StoredKey("", "", Right.SEARCH, digest(""), "")


class Keys:
    """A snapshot of a table's keys, for lookups."""

    def __init__(self, keys: Iterable[StoredKey]) -> None:
        self._keys = {key.key_id: key for key in keys}

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, given: str) -> StoredKey | None:
        """Return the record of a key, or None for an unknown key.

        The time does not depend on how close a guess was.
        """
        match = _KEY.fullmatch(given) if len(given) <= MAX_KEY_CHARS else None
        known = _NOBODY if match is None else self._keys.get(match["key_id"], _NOBODY)
        same = hmac.compare_digest(digest(given), known.digest)
        return known if same and known is not _NOBODY else None


@dataclass(frozen=True, slots=True)
class KeyStore:
    """The store of a table's keys.

    Attributes:
        location: the table.
    """

    location: TableLocation

    def add(self, name: str, right: Right) -> str:
        """Make a key and return it; it is never shown again.

        Raises:
            TableError: no such table.
            CallError: an invalid name, or a name that another key has.
        """
        if not _NAME.fullmatch(name):
            raise CallError(
                f"the name {name!r} of a key must be 1 to 64 letters, digits, blanks or . _ - @"
            )
        ImagesTable.open(self.location)
        if any(key.name == name for key in self.list()):
            raise CallError(f"there is a key named {name!r} already: revoke it first")
        key_id = secrets.token_hex(6)
        key = f"{_PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        stored = StoredKey(key_id, name, right, digest(key), now)
        StateStore(self.location).create(
            f"{_FOLDER}/{key_id}.json", json.dumps(asdict(stored)).encode()
        )
        return key

    def list(self) -> list[StoredKey]:
        """Return all keys, the oldest first.

        Other files in the folder are skipped with a warning, because they must not prevent the
        revocation of a key.

        Raises:
            JobError: the store refuses.
        """
        state = StateStore(self.location)
        found = []
        for path in state.list(_FOLDER):
            data = state.get(path)
            key = None if data is None else _read(data)
            if key is not None:
                found.append(key)
            elif data is not None:  # None: revoked meanwhile
                _warn(f"{self.location.uri}/state/{path}")
        return sorted(found, key=lambda key: (key.created_at, key.name))

    def revoke(self, name: str) -> None:
        """Delete a key.

        Raises:
            CallError: no key has this name.
        """
        keys = [key for key in self.list() if key.name == name]
        if not keys:
            raise CallError(
                f"there is no key named {name!r}: skytext keys list {self.location.uri} shows all"
            )
        StateStore(self.location).delete([f"{_FOLDER}/{key.key_id}.json" for key in keys])

    def load(self) -> Keys:
        """Return all keys, for lookups."""
        return Keys(self.list())


def _read(data: bytes) -> StoredKey | None:
    try:
        return _STORED.validate_json(data)
    except ValidationError:
        return None


@functools.lru_cache(maxsize=100)  # warn once, not at every refresh
def _warn(path: str) -> None:
    _log.warning("%s is not an API key and is ignored: delete it", path)
