"""Test that addresses without a cluster are rejected before Ray is called."""

from __future__ import annotations

import socket
from unittest.mock import patch

import pytest

from skytext.config.settings import Config
from skytext.errors import ConfigError
from skytext.run.cluster.cluster import ray_cluster


@pytest.mark.parametrize("given", ["argument", "environment"])
@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "http://127.0.0.1:8265",
            "for `ray job submit`: give the address of the cluster as HOST:6379",
        ),
        ("127.0.0.1:1", "no Ray cluster responds at 127.0.0.1:1 ("),
        ("ray://127.0.0.1:1", "no Ray cluster responds at ray://127.0.0.1:1 ("),
    ],
)
def test_an_address_without_a_cluster_is_a_wrong_call(
    monkeypatch: pytest.MonkeyPatch, given: str, address: str, message: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address if given == "environment" else "")
    with pytest.raises(ConfigError) as refused:
        ray_cluster(address if given == "argument" else None, Config()).__enter__()
    assert message in str(refused.value)


def test_a_server_at_an_ipv6_address_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET6) as server:
        try:
            server.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        server.listen()
        address = f"[::1]:{server.getsockname()[1]}"
        with patch("ray.init") as joined, ray_cluster(address, Config()):
            assert joined.call_args.kwargs["address"] == address
