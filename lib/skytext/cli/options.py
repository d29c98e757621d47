"""Options that several commands share, and functions that convert options to settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skytext.addresses.address_parser import parse_location
from skytext.errors import AddressError, ConfigError

if TYPE_CHECKING:
    from skytext.config.settings import Config


def local_path(address: str | Path) -> Path:
    """Parse the address of a local file or folder. A relative path stays relative.

    Raises:
        AddressError: the address is not valid, or it is the address of an object in a bucket.
    """
    text = str(address)
    location = parse_location(text)
    if location.scheme != "file":
        raise AddressError(
            f"{text!r} must be a local path: only sources, tables and archive roots may be in a "
            "bucket"
        )
    is_uri = text.lower().startswith("file:")
    return Path(location.path) if is_uri else Path(text).expanduser()


Table = Annotated[
    str, typer.Argument(help="The table: a folder, s3://… or gs://…", metavar="TABLE")
]
TableOption = Annotated[
    str,
    typer.Option(
        "--table",
        help="The table: a folder, s3://… or gs://…. The table does not need to exist yet.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="A YAML file with settings. To print an example, run: skytext config show",
        metavar="FILE",
        parser=local_path,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change a setting, e.g. --set caption.engine.max_num_seqs=64; may be repeated.",
        metavar="NAME=VALUE",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        help="Address of a Ray cluster. Default: the address in RAY_ADDRESS. If RAY_ADDRESS is not "
        "set, the command starts Ray on this machine."
    ),
]
EmbeddingModel = Annotated[
    str | None, typer.Option(help="Hub name or folder of a sentence-transformers model.")
]


def with_options_of(
    other: Callable[..., object],
    *,
    without: Collection[str] = (),
    only: Collection[str] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds the options of ``other`` before the options of a command.

    Args:
        other: another command.
        without: names of the parameters of ``other`` that must not be added.
        only: names of the parameters of ``other`` to add. None means all parameters.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        taken = {parameter.name for parameter in own} | set(without)
        theirs = inspect.signature(other, eval_str=True).parameters.values()
        wanted = [p for p in theirs if only is None or p.name in only]
        every = [*(p for p in wanted if p.name not in taken), *own]
        # Set both attributes, because typer reads the signature and the annotations.
        command.__signature__ = signature.replace(parameters=every)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in every}
        return command

    return decorate


def make_config(
    path: Path | None,
    settings: list[str] | None,
    options: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
) -> Config:
    """Merge the settings from several sources.

    The sources are: the defaults, ``base``, the file ``path``, ``settings`` (the values of
    ``--set``), and ``options`` (the other options of the command). If several sources contain a
    setting, the value from the last of these sources is used.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """
    from skytext.config.settings import load_config

    overrides: dict[str, Any] = parse_settings(settings or [])
    overrides |= {name: value for name, value in (options or {}).items() if value is not None}
    return load_config(path, overrides, base)


def parse_settings(
    settings: list[str], option: str = "--set", example: str = "caption.temperature=0.5"
) -> dict[str, Any]:
    """Parse ``NAME=VALUE`` pairs. Each value is parsed as YAML.

    Args:
        settings: the pairs.
        option: name of the command-line option with these pairs, for error messages.
        example: an example of a pair, for error messages.

    Raises:
        ConfigError: a pair has no name or no equals sign, or a value is not YAML.
    """
    from skytext.config.yaml_text import parse_yaml

    parsed = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise ConfigError(f"{option} {setting!r} must be NAME=VALUE, e.g. {example}")
        try:
            parsed[name] = parse_yaml(value)
        except ValueError as error:
            raise ConfigError(f"{option} {setting!r}: the value is not YAML") from error
    return parsed


def bands_of(table: str) -> dict[str, Any]:
    """Return the setting that selects the image bands, as it was in the table's last run.

    The result is empty if no run set the bands. Commands that read images pass the result to
    `make_config` as ``base``.
    """
    from skytext.table.location import TableLocation
    from skytext.table.runs_dataset import caption_bands

    return caption_bands(TableLocation.parse(table))
