"""Test the storage of the request counts."""

from __future__ import annotations

import sys

import pytest

from skytext.config.service import AccessConfig
from skytext.errors import ConfigError
from skytext.service.access.rate_limits import Rates
from skytext.service.telemetry.metrics import LocalMeter


@pytest.mark.parametrize(
    ("storage", "reason"),
    [("missing://host", "unknown storage scheme"), ("redis://host", "'redis' .*pip install redis")],
)
def test_a_place_that_cannot_be_used_is_named(
    storage: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)  # Now an import of redis fails.
    with pytest.raises(
        ConfigError, match=f"the rate storage {storage} .*cannot be used: .*{reason}"
    ):
        Rates(AccessConfig(rate_storage=storage), 1, LocalMeter())
