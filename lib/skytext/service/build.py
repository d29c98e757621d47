"""What ``serve deploy serve/config.yaml`` calls: arguments to an application."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from ray.serve import Application

from skytext.config import load_config
from skytext.service.deployments import build_application


class Arguments(BaseModel):
    """What an application is built from.

    Attributes:
        table: folder or URI, as the replicas see it.
        config: settings by section, as in a file for ``--config``.
    """

    model_config = ConfigDict(extra="forbid")

    table: str
    config: dict[str, Any] = {}


def build(arguments: Arguments) -> Application:
    """Return the application."""
    return build_application(arguments.table, load_config(base=arguments.config))
