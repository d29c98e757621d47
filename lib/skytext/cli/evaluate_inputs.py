"""Read the inputs of ``skytext evaluate``, and run the measurement."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from skytext.cli.open_table import open_table
from skytext.cli.options import local_path
from skytext.config.embedding import EmbedConfig, ImageEmbedConfig
from skytext.config.pixels import ImageConfig
from skytext.errors import CallError
from skytext.evaluation.annotations import Query, read_annotations, read_queries
from skytext.evaluation.compared_setups import (
    BEST_RULE,
    GRANULARITIES,
    MODES,
    PAPER_RULE,
    Granularity,
    Rule,
    Setup,
)
from skytext.evaluation.evaluate import (
    SETUPS,
    Embedders,
    evaluate_benchmark,
    evaluate_queries,
    evaluate_text_only,
)
from skytext.evaluation.gallery_texts import Described, described_in_jsonl, described_in_table
from skytext.evaluation.golden import Golden, Verdict, judge, read_golden
from skytext.evaluation.image_baseline import ImageModel
from skytext.evaluation.recall import Ties
from skytext.evaluation.report import Evaluation
from skytext.models.checkpoints import embed_model
from skytext.models.factory import make_embedder, make_table_embedder, make_table_image_embedder
from skytext.models.text_embedder import Embedder
from skytext.search.fusion import FUSIONS, POOLINGS
from skytext.table.images_dataset import ImagesTable
from skytext.table.rows.missing_vectors import image_column_of

_JSONL = (".jsonl", ".ndjson")
_Value = TypeVar("_Value", bound=str)


@dataclass(frozen=True, slots=True)
class Call:
    """The options of ``skytext evaluate`` with their values."""

    descriptions: str | None
    version: int | None
    annotations: tuple[Path, ...]
    benchmark: str | None
    split: str
    queries: Path | None
    golden: Path | None
    at_least: Mapping[str, float]
    setups: tuple[Setup, ...]
    ties: Ties
    allow_missing: bool
    embed: EmbedConfig
    embedding_model: str | None
    image_vectors: bool = False
    image_embed: ImageEmbedConfig | None = None
    images: ImageConfig | None = None


def is_jsonl(descriptions: str | None) -> bool:
    """Return true if ``descriptions`` names a JSONL file, and false if it names a table."""
    return descriptions is not None and descriptions.lower().endswith(_JSONL)


def make_rules(
    modes: Sequence[str] | None,
    poolings: Sequence[str] | None,
    fusions: Sequence[str] | None,
    text_weights: Sequence[float] | None,
) -> list[Rule] | None:
    """Return one rule for every combination of the ranking options.

    If a fusion or a text weight is given without a mode, the mode is hybrid. If only poolings are
    given, the mode is dense. In mode hybrid, other missing options have the values of `BEST_RULE`,
    which is the default rule of searches. In the other modes, they have the values of `PAPER_RULE`.

    Returns:
        The rules, or None if no ranking option is given.

    Raises:
        CallError: an option has an unknown value.
    """
    if not (modes or poolings or fusions or text_weights):
        return None
    rules = []
    for mode in _known("--mode", modes, MODES) or [
        "hybrid" if fusions or text_weights else "dense"
    ]:
        usual = BEST_RULE if mode == "hybrid" else PAPER_RULE
        combined = product(
            _known("--pooling", poolings, POOLINGS) or [usual.pooling],
            _known("--fusion", fusions, FUSIONS) or [usual.fusion],
            text_weights or [usual.text_weight],
        )
        for pooling, fusion, weight in combined:
            if mode == "hybrid":
                rules.append(Rule(mode, pooling, fusion, weight))
            else:
                rules.append(Rule(mode, pooling if mode == "dense" else usual.pooling))
    return list(dict.fromkeys(rules))


def make_setups(
    rules: Sequence[Rule] | None,
    granularities: Sequence[str] | None,
    variants: Sequence[int] | None,
    embedders: Sequence[str] | None,
    *,
    only_best: bool,
) -> tuple[Setup, ...]:
    """Return one setup for every combination of the options.

    Args:
        rules: the result of `make_rules`.
        granularities: the parts of a variant to embed. Each part is measured separately.
        variants: maximum numbers of variants per image. Each number is measured separately.
        embedders: names of embedding models to measure in addition to the default model.
        only_best: true if only one setup is allowed. If ``rules`` is None, this setup then has the
            default rule of searches.

    Raises:
        CallError: an option has an unknown value, or there are several setups although
            ``only_best`` is true.
    """
    usual = [BEST_RULE] if only_best else [setup.rule for setup in SETUPS]
    counts: Sequence[int | None] = variants or [None]
    parts: Sequence[Granularity] = _known("--granularity", granularities, GRANULARITIES) or ["all"]
    combined = product([None, *(embedders or ())], parts, counts, rules or usual)
    setups = tuple(
        dict.fromkeys(
            Setup(rule, granularity, count, embedder)
            for embedder, granularity, count, rule in combined
        )
    )
    if only_best and len(setups) > 1:
        raise CallError("--golden tests only one setup. Give each ranking option at most once")
    return setups


def measure(call: Call) -> tuple[Evaluation, Verdict | None]:
    """Run the measurement. With ``--text-only``, it uses only captions and no descriptions.

    Returns:
        The evaluation, and the result of the golden queries. The second value is None without
        ``--golden``.

    Raises:
        CallError: a file, image or model is missing, invalid or ambiguous.
    """
    # Read the files before a model is loaded, so that errors in the files are reported first.
    golden = None if call.golden is None else read_golden(call.golden, call.at_least)
    read = None
    if call.annotations:
        read = read_annotations(call.annotations, call.split, call.benchmark)
    models = _Models(call)
    if call.descriptions is None:
        if read is None:
            raise CallError("--text-only needs --annotations FILE")
        return evaluate_text_only(read, models, call.setups, ties=call.ties), None
    image_model = _image_model(call, models)
    if read is not None:
        images = _images(call, models, {image.name for image in read.images})
        return evaluate_benchmark(
            images,
            read,
            models,
            call.setups,
            ties=call.ties,
            allow_missing=call.allow_missing,
            image_model=image_model,
        ), None
    own = _own_queries(call, golden)
    evaluation = evaluate_queries(
        _images(call, models, None),
        own,
        models,
        call.setups,
        ties=call.ties,
        allow_missing=call.allow_missing,
        image_model=image_model,
    )
    if golden is None:
        return evaluation, None
    return evaluation, judge(golden, evaluation.rows[0], evaluation.queries)


def _own_queries(call: Call, golden: Golden | None) -> tuple[Query, ...]:
    if golden is not None:
        return golden.to_queries()
    if call.queries is None:
        raise CallError("no queries were given. Add --queries FILE")
    return read_queries(call.queries)


class _Models(dict[str | None, Embedders]):
    """The embedding models by the names in ``--embedder``. A model is loaded at its first use.

    The key None means the default model.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self.table: ImagesTable | None = None
        if call.descriptions is not None and not is_jsonl(call.descriptions):
            self.table = open_table(call.descriptions, call.version)

    def __missing__(self, name: str | None) -> Embedders:
        embedder = self._load(name)

        def embed_documents(texts: Sequence[str]) -> NDArray[np.float32]:
            return embedder.embed_documents(texts).vectors

        self[name] = Embedders(embed_documents, embedder.embed_queries)
        return self[name]

    def _load(self, name: str | None) -> Embedder:
        embed, named = self._call.embed, name or self._call.embedding_model
        if name is None and self.table is not None:
            column = self.table.text_column
            return make_table_embedder(self.table.location.uri, column, embed, named)
        if named is not None:
            embed = embed.model_copy(update={"model": named, "revision": None})
        return make_embedder(embed, embed_model(embed))


def _images(call: Call, models: _Models, names: Collection[str] | None) -> Iterator[Described]:
    if models.table is None:
        path = local_path(call.descriptions or "")
        if not path.is_file():
            raise CallError(f"there is no file {path}")
    # Load the model first, so that an invalid model is reported before the images are read.
    _ = models[None]
    if models.table is None:
        return described_in_jsonl(path)
    return described_in_table(models.table, names, own_vectors=call.image_vectors)


def _image_model(call: Call, models: _Models) -> ImageModel | None:
    if not call.image_vectors:
        return None
    if models.table is None:
        raise CallError(
            "--image-vectors needs a table: a file of descriptions has no image vectors"
        )
    table, own = models.table, image_column_of(models.table)
    embedder = make_table_image_embedder(
        table.location.uri, own, config=call.image_embed, images=call.images
    )
    return ImageModel(own.model, embedder.embed_queries)


def _known(option: str, given: Sequence[str] | None, known: Sequence[_Value]) -> list[_Value]:
    found = []
    for name in dict.fromkeys(given or ()):
        match = next((one for one in known if one == name), None)
        if match is None:
            raise CallError(f"{option} must be one of {', '.join(known)} (given: {name!r})")
        found.append(match)
    return found
