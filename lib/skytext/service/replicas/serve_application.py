"""Build the application from the arguments in ``serve/config.yaml`` (``serve deploy``)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from ray.serve import Application

from skytext.config.settings import load_config
from skytext.errors import ConfigError
from skytext.service.replicas.deployments import build_application
from skytext.service.served_tables import TableSet
from skytext.table.runs_dataset import caption_bands


class Arguments(BaseModel):
    """The arguments of an application.

    Attributes:
        table: folder or URI, as the replicas see it; or a list, to search several tables as one.
        config: settings by section, as in a file for ``--config``.
    """

    model_config = ConfigDict(extra="forbid")

    table: str | list[str]
    config: dict[str, Any] = {}


def build(arguments: dict[str, Any]) -> Application:
    """Return the application.

    Args:
        arguments: in the form of `Arguments`, from ``args`` of the deployed file.

    Raises:
        ConfigError: an unknown setting, a value out of range, or no table.
        TableError: a table does not exist, or the tables have vectors of different models.
    """
    try:
        given = Arguments.model_validate(arguments)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        where = ".".join(map(str, wrong["loc"]))
        raise ConfigError(f"args of the application: {where}: {wrong['msg']}") from error
    tables = TableSet.parse([given.table] if isinstance(given.table, str) else given.table)
    config = load_config(base=given.config)
    tables.open_served(config.service.version)
    if config.images.bands is None:
        # Uploaded images and thumbnails use the bands of the first table's descriptions.
        described = caption_bands(tables.locations[0]).get("images", {})
        chosen = {f"images.{name}": value for name, value in described.items()}
        config = load_config(None, chosen, given.config)
    return build_application(tables, config)
