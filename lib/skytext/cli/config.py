"""``skytext config``: show and check settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skytext.cli.options import AsJson, ConfigFile, Settings, local_path, make_config

app = typer.Typer(help="Show and check settings.", no_args_is_help=True, rich_markup_mode=None)


@app.command("show")
def show(config: ConfigFile = None, settings: Settings = None, as_json: AsJson = False) -> None:
    """Print all settings that result from --config, --set and the defaults, as YAML.

    You can save the output to a file and use the file with --config.
    """
    from skytext.cli.output import print_json
    from skytext.config.settings import dump_yaml

    resolved = make_config(config, settings)
    if as_json:
        print_json(resolved.model_dump(mode="json"))
    else:
        from skytext.run.pool_sizes import pool_sizes

        chosen = pool_sizes(resolved).describe()
        typer.echo(f"# If readers, writers and num_actors are null: {chosen}.")
        typer.echo(dump_yaml(resolved), nl=False)


@app.command("reference")
def print_reference() -> None:
    """Print a description and the default value of every setting, as Markdown."""
    from skytext.config.settings import reference

    typer.echo(reference(), nl=False)


@app.command("validate")
def validate(
    file: Annotated[
        Path, typer.Argument(help="A YAML file of settings.", metavar="FILE", parser=local_path)
    ],
    as_json: AsJson = False,
) -> None:
    """Check that all settings in a file are known and valid."""
    from skytext.cli.output import print_json

    make_config(file, None)
    if as_json:
        print_json({"file": str(file), "valid": True})
    else:
        typer.echo(f"{file}: all settings are known and in range")
