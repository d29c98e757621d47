"""Write generated scenes as WebDataset shards, and write the ground truth to a separate file."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from skytext.demo.scenes.generate import REFERENCE_PX, Scene, make_scene, render
from skytext.demo.scenes.truth_captions import describe

COLLECTION = "skytext-demo"
"""Value of the key ``collection`` in every sidecar."""
TRUTH_NAME = "truth.jsonl"
"""Name of the file with the ground truth. The file is in the folder of the shards."""

_JPEG_QUALITY = 90


def write_shards(
    directory: Path,
    *,
    num_images: int,
    images_per_shard: int,
    seed: int,
    image_px: int = REFERENCE_PX,
) -> list[Path]:
    """Write ``num_images`` scenes as shards ``scene-000000.tar``, ``scene-000001.tar``, ….

    A shard contains a JPEG and a JSON sidecar for each scene. The sidecar has the keys ``datetime``
    (RFC 3339), ``bbox`` (west, south, east and north in degrees, EPSG:4326), ``gsd`` (metres per
    pixel), ``collection`` and ``seed``. The sidecar does not contain the content of the image. The
    file ``truth.jsonl`` contains the ground truth. It has one record for each image, with the keys
    ``shard``, ``member``, ``truth`` and ``description``. If the arguments are the same, the written
    bytes are the same. The memory use does not depend on the number of images. A shard gets its
    final name when it is complete. ``truth.jsonl`` gets its final name after all shards.

    Args:
        directory: The output folder. It is created if it does not exist. Existing shards with the
            same names are replaced.
        num_images: Total number of scenes. If it is 0, ``truth.jsonl`` is empty and no shard is
            written.
        images_per_shard: Number of scenes per shard. The last shard may have fewer scenes.
        seed: Seed of the first scene. Scene ``i`` has the seed ``seed + i``. The training data of
            the demonstration checkpoint has only seeds below ``HELD_OUT_SEED``.
        image_px: Side length of an image in pixels.

    Returns:
        The paths of the shards, in order.

    Raises:
        ValueError: A number in the arguments is too small.
    """
    _check(num_images=num_images, images_per_shard=images_per_shard, seed=seed, image_px=image_px)
    directory.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    truth_part = _part(directory / TRUTH_NAME)
    with truth_part.open("w", encoding="utf-8") as truth:
        for index, start in enumerate(range(0, num_images, images_per_shard)):
            path = directory / f"scene-{index:06d}.tar"
            end = min(start + images_per_shard, num_images)
            with tarfile.open(_part(path), "w", format=tarfile.USTAR_FORMAT) as shard:
                for number in range(start, end):
                    scene = make_scene(seed + number)
                    key = f"{number:09d}"
                    for name, content in _members(key, scene, image_px):
                        _add(shard, name, content)
                    truth.write(json.dumps(truth_record(path.name, f"{key}.jpg", scene)) + "\n")
            os.replace(_part(path), path)
            paths.append(path)
    os.replace(truth_part, directory / TRUTH_NAME)
    return paths


def truth_record(shard: str, member: str, scene: Scene) -> dict[str, Any]:
    """Return one record of ``truth.jsonl``.

    Args:
        shard: File name of the shard.
        member: Name of the image in the shard.
        scene: The scene.
    """
    return {
        "shard": shard,
        "member": member,
        "truth": scene.as_dict(),
        "description": describe(scene, np.random.default_rng((scene.seed, 5))),
    }


def _check(*, num_images: int, images_per_shard: int, seed: int, image_px: int) -> None:
    for name, value, least in (
        ("num_images", num_images, 0),
        ("images_per_shard", images_per_shard, 1),
        ("seed", seed, 0),
        ("image_px", image_px, 16),
    ):
        if value < least:
            raise ValueError(f"{name} must be {least} or more, not {value}")


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _members(key: str, scene: Scene, image_px: int) -> Iterator[tuple[str, bytes]]:
    buffer = io.BytesIO()
    Image.fromarray(render(scene, image_px)).save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    yield f"{key}.jpg", buffer.getvalue()
    sidecar = {
        "datetime": scene.as_dict()["datetime"],
        "bbox": list(scene.bbox),
        "gsd": round(scene.gsd_at(image_px), 4),
        "collection": COLLECTION,
        "seed": scene.seed,
    }
    yield f"{key}.json", json.dumps(sidecar).encode()


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    # A new TarInfo has no owner and the time 0, so repeated calls write the same bytes.
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))
