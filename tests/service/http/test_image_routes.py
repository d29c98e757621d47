from __future__ import annotations

import asyncio
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from skytext.archive import discover, read_shard
from skytext.archive.shards import image_id
from skytext.config.pixels import ImageConfig
from skytext.config.settings import Config
from skytext.service.archive_images import Images, archive_roots
from skytext.service.problem_details import ProblemError
from skytext.service.served_tables import TableSet
from skytext.service.telemetry.metrics import LocalMeter
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.versions.promote_rollback import promote
from tests.archive.formats.tars import write_shard
from tests.pixels.image_corpus import tiff
from tests.service.app import client, make_config
from tests.service.tables import encoded
from tests.table.image_rows import write_manifests


def of(member: str) -> str:
    return image_id("aerial", "a.tar", member, 0)


@pytest.fixture(scope="module")
def http(served: Path) -> Iterator[Any]:
    with client(served) as opened:
        yield opened


def test_a_row_has_everything_except_the_vectors(http: Any) -> None:
    row = http.get(f"/v1/images/{of('airport.jpg')}").json()
    assert row["captions"][0]["one_sentence"] == "planes on a runway"
    assert len(row["captions"]) == 3
    assert row["metadata"] == {"cloud": 10}
    assert row["bbox"] == {"west": 170.0, "south": -20.0, "east": -170.0, "north": -10.0}
    assert row["caption_fingerprint"] == "c" * 32
    assert row["run_id"] == "run"
    assert row["table_version"] >= 1
    assert "vectors" not in row


def test_the_bytes_are_those_of_the_archive(http: Any) -> None:
    answer = http.get(f"/v1/images/{of('river.jpg')}/bytes")
    assert answer.status_code == 200
    assert answer.content == encoded("brown")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "private, max-age=60"
    assert "sandbox" in answer.headers["content-security-policy"]
    version = http.get("/v1/table").json()["table_version"]
    assert answer.headers["x-table-version"] == str(version)


@pytest.mark.parametrize("path", ["bytes", "thumbnail", "thumbnail?size=128"])
def test_an_unchanged_image_is_not_sent_again(http: Any, path: str) -> None:
    address = f"/v1/images/{of('river.jpg')}/{path}"
    etag = http.get(address).headers["etag"]
    again = http.get(address, headers={"If-None-Match": f'"other", W/{etag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == etag
    assert http.get(address, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(("size", "expected"), [(None, (96, 64)), ("128", (96, 64))])
def test_a_thumbnail_is_webp_and_never_larger(http: Any, size: Any, expected: Any) -> None:
    query = {} if size is None else {"size": size}
    answer = http.get(f"/v1/images/{of('forest.jpg')}/thumbnail", params=query)
    assert answer.headers["content-type"] == "image/webp"
    image = Image.open(io.BytesIO(answer.content))
    assert (image.format, image.size) == ("WEBP", expected)


@pytest.mark.parametrize("size", ["0", "-1", "99999999", "256px", "1e3"])
def test_a_size_that_is_none_is_refused(http: Any, size: str) -> None:
    answer = http.get(f"/v1/images/{of('forest.jpg')}/thumbnail", params={"size": size})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "attack",
    ["..", "../../etc/passwd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "x' OR '1'='1", "f" * 31, "F" * 32,
     "f" * 33, "f" * 32 + "%00", "f" * 32 + "%0a"],
)  # fmt: skip
@pytest.mark.parametrize("what", ["", "/bytes", "/thumbnail"])
def test_an_id_that_is_none_reaches_nothing(http: Any, attack: str, what: str) -> None:
    answer = http.get(f"/v1/images/{attack}{what}")
    assert answer.status_code in (404, 422)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("what", ["", "/bytes", "/thumbnail"])
def test_an_id_of_no_image_is_a_404(http: Any, what: str) -> None:
    answer = http.get(f"/v1/images/{'f' * 32}{what}")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:skytext:problem:no-image")


def test_nothing_outside_the_archive_roots_is_read(served: Path, tmp_path: Path) -> None:
    for roots in ([], [str(tmp_path)], [f"{served.parent}/arch"], ["s3://bucket/archive"]):
        with client(served, archive_roots=roots) as http:
            for what in ("bytes", "thumbnail"):
                answer = http.get(f"/v1/images/{of('river.jpg')}/{what}")
                assert answer.status_code == 403, roots
                assert answer.json()["type"] == "urn:skytext:problem:outside-archive"
            assert http.get(f"/v1/images/{of('river.jpg')}").status_code == 200


def test_a_shard_that_has_changed_is_gone(own: TableLocation) -> None:
    shard = Path(own.uri).parent / "archive" / "a.tar"
    address = f"/v1/images/{of('river.jpg')}/bytes"
    with client(own.uri) as http:
        assert http.get(address).status_code == 200
        status = shard.stat()
        data = bytearray(shard.read_bytes())
        data[600] ^= 1
        shard.write_bytes(data)
        # The size and the time of the shard are the same as before. Only its content differs.
        os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert http.get(address).json()["type"] == "urn:skytext:problem:changed"
        os.utime(shard)
        assert http.get(address).status_code == 410
        shard.unlink()
        assert http.get(address).status_code == 410


@pytest.mark.parametrize("what", ["bytes", "thumbnail"])
def test_cached_images_expire_with_their_shard(
    own: TableLocation, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Test the cache of this process and the caches of browsers."""
    monkeypatch.setattr("skytext.service.archive_images.LOOK_AGAIN_S", 0.0)
    shard = Path(own.uri).parent / "archive" / "a.tar"
    address = f"/v1/images/{of('river.jpg')}/{what}"
    with client(own.uri) as http:
        etag = http.get(address).headers["etag"]
        asking: list[dict[str, str]] = [{"If-None-Match": etag}, {"If-None-Match": "*"}]
        assert [http.get(address, headers=has).status_code for has in asking] == [304, 304]
        os.utime(shard, ns=(1, 1))
        for has in ({}, *asking):
            assert http.get(address, headers=has).json()["type"] == "urn:skytext:problem:changed"
        shard.unlink()
        for has in ({}, *asking):
            assert http.get(address, headers=has).status_code == 410


@pytest.mark.parametrize("what", ["bytes", "thumbnail"])
def test_an_image_that_stays_in_a_rewritten_tar_is_served(
    own: TableLocation, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr("skytext.service.archive_images.LOOK_AGAIN_S", 0.0)
    root = Path(own.uri).parent / "archive"
    kept, changed = f"/v1/images/{of('river.jpg')}/{what}", f"/v1/images/{of('forest.jpg')}/{what}"
    with client(own.uri) as http:
        before = http.get(kept)
        assert http.get(changed).status_code == 200
        river, other = ("river.jpg", encoded("brown")), ("forest.jpg", encoded("red"))
        write_shard(root / "a.tar", [("new.jpg", encoded("blue")), other, river])
        write_manifests(own, root, archive="aerial")
        after = http.get(kept)
        assert (after.status_code, after.content) == (200, before.content)
        has = {"If-None-Match": before.headers["etag"]}
        assert http.get(kept, headers=has).status_code == 304
        assert http.get(changed).status_code == 410
        # The tar is rewritten again, and no run has read it yet.
        write_shard(root / "a.tar", [("newer.jpg", encoded("blue", (300, 200))), river])
        assert http.get(kept).status_code == 410
        assert http.get(kept, headers=has).status_code == 410


def test_a_shard_is_looked_at_once_for_many_images(
    http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = [f"/v1/images/{of(m)}/thumbnail" for m in ("river.jpg", "forest.jpg")]
    etags = [http.get(address).headers["etag"] for address in addresses]
    looks = []
    look = Images._is_unchanged

    def counted(self: Images, *shard: str) -> bool:
        looks.append(shard)
        return look(self, *shard)

    monkeypatch.setattr(Images, "_is_unchanged", counted)
    for _ in range(3):
        for address, etag in zip(addresses, etags, strict=True):
            assert http.get(address, headers={"If-None-Match": etag}).status_code == 304
    assert len(looks) <= 1


@pytest.mark.parametrize("what", ["", "/bytes", "/thumbnail"])
def test_an_image_of_a_named_version_comes_from_that_version(own: TableLocation, what: str) -> None:
    last = ImagesTable.open(own).version
    # The second of the two commits adds this image.
    address = f"/v1/images/{of('forest.jpg')}{what}"
    promote(own, last)
    promote(own, last - 1)
    with client(own.uri) as http:
        assert http.get(address).status_code == 404
        named = http.get(address, params={"version": last})
        assert named.status_code == 200
        if not what:
            assert named.json()["table_version"] == last
        gone = http.get(address, params={"version": last + 5})
        assert (gone.status_code, gone.json()["type"]) == (410, "urn:skytext:problem:version-gone")
        assert http.get(address, params={"version": "x"}).status_code == 422


def images_of(config: Config, table: Path | str = "/t/table") -> Images:
    return Images(TableSet.parse([str(table)]), config, LocalMeter())


def row(uri: str, member: str = "a.jpg", **more: Any) -> dict[str, Any]:
    return {"uri": uri, "member": member, "byte_length": 1, "content_sha256": "0", **more}


@pytest.mark.parametrize(
    "uri",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "file:///archive/../etc/passwd",
        "file:///archive/%2e%2e/etc/passwd",
        "file:///archivex/a.tar#a.jpg",
        "s3://bucket/archive/../secret.tar#a.jpg",
        "s3://bucket/archive/./../secret.tar#a.jpg",
        "s3://bucket/archives/a.tar#a.jpg",
        "s3://other/archive/a.tar#a.jpg",
        "gs://bucket/archive/a.tar#a.jpg",
        "http://169.254.169.254/latest/meta-data",
        "",
    ],
)
def test_a_row_cannot_lead_outside(uri: str) -> None:
    config = make_config("/t/table", archive_roots=["/archive", "s3://bucket/archive/"])
    with pytest.raises(ProblemError) as caught:
        images_of(config).check(row(uri))
    assert caught.value.status == 403


@pytest.mark.parametrize(
    ("root", "inside", "outside"),
    [
        ("/archive/", "file:///archive/a.tar", "file:///archives/a.tar"),
        ("/my archive", "file:///my%20archive/a.tar", "file:///my%2520archive/a.tar"),
        ("FILE:/my%20archive/", "file:///my%20archive/a.tar", "file:///my/archive/a.tar"),
        ("/", "file:///a.tar", "s3://bucket/a.tar"),
        ("S3://bucket", "s3://bucket/a.tar", "s3://bucket2/a.tar"),
        ("s3://bucket/", "s3://bucket//a.tar", "gs://bucket/a.tar"),
        ("s3://bucket/a", "s3://bucket/a//b.tar", "s3://bucket/ab.tar"),
        ("s3://bucket/a//", "s3://bucket/a//b.tar", "s3://bucket/a/b.tar"),
        ("s3://bucket//", "s3://bucket//b.tar", "s3://bucket/b.tar"),
        ("s3://bucket/w%20x", "s3://bucket/w%20x/a.tar", "s3://bucket/w x/a.tar"),
        ("gs://bucket/a.tar", "gs://bucket/a.tar", "gs://bucket/a.tar2"),
    ],
)
def test_an_archive_root_is_an_address(root: str, inside: str, outside: str) -> None:
    images = images_of(make_config("/t/table", archive_roots=archive_roots([root])))
    images.check(row(f"{inside}#a.jpg"))
    with pytest.raises(ProblemError) as caught:
        images.check(row(f"{outside}#a.jpg"))
    assert caught.value.status == 403


def test_a_link_out_of_the_archive_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"x")
    (tmp_path / "archive" / "a.jpg").symlink_to(tmp_path / "secret.jpg")
    images = images_of(make_config(tmp_path / "table"))
    with pytest.raises(ProblemError) as caught:
        images.check(row(f"file://{tmp_path}/archive/a.jpg"))
    assert caught.value.status == 403


def test_an_image_too_large_to_serve_is_not_read(tmp_path: Path) -> None:
    images = images_of(make_config(tmp_path / "table"))
    with pytest.raises(ProblemError, match="image-too-large"):
        images.check(row(f"file://{tmp_path}/archive/a.tar#a.jpg", byte_length=10**10))


def test_a_thumbnail_shows_the_bands_that_were_chosen(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    bands = np.full((32, 48, 4), (10, 20, 30, 250), np.uint8)
    data = tiff(bands, photometric="minisblack", planarconfig="contig")
    (folder / "a.tif").write_bytes(data)
    (shard,) = discover([str(folder)])
    (sample,) = read_shard(shard)
    row = {**vars(sample), "content_sha256": hashlib.sha256(data).hexdigest(), "format": "tiff"}
    shown = []
    for chosen in (None, (4, 3, 2)):
        config = make_config(tmp_path / "table")
        config = config.model_copy(update={"images": ImageConfig(bands=chosen)})
        encoded = asyncio.run(images_of(config).thumbnail(row, 128))
        colour = Image.open(io.BytesIO(encoded.data)).convert("RGB").getpixel((5, 5))
        shown.append((encoded.etag, colour))
    # The ETags must differ, so that a browser never uses the cached thumbnail of other bands.
    assert shown[0][0] != shown[1][0]
    assert np.abs(np.subtract(shown[0][1], (10, 20, 30))).max() <= 4
    assert np.abs(np.subtract(shown[1][1], (250, 30, 20))).max() <= 4
