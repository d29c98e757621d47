"""Set AWS settings in files instead of environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

_FROM_ENVIRONMENT = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
)

# The id of a key is the time at which the key expires, in seconds since 1970.
_PROCESS = """#!/bin/sh
expires=$(( $(date +%s) + {life_s} ))
moment=$(date -u -d @$expires +%Y-%m-%dT%H:%M:%SZ)
echo '{{"Version": 1, "AccessKeyId": "'$expires'", "SecretAccessKey": "secret",' \\
    '"SessionToken": "token", "Expiration": "'$moment'"}}'
"""


def use_profile(patch: pytest.MonkeyPatch, folder: Path, endpoint: str, *lines: str) -> None:
    """Set only ``AWS_PROFILE`` in the environment. The profile contains ``endpoint``.

    Args:
        patch: undoes the changes at the end of the test.
        folder: folder for the files of the profile.
        endpoint: address of the store. Empty for a profile without an address.
        lines: additional lines of the profile.
    """
    for name in _FROM_ENVIRONMENT:
        patch.delenv(name, raising=False)
    lines = ("region = eu-west-1", *([f"endpoint_url = {endpoint}"] if endpoint else []), *lines)
    (folder / "config").write_text("[profile maps]\n" + "\n".join(lines) + "\n")
    patch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    patch.setenv("AWS_PROFILE", "maps")


def use_key(patch: pytest.MonkeyPatch, folder: Path, endpoint: str) -> str:
    """Use a profile with a key that does not expire. Return the id of the key."""
    use_profile(patch, folder, endpoint)
    text = "[maps]\naws_access_key_id = of-profile\naws_secret_access_key = secret\n"
    (folder / "credentials").write_text(text)
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
    return "of-profile"


def use_process(patch: pytest.MonkeyPatch, folder: Path, endpoint: str, life_s: int) -> None:
    """Use a profile whose process returns keys that expire ``life_s`` seconds later.

    The id of each key is the time at which the key expires, in seconds since 1970.
    """
    script = folder / "keys.sh"
    script.write_text(_PROCESS.format(life_s=life_s))
    script.chmod(0o755)
    use_profile(patch, folder, endpoint, f"credential_process = {script}")
