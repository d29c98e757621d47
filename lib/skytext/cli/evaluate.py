"""``skytext evaluate``: measure the recall on published benchmarks and on your own queries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from skytext.cli.evaluate_options import (
    AllowMissing,
    Annotations,
    AtLeast,
    Benchmark,
    Descriptions,
    Embedder,
    Fusion,
    Golden,
    Granularity,
    ImageVectors,
    Markdown,
    ModeOption,
    Plots,
    Pooling,
    Queries,
    Split,
    TextOnly,
    TextWeight,
    Ties,
    Variants,
    VersionOption,
)
from skytext.cli.options import (
    AsJson,
    ConfigFile,
    EmbeddingModel,
    Settings,
    bands_of,
    make_config,
    parse_settings,
)
from skytext.errors import CallError

if TYPE_CHECKING:
    from skytext.cli.evaluate_inputs import Call
    from skytext.evaluation.golden import Verdict
    from skytext.evaluation.report import Evaluation

_TIES = ("expected", "sort")
_EXIT_FAILED = 1


def evaluate(
    descriptions: Descriptions = None,
    annotations: Annotations = None,
    benchmark: Benchmark = None,
    queries: Queries = None,
    golden: Golden = None,
    at_least: AtLeast = None,
    split: Split = "test",
    text_only: TextOnly = False,
    mode: ModeOption = None,
    pooling: Pooling = None,
    fusion: Fusion = None,
    text_weight: TextWeight = None,
    granularity: Granularity = None,
    variants: Variants = None,
    embedder: Embedder = None,
    image_vectors: ImageVectors = False,
    ties: Ties = "expected",
    allow_missing: AllowMissing = False,
    version: VersionOption = None,
    embedding_model: EmbeddingModel = None,
    markdown: Markdown = None,
    plots: Plots = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Measure recall@1, recall@5, recall@10 and mean recall. Compare them with published results.

    Annotations and queries name an image by its file name without the folder. With --annotations,
    only the annotated images are searched. With --queries or --golden, all images of the table are
    searched. Without ranking options, the command measures two rules: the rule of the TRSLLaVA
    paper (mode dense, pooling max), and the default rule of skytext search.
    """
    if ties not in _TIES:
        raise CallError(f"--ties must be expected or sort (given: {ties!r})")
    _check(descriptions, annotations, queries, golden, text_only, version)
    from skytext.cli.evaluate_inputs import Call, is_jsonl, make_rules, make_setups, measure

    base = {} if descriptions is None or is_jsonl(descriptions) else bands_of(descriptions)
    resolved = make_config(config, settings, base=base)
    rules = make_rules(mode, pooling, fusion, text_weight)
    if plots is not None:
        from skytext.evaluation.plots import check_plots

        check_plots()
        if not plots.is_dir():
            raise CallError(f"--plots: the folder {plots} does not exist")
    call = Call(
        descriptions=descriptions,
        version=version,
        annotations=tuple(annotations or ()),
        benchmark=benchmark,
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
    if benchmark is not None and not annotations:
        raise CallError("--benchmark needs --annotations")
    if image_vectors and (text_only or golden is not None):
        raise CallError("--image-vectors needs a table, and either --annotations or --queries")
    if text_only and granularity:
        raise CallError(
            "--granularity cannot be used with --text-only, because the captions of a benchmark "
            "are not divided into parts"
        )
    _show(call, *measure(call), markdown, plots, as_json)


def _show(
    call: Call,
    evaluation: Evaluation,
    verdict: Verdict | None,
    markdown: Path | None,
    plots: Path | None,
    as_json: bool,
) -> None:
    from skytext.cli.atomic_file import write_file
    from skytext.cli.output import answers, note, print_json

    if markdown is not None:
        write_file(markdown, evaluation.markdown().encode())
    if plots is not None:
        from skytext.evaluation.plots import draw_plots

        for name, png in draw_plots(evaluation).items():
            write_file(plots / name, png)
            note(f"plot: {plots / name}")
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
    from skytext.cli.evaluate_inputs import is_jsonl

    if sum(given is not None for given in (annotations, queries, golden)) != 1:
        raise CallError("name exactly one of --annotations FILE, --queries FILE and --golden FILE")
    if text_only and (descriptions is not None or annotations is None):
        raise CallError(
            "--text-only needs --annotations, and cannot be used with a table or --queries"
        )
    if not text_only and descriptions is None:
        raise CallError("name a table or a .jsonl file of descriptions, or use --text-only")
    if version is not None and (text_only or is_jsonl(descriptions)):
        raise CallError("--version can be used only with a table")


def _thresholds(at_least: list[str] | None, golden: Path | None) -> dict[str, Any]:
    if at_least and golden is None:
        raise CallError("--at-least needs --golden")
    return parse_settings(at_least or [], "--at-least", "R@10=90")
