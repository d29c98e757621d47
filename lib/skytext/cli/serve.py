"""``skytext serve`` runs the API and the search page. ``skytext keys`` manages API keys."""

from __future__ import annotations

from typing import Annotated

import typer

from skytext.cli.options import (
    AsJson,
    ConfigFile,
    Settings,
    Table,
    bands_of,
    make_config,
)

keys_app = typer.Typer(
    help="Create, list and revoke the API keys of a table.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_KeyName = Annotated[str, typer.Argument(help="Name of the key's owner.", metavar="NAME")]


def serve(
    tables: Annotated[
        list[str],
        typer.Argument(
            help="The tables: folders, s3://… or gs://…. They are searched together. The service "
            "uses the API keys that are stored in the first table.",
            metavar="TABLE...",
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
    version: Annotated[
        int | None,
        typer.Option(
            help="Always serve this version, even if another version is promoted. This option is "
            "possible only with a single table."
        ),
    ] = None,
    archive_root: Annotated[
        list[str] | None,
        typer.Option(
            help="Folder or address prefix. The search page may show images below it; may be "
            "repeated."
        ),
    ] = None,
    keys: Annotated[
        bool | None,
        typer.Option(
            "--keys/--no-keys",
            help="Whether to require an API key. Default: a key is required if the first table has "
            "a key, or if --host is not local.",
        ),
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Serve the API and the search page of one or more tables over HTTP.

    The service runs until Ctrl-C or SIGTERM. It uses a newly promoted version within seconds. To
    serve on a cluster, run: serve deploy serve/config.yaml
    """
    from skytext.cli.output import note

    options = {
        "service.version": version,
        "service.archive_roots": archive_root or None,
    }
    resolved = make_config(config, settings, options, bands_of(tables[0]))
    from skytext.service.replicas.local_server import decide_access, serve_here
    from skytext.service.served_tables import TableSet

    served = TableSet.parse(tables)
    resolved = decide_access(served, host, keys, resolved)
    serve_here(served, host, port, resolved, note)


@keys_app.command("add")
def add(
    table: Table,
    name: _KeyName,
    right: Annotated[
        str,
        typer.Option(
            help="search: the key allows searches. admin: the key also allows you to promote "
            "versions, roll back and read metrics."
        ),
    ] = "search",
    as_json: AsJson = False,
) -> None:
    """Create a key and print it. Only a hash is stored, so the key cannot be printed again."""
    from skytext.cli.output import note, print_json
    from skytext.errors import CallError
    from skytext.service.access.api_keys import KeyStore, Right
    from skytext.table.location import TableLocation

    if right not in list(Right):
        raise CallError(f"--right must be one of {', '.join(Right)} (given: {right!r})")
    key = KeyStore(TableLocation.parse(table)).add(name, Right(right))
    if as_json:
        print_json({"name": name, "right": right, "key": key})
        return
    typer.echo(key)
    note("this key is shown only once; services accept the key within seconds")


@keys_app.command("list")
def list_keys(table: Table, as_json: AsJson = False) -> None:
    """List the names and rights of all keys."""
    from skytext.cli.output import answers, print_json
    from skytext.service.access.api_keys import KeyStore
    from skytext.table.location import TableLocation

    found = KeyStore(TableLocation.parse(table)).list()
    rows = [{"name": k.name, "right": str(k.right), "created_at": k.created_at} for k in found]
    if as_json:
        print_json({"keys": rows})
        return
    for row in rows:
        line = f"{row['name']}  {row['right']}  since {row['created_at']}"
        answers.print(line, markup=False, soft_wrap=True)
    if not rows:
        answers.print("no keys", markup=False)


@keys_app.command("revoke")
def revoke(table: Table, name: _KeyName) -> None:
    """Delete a key. Services refuse the key within seconds."""
    from skytext.cli.output import note
    from skytext.service.access.api_keys import KeyStore
    from skytext.table.location import TableLocation

    KeyStore(TableLocation.parse(table)).revoke(name)
    note(f"the key {name!r} is revoked; services refuse it within seconds")
