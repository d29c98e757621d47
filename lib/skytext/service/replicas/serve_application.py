"""Build the application for ``serve deploy``, from the arguments in ``serve/config.yaml``."""

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
    """The arguments of the application.

    Attributes:
        table: the folder or URI of the table. It must be valid on every node. This may also be a
            list of several tables, which are searched together as one table.
        config: the settings, by section. They have the same form as in a file for ``--config``.
    """

    model_config = ConfigDict(extra="forbid")

    table: str | list[str]
    config: dict[str, Any] = {}


def build(arguments: dict[str, Any]) -> Application:
    """Return the application.

    Args:
        arguments: the content of ``args`` in the deployed file. `Arguments` defines the fields.

    Raises:
        ConfigError: a setting is unknown, or a value is out of range, or no table is given.
        TableError: a table does not exist. Or the vectors of the tables were made with different
            models.
    """
    try:
        given = Arguments.model_validate(arguments)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        where = ".".join(map(str, wrong["loc"]))
        raise ConfigError(f"args of the application, field {where}: {wrong['msg']}") from error
    tables = TableSet.parse([given.table] if isinstance(given.table, str) else given.table)
    config = load_config(base=given.config)
    tables.open_served(config.service.version)
    if config.images.bands is None:
        # For uploaded images and thumbnails, use the bands that were used to caption the first
        # table.
        described = caption_bands(tables.locations[0]).get("images", {})
        chosen = {f"images.{name}": value for name, value in described.items()}
        config = load_config(None, chosen, given.config)
    return build_application(tables, config)
