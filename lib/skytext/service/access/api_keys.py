"""API keys. Each key has a permission. The store contains only a hash of the key.

For each key, the folder of the table contains a small object below ``state/keys``. All replicas on
all machines read these objects again every few seconds. Therefore, a revoked key is soon refused
everywhere. A key has 256 random bits. A salt or a slow hash would not make it harder to guess the
key.
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
from skytext.table.store.state_files import StateStore

_FOLDER = "keys"
_PREFIX = "skytext"
_KEY = re.compile(rf"{_PREFIX}_(?P<key_id>[0-9a-f]{{12}})_(?P<secret>[\w-]{{43}})", re.ASCII)
_NAME = re.compile(r"[\w][\w .@-]{0,63}")
MAX_KEY_CHARS = 128
_log = logging.getLogger("skytext.service.access.api_keys")


class Right(StrEnum):
    """The permission of a key. The permission ``admin`` includes the permission ``search``."""

    SEARCH = "search"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """The stored record of a key.

    Attributes:
        key_id: the middle part of the key. This part identifies the record and is not secret.
        name: the name of the key.
        right: the permission of the key.
        digest: the SHA-256 hash of the whole key, hexadecimal.
        created_at: the time when the key was created, ISO 8601.
    """

    key_id: str
    name: str
    right: Right
    digest: str
    created_at: str

    def may(self, right: Right) -> bool:
        """Return true if the key has a permission."""
        return self.right in (right, Right.ADMIN)


def digest(key: str) -> str:
    """Return the hash of a key. The hash is stored instead of the key."""
    return hashlib.sha256(key.encode()).hexdigest()


_STORED = TypeAdapter(StoredKey)
_NOBODY = StoredKey("", "", Right.SEARCH, digest(""), "")


class Keys:
    """All keys of a table, as they were when the store was read."""

    def __init__(self, keys: Iterable[StoredKey]) -> None:
        self._keys = {key.key_id: key for key in keys}

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, given: str) -> StoredKey | None:
        """Return the record of a key, or None if the key is unknown.

        The duration of this method does not depend on how many characters of the key are correct.
        Otherwise an attacker could measure the duration and guess the key character by character.
        """
        match = _KEY.fullmatch(given) if len(given) <= MAX_KEY_CHARS else None
        known = _NOBODY if match is None else self._keys.get(match["key_id"], _NOBODY)
        same = hmac.compare_digest(digest(given), known.digest)
        return known if same and known is not _NOBODY else None


@dataclass(frozen=True, slots=True)
class KeyStore:
    """The store that contains the keys of a table.

    Attributes:
        location: the address of the table.
    """

    location: TableLocation

    def add(self, name: str, right: Right) -> str:
        """Create a key, and return the key. The store contains only the hash of the key.

        Raises:
            TableError: the table does not exist.
            CallError: the name is invalid, or a key with this name already exists.
        """
        if not _NAME.fullmatch(name):
            raise CallError(
                f"the key name {name!r} is invalid: use 1 to 64 letters, digits, spaces or the "
                "characters . _ - @, and begin with a letter, a digit or _"
            )
        ImagesTable.open(self.location)
        if any(key.name == name for key in self.list()):
            raise CallError(
                f"a key named {name!r} already exists: revoke that key first, or use another name"
            )
        key_id = secrets.token_hex(6)
        key = f"{_PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        stored = StoredKey(key_id, name, right, digest(key), now)
        StateStore(self.location).create(
            f"{_FOLDER}/{key_id}.json", json.dumps(asdict(stored)).encode()
        )
        return key

    def list(self) -> list[StoredKey]:
        """Return all keys, oldest first.

        If a file in the folder is not a key, this method logs a warning and ignores the file. Such
        a file must not prevent the owner of the table from revoking a key.

        Raises:
            JobError: a store request failed.
        """
        state = StateStore(self.location)
        found = []
        for path in state.list(_FOLDER):
            data = state.get(path)
            key = None if data is None else _read(data)
            if key is not None:
                found.append(key)
            elif data is not None:  # None: the key was revoked after the folder was listed
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
                f"there is no key named {name!r}. To list the keys, run: "
                f"skytext keys list {self.location.uri}"
            )
        StateStore(self.location).delete([f"{_FOLDER}/{key.key_id}.json" for key in keys])

    def load(self) -> Keys:
        """Read all keys from the store."""
        return Keys(self.list())


def _read(data: bytes) -> StoredKey | None:
    try:
        return _STORED.validate_json(data)
    except ValidationError:
        return None


@functools.lru_cache(maxsize=100)  # log the warning once per file, not at every reload
def _warn(path: str) -> None:
    _log.warning("%s is not a valid API key file and is ignored: delete the file", path)
