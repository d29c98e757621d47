from __future__ import annotations

import os
from pathlib import Path

import pytest

from skytext.addresses.address_parser import Location, parse_location
from skytext.errors import AddressError


@pytest.mark.parametrize("scheme", ["s3", "gs"])
@pytest.mark.parametrize(
    "key",
    [
        "",
        "a",
        "a/b.tar",
        "a/",
        "a//",
        "/",
        "//",
        "/a",
        "a//b",
        "a b",
        " a ",
        "a%20b",
        "100%",
        "a#1",
        "a?v=1",
        "a*b",
        "a@b:c",
        "a+b&c=d",
        "./a",
        "a/../b",
        "~/a",
        "tab\tline\nend",
        "ü 🛰",
        "s3://b/c",
        "file:///x",
    ],
)
def test_a_key_is_taken_exactly_as_it_is_written(scheme: str, key: str) -> None:
    for spelling in (scheme, scheme.upper(), scheme.title()):
        found = parse_location(f"{spelling}://bucket/{key}")
        assert found == Location(scheme, "bucket", key)  # type: ignore[arg-type]
        assert parse_location(found.uri) == found


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("/data/x", "/data/x"),
        ("/data/x/", "/data/x"),
        ("/data//x/./y/../z", "/data/x/z"),
        ("//data/x", "/data/x"),
        ("/", "/"),
        ("/a b#c?d*e", "/a b#c?d*e"),
        ("/a%20b", "/a%20b"),
        ("x", "{cwd}/x"),
        ("./file:x", "{cwd}/file:x"),
        ("./s3://b", "{cwd}/s3:/b"),
        ("a/b://c", "{cwd}/a/b:/c"),
        ("C:/x", "{cwd}/C:/x"),
        (" x ", "{cwd}/ x "),
        ("~", "{home}"),
        ("~/x", "{home}/x"),
        ("/~/x", "/~/x"),
        ("file:///data/x", "/data/x"),
        ("file:///data/x/", "/data/x"),
        ("file:/data/x", "/data/x"),
        ("file:///", "/"),
        ("file:////data/x", "/data/x"),
        ("FILE:///data/x", "/data/x"),
        ("File:/data/x", "/data/x"),
        ("file://localhost/data/x", "/data/x"),
        ("file://LOCALHOST/data/x", "/data/x"),
        ("file:///data/my%20folder", "/data/my folder"),
        ("file:///data/my folder", "/data/my folder"),
        ("file:///a%23b%3Fc%25d", "/a#b?c%d"),
        ("file:///a#b?c", "/a#b?c"),
        ("file:///a+b", "/a+b"),
        ("file:///100%", "/100%"),
        ("file:///%C3%BC", "/ü"),
        ("file:///~/x", "/~/x"),
        ("file:///sch%F6n", "/sch\udcf6n"),
    ],
)
def test_a_local_path_becomes_absolute_and_only_a_file_uri_is_decoded(
    address: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    found = parse_location(address)
    assert found == Location("file", "", path.format(cwd=os.getcwd(), home="/home/me"))
    assert parse_location(found.uri) == found


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("", "is empty"),
        ("s3://", "has no bucket: write s3://BUCKET/PATH"),
        ("S3://", "has no bucket"),
        ("s3:///key", "has no bucket"),
        ("gs:///key", "has no bucket: write gs://BUCKET/PATH"),
        ("s3:/bucket/key", r"write s3://BUCKET/PATH, or \./s3:/bucket/key for a local path"),
        ("s3:key", "write s3://BUCKET/PATH"),
        ("s3://bucket/\udcf6", "is not valid UTF-8"),
        ("https://host/a.tar", "https:// is not supported: use a local path"),
        ("FTP://host/a.tar", "ftp:// is not supported"),
        ("s3a://bucket/key", "s3a:// is not supported"),
        ("file+uring:///x", "not supported"),
        ("file://host/data", "contains the host 'host'.* write file:///data"),
        ("file://~/data", "contains the host '~'"),
        ("file://data", "contains the host 'data'"),
        ("file://", "has no absolute path"),
        ("file:", "has no absolute path"),
        ("file:data", "has no absolute path: write file:///PATH"),
        ("file://localhost", "has no absolute path"),
        ("file:///a%00b", "null character"),
        ("/a\0b", "null character"),
    ],
)
def test_an_invalid_address_is_rejected_in_one_line(address: str, message: str) -> None:
    with pytest.raises(AddressError, match=message) as caught:
        parse_location(address)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "prefix", "name", "parent"),
    [
        ("s3://bucket", "", "bucket", "s3://bucket"),
        ("s3://bucket/", "", "bucket", "s3://bucket"),
        ("s3://bucket//", "/", "bucket", "s3://bucket//"),
        ("s3://bucket/one", "one/", "one", "s3://bucket"),
        ("s3://bucket/one/", "one/", "one", "s3://bucket/one/"),
        ("s3://bucket/one//", "one//", "one", "s3://bucket/one//"),
        ("s3://bucket/one//x.tar", "one//x.tar/", "x.tar", "s3://bucket/one//"),
        ("s3://bucket//x.tar", "/x.tar/", "x.tar", "s3://bucket//"),
        ("/", "/", "", "file:///"),
        ("/a", "/a/", "a", "file:///"),
        ("/a/b", "/a/b/", "b", "file:///a"),
    ],
)
def test_the_parts_of_a_location(address: str, prefix: str, name: str, parent: str) -> None:
    found = parse_location(address)
    assert (found.prefix, found.name, found.parent.uri) == (prefix, name, parent)
