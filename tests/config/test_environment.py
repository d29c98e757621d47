from __future__ import annotations

import os

import pytest

from skytext.config.environment import bypass_proxies

METADATA = "169.254.169.254,metadata.google.internal"
LOCAL = f"localhost,127.0.0.1,::1,{METADATA}"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, LOCAL),
        ({"no_proxy": "corp.example"}, f"corp.example,{LOCAL}"),
        (
            {"NO_PROXY": "corp.example, 127.0.0.1,"},
            f"corp.example,127.0.0.1,localhost,::1,{METADATA}",
        ),
        ({"no_proxy": "a.example", "NO_PROXY": "b.example"}, f"a.example,{LOCAL}"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_this_machine_is_added_to_the_hosts_without_a_proxy(
    given: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY", "grpc_proxy"):
        monkeypatch.setenv(name, "")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        bypass_proxies()
        assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == expected


def test_grpc_takes_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("grpc_proxy", "http://proxy.example:3128")
    bypass_proxies()
    assert os.environ["grpc_proxy"] == ""  # noqa: SIM112  (gRPC reads just this name)
