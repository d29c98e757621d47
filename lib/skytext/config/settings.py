"""The configuration: pydantic models for all settings.

Values from the YAML file replace the defaults. Values from the command line replace both. The name
of each field contains the unit of its value. The description of each field explains the default.
Environment variables contain only secrets and addresses (``AWS_*``, ``RAY_ADDRESS``), never
settings. The resulting configuration is stored with each run.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from skytext.config.archive import SourcesConfig
from skytext.config.captioning import CaptionConfig
from skytext.config.embedding import EmbedConfig, ImageEmbedConfig
from skytext.config.index import IndexConfig
from skytext.config.job import JobConfig
from skytext.config.pixels import ImageConfig
from skytext.config.reindex import ReindexConfig
from skytext.config.search import SearchConfig
from skytext.config.section import Section
from skytext.config.service import ServiceConfig
from skytext.config.yaml_text import parse_yaml
from skytext.errors import ConfigError


class Config(Section):
    """All settings."""

    archive: str | None = Field(
        None,
        description="Name of the archive, which is part of every image id. null: the name of the "
        "source's root folder.",
    )
    sources: SourcesConfig = SourcesConfig()
    images: ImageConfig = ImageConfig()
    caption: CaptionConfig = CaptionConfig()
    embed: EmbedConfig = EmbedConfig()
    image_embed: ImageEmbedConfig = ImageEmbedConfig()
    job: JobConfig = JobConfig()
    index: IndexConfig = IndexConfig()
    reindex: ReindexConfig = ReindexConfig()
    search: SearchConfig = SearchConfig()
    service: ServiceConfig = ServiceConfig()


def load_config(
    path: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
) -> Config:
    """Return the settings.

    Values in ``base`` replace the defaults, values in the YAML file replace values in ``base``, and
    values in ``overrides`` replace all others.

    Args:
        path: the path of a YAML file with the structure of `Config`, or None.
        overrides: values of settings. The keys are dotted names such as ``caption.model``.
        base: settings with the structure of `Config`, such as the result of `Config.model_dump`.

    Raises:
        ConfigError: the file cannot be read, or a setting is unknown or out of range.
    """
    settings = copy.deepcopy(dict(base or {}))
    if path is not None:
        _merge(settings, _read_yaml(Path(path)))
    for name, value in (overrides or {}).items():
        _set_dotted(settings, name, value)
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(_explain(error, path)) from error


def dump_yaml(config: Config) -> str:
    """Return the settings as YAML that `load_config` can read."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def reference() -> str:
    """Return a Markdown table of all settings with their defaults and descriptions."""
    lines = [
        "# Settings",
        "",
        "Values from the YAML file (`--config`) replace the defaults. Values from the command "
        "line (`--set NAME=VALUE`) replace both. To print this page, run: "
        "`skytext config reference`",
        "",
        "| setting | default | meaning |",
        "|---|---|---|",
    ]
    return "\n".join([*lines, *_reference_rows(Config, "")]) + "\n"


def _reference_rows(section: type[BaseModel], prefix: str) -> list[str]:
    rows = []
    for name, info in section.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            rows += _reference_rows(inner, f"{prefix}{name}.")
        else:
            default = json.dumps(info.get_default(call_default_factory=True))
            rows.append(f"| `{prefix}{name}` | `{default}` | {info.description} |")
    return rows


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        settings = parse_yaml(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} must have sections such as 'caption:', not a single value")
    return settings


def _merge(settings: dict[str, Any], others: Mapping[str, Any]) -> None:
    for name, value in others.items():
        inner = settings.get(name)
        if isinstance(inner, dict) and isinstance(value, Mapping):
            _merge(inner, value)
        else:
            settings[name] = value


def _set_dotted(settings: dict[str, Any], name: str, value: Any) -> None:
    *sections, field = name.split(".")
    for section in sections:
        inner = settings.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(
                f"section {section!r} of the configuration must contain settings, not one value"
            )
        settings = inner
    settings[field] = value


def _explain(error: ValidationError, path: str | Path | None) -> str:
    where = f" in {path}" if path is not None else ""
    problems = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"]) or "configuration"
        if item["type"] == "extra_forbidden":
            problems.append(
                f"{name}: unknown setting (to list all settings, run: skytext config show)"
            )
        else:
            message = item["msg"].removeprefix("Value error, ")
            given = f" (given: {item['input']!r})" if not isinstance(item["input"], dict) else ""
            problems.append(f"{name}: {message}{given}")
    return f"wrong setting{where}: " + "; ".join(problems)
