from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError, ProfileNotFound

from skytext.aws.session import _ask_region, access_problem, s3_access
from tests.aws.profiles import use_key, use_process, use_profile

pytestmark = pytest.mark.usefixtures("s3")

ENDPOINT = "http://maps.example:9000"


def test_a_profile_gives_region_endpoint_and_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_key(monkeypatch, tmp_path, ENDPOINT)
    access = s3_access()
    assert access.settings("bucket") == {
        "aws_region": "eu-west-1",
        "aws_endpoint": ENDPOINT,
        "allow_http": "true",
    }
    keys = access.keys()
    assert (keys["access_key_id"], keys["token"], keys["expires_at"]) == ("of-profile", None, None)


def test_the_environment_has_priority_over_the_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_key(monkeypatch, tmp_path, ENDPOINT)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://one.example")
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    options = {"aws_region": "us-west-2", "aws_endpoint": "https://one.example"}
    assert s3_access().settings("bucket") == options
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://two.example")
    assert s3_access().settings("bucket") == options | {"aws_endpoint": "https://two.example"}


def test_a_store_of_aws_has_no_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_key(monkeypatch, tmp_path, "")
    assert s3_access().settings("bucket") == {"aws_region": "eu-west-1"}


def test_one_access_serves_until_the_settings_change(monkeypatch: pytest.MonkeyPatch) -> None:
    first = s3_access()
    assert s3_access() is first
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    assert s3_access().keys()["access_key_id"] == "another"


@pytest.mark.parametrize(("life_s", "least", "most"), [(3600, 290, 300), (200, -10, 0)])
def test_expiring_keys_are_renewed_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, life_s: int, least: int, most: int
) -> None:
    use_process(monkeypatch, tmp_path, ENDPOINT, life_s)
    expires_at = s3_access().keys()["expires_at"]
    left = (expires_at - dt.datetime.now(dt.UTC)).total_seconds()
    assert least < left <= most


@pytest.mark.parametrize("yes", ["YES", "true", "1"])
def test_public_buckets_need_no_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, yes: str
) -> None:
    use_profile(monkeypatch, tmp_path, ENDPOINT)
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", yes)
    assert s3_access().settings("bucket")["aws_skip_signature"] == "true"
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "NO")
    with pytest.raises(NoCredentialsError):
        s3_access()


def test_the_region_of_a_bucket_is_looked_up(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place: Any = {"LocationConstraint": "eu-north-1"}
    s3.create_bucket(Bucket="north", CreateBucketConfiguration=place)
    assert _ask_region(s3_access(), "north") == "eu-north-1"
    assert _ask_region(s3_access(), "no-such-bucket") == "us-east-1"
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    # The store is not AWS, so there is no lookup.
    assert s3_access().settings("north")["aws_region"] == "us-east-1"


def test_problems_include_advice() -> None:
    problem = access_problem(NoCredentialsError())
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_NO_SIGN_REQUEST"):
        assert name in problem
    assert "nobody" in access_problem(ProfileNotFound(profile="nobody"))


def test_other_stores_do_not_load_boto3(tmp_path: Path) -> None:
    code = f"""
import sys
from skytext.archive import discover
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.store.state_files import StateStore, open_store
where = TableLocation.parse({str(tmp_path / "table")!r})
assert ImagesTable.find(where) is None
StateStore(where).put("a", b"b")
google = TableLocation.parse("gs://bucket/table")
open_store(google, "state")
assert google.lance_options("images") == {{"storage_options": {{}}}}
print("boto3" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
