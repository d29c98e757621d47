"""``skytext evaluate``: recall on the field's benchmarks and on one's own queries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skytext.cli.options import (
    AsJson,
    ConfigFile,
    EmbeddingModel,
    Settings,
    make_config,
    parse_settings,
)
from skytext.errors import CallError

if TYPE_CHECKING:
    from skytext.cli.measuring import Call
    from skytext.evaluation.golden import Verdict
    from skytext.evaluation.report import Evaluation

_TIES = ("expected", "sort")
_EXIT_FAILED = 1


def evaluate(
    descriptions: Annotated[
        str | None,
        typer.Argument(
            help="A table, or a .jsonl of descriptions (skytext export writes one).",
            metavar="TABLE|FILE.jsonl",
        ),
    ] = None,
    annotations: Annotated[
        list[Path] | None,
        typer.Option(
            help="A benchmark's captions: dataset_*.json, *_caps.txt (with *_filename.txt), "
            ".json, .jsonl or .csv; may be repeated.",
            metavar="FILE",
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Your own queries, each with the images expected, instead: .csv, .json or .jsonl.",
            metavar="FILE",
        ),
    ] = None,
    golden: Annotated[
        Path | None,
        typer.Option(
            help="Golden queries instead: .yaml, .json or .jsonl; exit status 1 where they fail.",
            metavar="FILE",
        ),
    ] = None,
    at_least: Annotated[
        list[str] | None,
        typer.Option(
            help="With --golden: R@1, R@5, R@10 or mean_recall in percent; may be repeated.",
            metavar="NAME=PERCENT",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Of annotations that know splits; all for all of them.")
    ] = "test",
    text_only: Annotated[
        bool,
        typer.Option("--text-only", help="No table: captions stand for images, captions search."),
    ] = False,
    mode: Annotated[
        list[str] | None,
        typer.Option(help="dense, text or hybrid; may be repeated, like all ablations below."),
    ] = None,
    pooling: Annotated[
        list[str] | None,
        typer.Option(help="Of an image's variants: max, mean, max+mean or max+mean-z."),
    ] = None,
    fusion: Annotated[
        list[str] | None, typer.Option(help="Of dense and text: floor, z, minmax or rrf.")
    ] = None,
    text_weight: Annotated[
        list[float] | None, typer.Option(help="Of text beside dense's 1, in hybrid.", min=0)
    ] = None,
    granularity: Annotated[
        list[str] | None,
        typer.Option(help="What of a variant is embedded: all, sentence, feature or paragraph."),
    ] = None,
    variants: Annotated[
        list[int] | None, typer.Option(help="At most so many variants an image.", min=1)
    ] = None,
    embedder: Annotated[
        list[str] | None,
        typer.Option(help="Another embedding model, beside the one that is there."),
    ] = None,
    image_vectors: Annotated[
        bool,
        typer.Option(
            "--image-vectors",
            help="Measure the images' own vectors too (skytext embed-images), alone and fused.",
        ),
    ] = False,
    ties: Annotated[
        str, typer.Option(help="Equal scores: expected (value over all orders) or sort (numpy's).")
    ] = "expected",
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave annotated images that are missing out.")
    ] = False,
    version: Annotated[
        int | None, typer.Option(help="A table version; default: the live one, else the latest.")
    ] = None,
    embedding_model: EmbeddingModel = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the table there as Markdown.", metavar="FILE")
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(help="Draw recall by k and by variants as PNG there.", metavar="FOLDER"),
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Measure recall@1/5/10 and mean recall, beside the published rows.

    Images are matched by file name without folder. Of a benchmark its own images are searched, with
    --queries and --golden all images. Where no way to rank is named, the paper's rule (dense, max)
    and the one that searches use are measured.
    """
    if ties not in _TIES:
        raise CallError(f"--ties must be expected or sort (given: {ties!r})")
    _check(descriptions, annotations, queries, golden, text_only, version)
    from skytext.cli.measuring import Call, make_rules, make_setups, measure

    resolved = make_config(config, settings)
    rules = make_rules(mode, pooling, fusion, text_weight)
    if plots is not None:
        from skytext.evaluation.plots import check_plots

        check_plots()
        if not plots.is_dir():
            raise CallError(f"--plots: there is no folder {plots}")
    call = Call(
        descriptions=descriptions,
        version=version,
        annotations=tuple(annotations or ()),
        split=split,
        queries=queries,
        golden=golden,
        at_least=_thresholds(at_least, golden),
        setups=make_setups(rules, granularity, variants, embedder, only_best=golden is not None),
        ties="sort" if ties == "sort" else "expected",
        allow_missing=allow_missing,
        embed=resolved.embed,
        embedding_model=embedding_model,
        image_vectors=image_vectors,
        image_embed=resolved.image_embed,
        images=resolved.images,
    )
    if image_vectors and (text_only or golden is not None):
        raise CallError("--image-vectors goes with a table, and --annotations or --queries")
    if text_only and granularity:
        raise CallError("--text-only has captions alone, which have no --granularity")
    _show(call, *measure(call), markdown, plots, as_json)


def _show(
    call: Call,
    evaluation: Evaluation,
    verdict: Verdict | None,
    markdown: Path | None,
    plots: Path | None,
    as_json: bool,
) -> None:
    from skytext.cli.output import answers, note, print_json

    if markdown is not None:
        from skytext.cli.files import write_text

        write_text(markdown, evaluation.markdown())
    if plots is not None:
        from skytext.evaluation.plots import write_plots

        for path in write_plots(evaluation, plots):
            note(f"drawn: {path}")
    if as_json:
        golden = {} if verdict is None else {"golden": verdict.to_json()}
        print_json(evaluation.to_json() | golden)
    else:
        for line in [*evaluation.lines(), *(verdict.lines() if verdict else ())]:
            answers.print(line, markup=False, soft_wrap=True)
    if verdict is not None and not verdict.passed:
        raise typer.Exit(_EXIT_FAILED)


def _check(
    descriptions: str | None,
    annotations: list[Path] | None,
    queries: Path | None,
    golden: Path | None,
    text_only: bool,
    version: int | None,
) -> None:
    from skytext.cli.measuring import is_jsonl

    if sum(given is not None for given in (annotations, queries, golden)) != 1:
        raise CallError("name either --annotations FILE or --queries FILE or --golden FILE")
    if text_only and (descriptions is not None or annotations is None):
        raise CallError("--text-only takes --annotations alone: no table, no --queries")
    if not text_only and descriptions is None:
        raise CallError("name a table or a .jsonl of descriptions, or use --text-only")
    if version is not None and (text_only or is_jsonl(descriptions)):
        raise CallError("--version is for tables")


def _thresholds(at_least: list[str] | None, golden: Path | None) -> dict[str, Any]:
    if at_least and golden is None:
        raise CallError("--at-least goes with --golden")
    return parse_settings(at_least or [])
