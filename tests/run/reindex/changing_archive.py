"""An archive on S3 that changes every night, and a record of its content."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable
from typing import Any

from tests.archive.formats.tars import Entry, make_tar
from tests.archives import bad_images, jpeg

NAME = "aerial"
_SHARD_IMAGES = 8
# On average, one of this number of new images cannot be decoded.
_BAD_IN = 25
_MAX_DAMAGED_NIGHTS = 2

Image = tuple[str, str]
"""The shard and the member of an image."""


@functools.cache
def _picture(seed: int) -> bytes:
    return jpeg(seed) if seed >= 0 else bad_images()["cut.jpg"][0]


def _entries(members: dict[str, int]) -> list[Entry]:
    found: list[Entry] = []
    for member, seed in members.items():
        sidecar = {"gsd": 0.5 + abs(seed) % 7, "datetime": f"2026-01-{1 + abs(seed) % 28:02d}"}
        found.append((f"{member}.jpg", _picture(seed)))
        found.append((f"{member}.json", json.dumps(sidecar).encode()))
    return found


class ChangingArchive:
    """An archive of tar shards with generated images and sidecars.

    Args:
        s3: client of the S3 server.
        bucket: name of the bucket. This class creates the bucket.
        rng: random generator that selects the changes.

    Attributes:
        url: address of the archive.
        damaged: number of nights until a shard is repaired, for each truncated shard.
    """

    def __init__(self, s3: Any, bucket: str, rng: random.Random) -> None:
        self._s3, self._bucket, self._rng = s3, bucket, rng
        self._shards: dict[str, dict[str, int]] = {}
        self._gone: list[tuple[str, str, int]] = []
        self._num_made = 0
        self.damaged: dict[str, int] = {}
        self.url = f"s3://{bucket}/{NAME}"
        s3.create_bucket(Bucket=bucket)

    @property
    def images(self) -> dict[Image, bool]:
        """The images of all undamaged shards, and whether each image can be decoded."""
        return {
            (shard, f"{member}.jpg"): seed >= 0
            for shard, members in self._shards.items()
            for member, seed in members.items()
            if shard not in self.damaged
        }

    def add(self, num_images: int) -> None:
        """Add new images to the last undamaged shard, or to a new shard."""
        for _ in range(num_images):
            self._num_made += 1
            sound = [name for name in self._shards if name not in self.damaged]
            shard = sound[-1] if sound else ""
            if len(self._shards.get(shard, range(_SHARD_IMAGES))) >= _SHARD_IMAGES:
                shard = f"{self._num_made:05d}.tar"
            seed = -self._num_made if self._rng.random() < 1 / _BAD_IN else self._num_made
            self._shards.setdefault(shard, {})[f"{self._num_made:05d}"] = seed
            self._write(shard)

    def change(self) -> None:
        """Make the changes of one night."""
        self.mend()
        changes: dict[Callable[[], None], float] = {
            lambda: self.add(self._rng.randint(1, 3)): 0.7,
            self._change_bytes: 0.4,
            self._rename: 0.2,
            self._withdraw: 0.3,
            self._withdraw_shard: 0.05,
            self._bring_back: 0.2,
            self._damage: 0.1,
        }
        for one, chance in changes.items():
            if self._rng.random() < chance:
                one()

    def mend(self, *, all_shards: bool = False) -> None:
        """Repair damaged shards."""
        self.damaged = {shard: nights - 1 for shard, nights in self.damaged.items()}
        for shard in [s for s, nights in self.damaged.items() if all_shards or nights <= 0]:
            del self.damaged[shard]
            self._write(shard)

    def hide_most(self) -> None:
        """Hide most shards, so that the listing of the archive is incomplete."""
        names = sorted(self._shards)
        for shard in names[: 1 + 2 * len(names) // 3]:
            self._s3.delete_object(Bucket=self._bucket, Key=f"{NAME}/{shard}")

    def show_all(self) -> None:
        """Restore the hidden shards."""
        for shard in self._shards:
            self._write(shard)

    def _change_bytes(self) -> None:
        shard, member = self._some_image()
        self._num_made += 1
        self._shards[shard][member] = self._num_made
        self._write(shard)

    def _rename(self) -> None:
        shard, member = self._some_image()
        self._num_made += 1
        self._shards[shard][f"{self._num_made:05d}-renamed"] = self._shards[shard].pop(member)
        self._write(shard)

    def _withdraw(self) -> None:
        shard, member = self._some_image()
        self._gone.append((shard, member, self._shards[shard].pop(member)))
        self._write(shard)

    def _withdraw_shard(self) -> None:
        shard, _ = self._some_image()
        self._gone += [(shard, member, seed) for member, seed in self._shards[shard].items()]
        self._shards[shard] = {}
        self._write(shard)

    def _bring_back(self) -> None:
        fit = [one for one in self._gone if one[0] not in self.damaged]
        if fit:
            shard, member, seed = one = self._rng.choice(fit)
            self._gone.remove(one)
            self._shards.setdefault(shard, {})[member] = seed
            self._write(shard)

    def _damage(self) -> None:
        shard, _ = self._some_image()
        self.damaged[shard] = self._rng.randint(1, _MAX_DAMAGED_NIGHTS)
        whole = make_tar(_entries(self._shards[shard]))
        self._put(shard, whole[: len(whole) * 2 // 3])

    def _some_image(self) -> Image:
        """Return the shard and the name of a random image.

        The image can be decoded, and the shard is undamaged.
        """
        found = sorted(image for image, is_good in self.images.items() if is_good)
        shard, member = self._rng.choice(found)
        return shard, member.removesuffix(".jpg")

    def _write(self, shard: str) -> None:
        if not self._shards[shard]:
            del self._shards[shard]
            self._s3.delete_object(Bucket=self._bucket, Key=f"{NAME}/{shard}")
            return
        self._put(shard, make_tar(_entries(self._shards[shard])))

    def _put(self, shard: str, data: bytes) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=f"{NAME}/{shard}", Body=data)
