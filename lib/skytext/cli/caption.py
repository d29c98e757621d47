"""``skytext caption``: describe and embed the images of an archive."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from skytext.cli.options import (
    AsJson,
    ConfigFile,
    EmbeddingModel,
    RayAddress,
    Settings,
    TableOption,
    local_path,
    make_config,
)
from skytext.errors import ConfigError, JobError

if TYPE_CHECKING:
    from skytext.config.settings import Config
    from skytext.run.plans.caption_plan import CaptionPlan
    from skytext.run.progress import RunSummary


EMBEDDED = {"text": "descriptions", "image": "images"}

Sources = Annotated[
    list[str],
    typer.Argument(help="Folders, globs, .tar shards or s3:// addresses.", metavar="SOURCE…"),
]
Archive = Annotated[
    str | None, typer.Option(help="Name of the archive; default: the last part of the source.")
]
Model = Annotated[
    str | None,
    typer.Option(
        help="Hub name or folder of a vision-language model that vLLM supports, e.g. "
        "llava-hf/llava-1.5-7b-hf; default: the small demonstration checkpoint."
    ),
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of the model.")]
PromptName = Annotated[
    str | None, typer.Option(help="Id of a packaged prompt, or path of your own prompt file.")
]
ChatTemplate = Annotated[
    Path | None,
    typer.Option(
        help="A Jinja file with the chat template, for checkpoints that have none.",
        metavar="FILE",
        parser=local_path,
    ),
]
NumVariants = Annotated[
    int | None, typer.Option(help="Number of descriptions per image; default: 5.")
]
NumEngines = Annotated[
    str | None,
    typer.Option(
        help="Number of vLLM engines; default: 1. With MIN:MAX, the run starts MIN engines. When "
        "the cluster gets new nodes, the run adds engines, up to MAX in total.",
        metavar="N|MIN:MAX",
    ),
]
GpusPerEngine = Annotated[float | None, typer.Option(help="Number of GPUs per engine.")]
TensorParallelSize = Annotated[
    int | None, typer.Option(help="Number of GPUs for one copy of the model; default: 1.")
]
CommitImages = Annotated[
    int | None, typer.Option(help="Commit after this number of images; default: 1000.")
]
Stale = Annotated[
    Literal["captions", "vectors", "all"] | None,
    typer.Option(
        "--stale",
        help="Also replace results that were made with other settings. captions: describe an image "
        "again if its description was made with another model, prompt or sampling. vectors: embed "
        "a description again if its vector was made with another embedding model. all: do both.",
        metavar="captions|vectors|all",
    ),
]
VerifyAll = Annotated[
    bool,
    typer.Option(
        "--verify-all",
        help="At the end of the run, compare the headers of every shard with its manifest. "
        "Default: only 1 % of the shards are compared.",
    ),
]
MaxFailureRate = Annotated[
    float | None,
    typer.Option(
        help="Maximum share of failed images. If more images fail, the run stops; default: 0.5."
    ),
]
CommitInterval = Annotated[
    float | None,
    typer.Option("--commit-interval-s", help="Commit after this number of seconds; default: 60."),
]
# Maps each command-line option to its setting.
_SETTINGS = {
    "archive": "archive",
    "model": "caption.model",
    "revision": "caption.revision",
    "prompt": "caption.prompt",
    "num_variants": "caption.num_variants",
    "gpus_per_engine": "caption.engine.num_gpus_per_engine",
    "tensor_parallel_size": "caption.engine.tensor_parallel_size",
    "embedding_model": "embed.model",
    "commit_images": "job.commit_images",
    "commit_interval_s": "job.commit_interval_s",
    "max_failure_rate": "job.max_failure_rate",
}


def caption(
    sources: Sources,
    table: TableOption,
    archive: Archive = None,
    model: Model = None,
    revision: Revision = None,
    prompt: PromptName = None,
    chat_template: ChatTemplate = None,
    num_variants: NumVariants = None,
    num_engines: NumEngines = None,
    gpus_per_engine: GpusPerEngine = None,
    tensor_parallel_size: TensorParallelSize = None,
    embedding_model: EmbeddingModel = None,
    commit_images: CommitImages = None,
    commit_interval_s: CommitInterval = None,
    max_failure_rate: MaxFailureRate = None,
    stale: Stale = None,
    config: ConfigFile = None,
    settings: Settings = None,
    ray_address: RayAddress = None,
    verify_all: VerifyAll = False,
    as_json: AsJson = False,
) -> None:
    """Describe and embed every new image of the sources, and write the results to a table.

    You can run the command again at any time: it skips images that already have a row in the table.
    """
    resolved = caption_config(locals())
    # Import this only after the fast checks, because the import of Ray takes seconds.
    from skytext.run.plans.caption_plan import plan_caption

    plan = plan_caption(sources, table, resolved, stale=stale)
    run_and_show(plan, ray_address, as_json, verify_all)


def caption_config(options: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> Config:
    """Return the settings for `caption`, or for another command that has the options of `caption`.

    Args:
        options: the values of the options. The keys are the parameter names of `caption`.
        more: the values of further settings. The keys are setting names. If a value is None, the
            setting is not set.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """
    chosen = {setting: options[name] for name, setting in _SETTINGS.items()}
    template = options["chat_template"]
    chosen["caption.chat_template"] = None if template is None else str(template)
    chosen |= _engine_options(options["num_engines"])
    return make_config(options["config"], options["settings"], chosen | dict(more or {}))


def _engine_options(text: str | None) -> dict[str, int | None]:
    """Parse ``--num-engines``.

    Raises:
        ConfigError: the value is neither a number nor MIN:MAX.
    """
    if text is None:
        return {}
    first, separator, last = text.partition(":")
    try:
        return {
            "caption.engine.num_engines": int(first),
            "caption.engine.max_engines": int(last) if separator else None,
        }
    except ValueError as error:
        raise ConfigError(
            f"--num-engines must be a number or MIN:MAX, e.g. 4 or 2:8 (given: {text})"
        ) from error


def run_and_show(
    plan: CaptionPlan, ray_address: str | None, as_json: bool, verify_all: bool
) -> None:
    """Run a plan, show its progress on stderr, and print the result."""
    from skytext.cli.output import JobBar, note, print_json
    from skytext.run.caption_run import run_caption
    from skytext.run.progress import check_all_read
    from skytext.run.vector_run import check_store_gave_all

    announce(plan)
    with JobBar() as bar:
        summary = run_caption(
            plan,
            ray_address=ray_address,
            verify_all=verify_all,
            on_progress=bar.on_progress,
            on_described=bar.on_described,
            on_note=note,
        )
    if as_json:
        print_json(summary.to_json())
    else:
        show_summary(plan, summary)
    for one in summary.stale_vectors:
        check_store_gave_all(one["failures"], one["failure_samples"])
    check_all_read(summary)
    check_any_listed(summary, len(plan.shards))


def check_any_listed(summary: RunSummary, num_shards: int) -> None:
    """Check that the run found an image, unless the table already exists.

    Raises:
        JobError: the sources contain no image, and the table does not exist.
    """
    from skytext.cli.output import ignored_words, plural

    if summary.table_version is None and not summary.num_listed:
        what = f" ({ignored_words(summary.ignored)})" if summary.ignored else ""
        raise JobError(
            f"no image was found in {plural(num_shards, 'shard')}{what}, and no table was "
            "created. Name sources that contain images"
        )


def announce(plan: CaptionPlan) -> None:
    """Print the plan. If the default caption model is used, also print a note."""
    from rich.filesize import decimal

    from skytext.cli.output import note, plural
    from skytext.config.captioning import DEMO_MODEL

    note(
        f"{plural(len(plan.shards), 'shard')}, {decimal(plan.total_bytes)} → {plan.location.uri}  "
        f"(model {plan.caption_model.name}, prompt {plan.prompt.prompt_id}, "
        f"embeddings {plan.embed_model.name})"
    )
    if plan.caption_model.name == DEMO_MODEL:
        note(
            "note: no --model was given, so the small demonstration checkpoint is used. It can "
            "describe only generated scenes. For real images, name another model, "
            "e.g. --model llava-hf/llava-1.5-7b-hf on a GPU machine"
        )


def show_summary(plan: CaptionPlan, summary: RunSummary, *, says_next: bool = True) -> None:
    """Print the result of a run."""
    from skytext.cli.output import answers, ignored_words, plural

    version = summary.table_version
    where = "no table" if version is None else f"table version {version}"
    lines = [
        f"listed {summary.num_listed:,} = {summary.num_ok:,} ok + {summary.num_failed:,} failed "
        f"({where})",
        f"this run: {plural(summary.num_captioned, 'image')} described, "
        f"{summary.num_newly_failed:,} failed, {summary.num_skipped:,} already had a row; "
        f"{summary.duration_s:.1f} s, {summary.images_per_s:.2f} images/s",
    ]
    lines += [f"  failed: {count:,} × {key}" for key, count in sorted(summary.failures.items())]
    lines += [
        f"  unusable values in the source, stored as null: {count:,} × {name}, e.g. "
        f"{summary.unusable_examples[name]}"
        for name, count in sorted(summary.unusable.items())
    ]
    if summary.num_many_bands:
        lines.append(
            "note: the model received only the first three bands of "
            f"{plural(summary.num_many_bands, 'image')}. To select other bands, use --set "
            "images.bands=…"
        )
    if summary.ignored:
        lines.append(ignored_words(summary.ignored))
    if summary.engine_span_s:
        lines.append(
            f"engine: {summary.output_tokens_per_s:,.0f} tokens/s over "
            f"{summary.engine_span_s:.1f} s, "
            f"idle {100 * summary.engine_idle_s / summary.engine_span_s:.1f} %; "
            f"{summary.num_variants:,} variants, {_share_cached(summary)} of the prompt tokens "
            "from the cache"
        )
    if summary.num_truncated_variants:
        lines.append(
            f"embedding: the model's token limit truncated {summary.num_truncated_variants:,} of "
            f"{summary.num_variants:,} variants"
        )
    lines[:0] = [
        f"{one['num_embedded']:,} {EMBEDDED[one['kind']]} embedded again with {one['model']}, "
        f"{one['num_failed']:,} failed; {one['duration_s']:.1f} s"
        for one in summary.stale_vectors
    ]
    if summary.num_adopted:
        images = plural(summary.num_adopted, "image")
        lines.append(f"committed {images} that an interrupted run had described")
    if summary.num_stale:
        lines.append(
            f"kept {plural(summary.num_stale, 'row')} whose descriptions were made with other "
            "settings (to describe these images again, use --stale captions)"
        )
    if summary.num_gone:
        rows = plural(summary.num_gone, "row")
        lines.append(f"kept {rows} of images that the source no longer contains")
    if summary.num_failed:
        lines.append(
            f"to list the failures, run: skytext failures {shlex.quote(plan.location.uri)}"
        )
    if says_next and (summary.num_captioned or summary.stale_vectors):
        lines.append(f"next: skytext index {shlex.quote(plan.location.uri)}")
    for line in lines:
        answers.print(line, markup=False, soft_wrap=True)


def _share_cached(summary: RunSummary) -> str:
    if not summary.num_prompt_tokens:
        return "0 %"
    return f"{100 * summary.num_cached_tokens / summary.num_prompt_tokens:.0f} %"
