"""``skytext plan``: show what a run would do, and estimate its time and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from skytext.cli.caption import (
    EMBEDDED,
    Archive,
    Model,
    PromptName,
    Revision,
    Sources,
    Stale,
)
from skytext.cli.options import (
    AsJson,
    ConfigFile,
    EmbeddingModel,
    Settings,
    TableOption,
    make_config,
)
from skytext.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from skytext.archive import Shard
    from skytext.run.plans.preview import Preview

_WORDS = {
    "new": "new: would be described",
    "changed": "changed: would be described again, and the rows would be replaced",
    "unsure": "in a changed shard: would be described again if their bytes have changed",
    "stale": "described with other settings: kept, unless --stale captions is given",
    "failed": "failed in an earlier run: only skytext retry-failed and reindex try them again",
    "done": "done",
}
_REDONE = "described with other settings: would be described again"


def plan(
    sources: Sources,
    table: TableOption,
    archive: Archive = None,
    model: Model = None,
    revision: Revision = None,
    prompt: PromptName = None,
    embedding_model: EmbeddingModel = None,
    stale: Stale = None,
    list_images: Annotated[
        bool,
        typer.Option(
            "--list",
            help="First print one line for each image. The line contains the action, a tab, and "
            "the address of the image.",
        ),
    ] = False,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show what `skytext caption` would do with the images. Nothing is changed.

    The command reads only the headers of new and changed shards. It estimates the time and the cost
    from the speed of earlier runs with the same model.
    """
    from skytext.cli.output import print_json

    if list_images and as_json:
        raise ConfigError(
            "--list prints lines, and --json prints one object: use only one of the two options"
        )
    options = {
        "archive": archive,
        "caption.model": model,
        "caption.revision": revision,
        "caption.prompt": prompt,
        "embed.model": embedding_model,
    }
    resolved = make_config(config, settings, options)
    from skytext.run.plans.caption_plan import plan_caption
    from skytext.run.plans.preview import preview

    planned = plan_caption(sources, table, resolved, stale=stale)
    found = preview(planned, _print_members if list_images else None)
    if as_json:
        print_json(found.to_json())
    else:
        _show(found, planned.config.caption.engine.num_engines, planned.redo_stale)


def _print_members(shard: Shard, members: pa.Table, verdicts: NDArray[np.uint8]) -> None:
    from skytext.cli.output import one_line
    from skytext.run.worklist import Verdict

    names = members.column("member").to_pylist()
    for name, verdict in zip(names, verdicts.tolist(), strict=True):
        typer.echo(f"{Verdict(verdict).name.lower()}\t{shard.uri}#{one_line(name)}")


def _show(found: Preview, num_engines: int, redo_stale: bool) -> None:
    from skytext.cli.output import answers, ignored_words, plural

    num_images = plural(sum(found.num_images.values()), "image")
    num_shards = plural(found.num_shards, "shard")
    lines = [f"{num_images} in {num_shards}, {found.num_shards_to_read:,} to be read"]
    shown = _WORDS | ({"stale": _REDONE} if redo_stale else {})
    lines += [f"  {found.num_images[key]:>12,}  {words}" for key, words in shown.items()]
    if found.ignored:
        lines.append(ignored_words(found.ignored))
    if found.num_gone:
        shards = plural(found.num_shards_gone, "shard")
        with_shards = f" ({shards} missing completely)" if found.num_shards_gone else ""
        lines.append(
            f"  {found.num_gone:>12,}  no longer in the archive{with_shards}: their rows are kept "
            "(skytext reindex withdraws these rows)"
        )
    if found.num_unread:
        shards = plural(found.num_unread, "shard")
        lines.append(
            f"  {shards} not counted, because the store did not return the data: {found.unread[0]}"
        )
    for kind, number in found.num_to_embed.items():
        lines.append(f"  {number:>12,}  {EMBEDDED[kind]} would be embedded again")
    if found.num_staged_units:
        units = plural(found.num_staged_units, "unit")
        lines.append(f"{units} from an interrupted run would be committed first")
    to_embed = any(found.num_to_embed.values())
    if not found.num_shards_to_read and not found.num_staged_units and not to_embed:
        lines.append("nothing to do: a run would not read any shard")
    elif found.num_to_describe and found.time_s is not None:
        cost = "" if found.cost is None else f", cost {found.cost:,.2f}"
        lines.append(
            f"about {_duration(found.time_s)} with {plural(num_engines, 'engine')} "
            f"({found.engine_hours:,.2f} engine hours at {found.images_per_engine_s:.2f} images/s "
            f"per engine, as measured in earlier runs{cost})"
        )
    elif found.num_to_describe:
        lines.append("no time estimate: there is no earlier run with this model")
    if found.num_old_versions:
        lines.append(
            f"{plural(found.num_old_versions, 'old version')}, "
            f"{found.old_version_bytes / 1e6:,.1f} MB in files that only old versions need. To "
            "remove unused versions, run: skytext clean TABLE"
        )
    lines.append(f"actors and tasks, if the cluster is large enough: {found.pools.describe()}")
    for line in lines:
        answers.print(line, markup=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
