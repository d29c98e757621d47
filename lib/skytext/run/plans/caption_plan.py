"""The plan of a captioning run. It is checked before Ray or an engine starts."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from skytext.archive import ReadLimits, ReadOptions, Shard, survey
from skytext.captions.prompts import Prompt
from skytext.config.settings import Config
from skytext.errors import TableError
from skytext.models.checkpoints import ModelIdentity, caption_model, embed_model
from skytext.models.factory import CaptionerFactory, check_name, make_captioner, make_embedder
from skytext.models.fingerprints import (
    caption_fingerprint,
    prompt_of,
    read_template,
)
from skytext.models.text_embedder import Embedder
from skytext.run.plans.vector_plan import VectorPlan, plan_stale_vectors, text_column
from skytext.run.worklist import PlanOptions
from skytext.table.commits.commit_rows import check_writable
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.runs_dataset import last_runs
from skytext.table.vector_columns import VectorColumn


@dataclass(frozen=True, slots=True)
class CaptionPlan:
    """The checked inputs of a captioning run.

    Attributes:
        config: the settings.
        location: the table.
        sources: the addresses of the sources, as the user wrote them.
        shards: the shards of the sources.
        whole_archives: names of the archives that the sources contain completely; see
            `skytext.archive.survey`.
        caption_model: the caption model.
        prompt: the caption prompt.
        embed_model: the embedding model.
        stale_vectors: one plan for each vector column that is incomplete or not active. These plans
            are executed before this run starts.
        pending: the plan for a second vector column. It is set while the embedding model of the
            table changes. New rows then get vectors in the active column and in the second column.
            None if the embedding model does not change.
        redo_stale: whether images that were described with other settings are described again.
        retry_failed: whether the run processes only images with a failed row.
        is_new_table: whether the run creates the table.
        make_captioner: the function that starts an engine. To use another kind of engine, a caller
            can set its own function. The function must be importable on the workers.
    """

    config: Config
    location: TableLocation
    sources: tuple[str, ...]
    shards: tuple[Shard, ...]
    whole_archives: frozenset[str]
    caption_model: ModelIdentity
    prompt: Prompt
    embed_model: ModelIdentity
    stale_vectors: tuple[VectorPlan, ...] = ()
    pending: VectorPlan | None = None
    redo_stale: bool = False
    retry_failed: bool = False
    is_new_table: bool = False
    make_captioner: CaptionerFactory = make_captioner

    @property
    def command(self) -> str:
        """The name of the command that executes this plan."""
        return "retry-failed" if self.retry_failed else "caption"

    @property
    def total_bytes(self) -> int:
        """Total size of all shards in bytes. In the progress display, this size is 100 %."""
        return sum(shard.size_bytes for shard in self.shards)

    @property
    def caption_fingerprint(self) -> str:
        """The caption fingerprint of this run."""
        return caption_fingerprint(
            self.config.caption, self.config.images, self.caption_model, self.prompt
        )

    @property
    def column(self) -> VectorColumn:
        """The column for vectors of captions. Its ``dim`` is set when rows are written."""
        return text_column(self.embed_model, self.config)

    @property
    def load_pending(self) -> Callable[[], Embedder] | None:
        """A function that loads the embedding model of the second vector column.

        A worker calls the function on its own node. None if there is no second vector column.
        """
        if self.pending is None:
            return None
        return partial(make_embedder, self.pending.config.embed, self.pending.model)

    @property
    def limits(self) -> ReadLimits:
        """Memory limits of the reader."""
        return ReadLimits(max_member_bytes=self.config.images.max_member_bytes)

    @property
    def reading(self) -> ReadOptions:
        """Options of the reader, from the settings."""
        return ReadOptions(**self.config.sources.model_dump())

    def options(self, *, walk_headers: bool = False) -> PlanOptions:
        """Return the options with which `skytext.run.worklist` determines the work of this run.

        Args:
            walk_headers: see `skytext.run.worklist.PlanOptions`.
        """
        return PlanOptions(
            caption_fingerprint=self.caption_fingerprint,
            redo_stale=self.redo_stale,
            retry_failed=self.retry_failed,
            max_attempts=self.config.job.max_attempts,
            walk_headers=walk_headers,
            whole_archives=self.whole_archives,
            limits=self.limits,
            reading=self.reading,
        )


Stale = Literal["captions", "vectors", "all"]


def plan_caption(
    sources: Sequence[str], table: str, config: Config, *, stale: Stale | None = None
) -> CaptionPlan:
    """Make the plan of a captioning run.

    This function makes all checks that need neither Ray nor an engine.

    Args:
        sources: addresses of the sources.
        table: address of the table.
        config: the settings.
        stale: the results that are made again if they were made with other settings. ``captions``
            means the descriptions. ``vectors`` means the vectors of existing descriptions and
            images. ``all`` means descriptions and vectors. None means that no result is made again.

    Raises:
        CallError: a source, model, prompt, setting or table is not usable.
    """
    vectors = plan_stale_vectors(table, config) if stale in ("vectors", "all") else []
    plan = _plan(sources, TableLocation.parse(table), config, stale_vectors=tuple(vectors))
    return replace(plan, redo_stale=stale in ("captions", "all"))


def plan_retry(sources: Sequence[str], table: str, config: Config) -> CaptionPlan:
    """Make the plan of a run that processes only images with a failed row.

    Args:
        sources: addresses of the sources. If empty, the sources of all earlier runs on the table
            are used.
        table: address of the table. The table must exist.
        config: the settings.

    Raises:
        CallError: a source, model, prompt, setting or table is not usable. This is also raised if
            ``sources`` is empty and the table has no record of earlier sources.
    """
    location = TableLocation.parse(table)
    ImagesTable.open(location)
    sources = sources or earlier_sources(location)
    if not sources:
        raise TableError(
            f"{location.uri} has no record of its sources. To give the sources, run: "
            f"skytext retry-failed {shlex.quote(location.uri)} SOURCE…"
        )
    return replace(_plan(sources, location, config), retry_failed=True)


def earlier_sources(location: TableLocation) -> list[str]:
    """Return the distinct sources of earlier captioning runs on a table.

    The sources of the latest run come first.
    """
    runs = last_runs(location)
    return list(dict.fromkeys(source for run in runs for source in run.config.get("sources", [])))


def _plan(
    sources: Sequence[str],
    location: TableLocation,
    config: Config,
    stale_vectors: tuple[VectorPlan, ...] = (),
) -> CaptionPlan:
    reading = ReadOptions(**config.sources.model_dump())
    found = survey(sources, archive=config.archive, options=reading)
    model, prompt, embedder = check_models(config)
    config = _with_template_text(config)
    plan = CaptionPlan(
        config=config,
        location=location,
        sources=tuple(sources),
        shards=found.shards,
        whole_archives=found.whole_archives,
        caption_model=model,
        prompt=prompt,
        embed_model=embedder,
        stale_vectors=stale_vectors,
    )
    existing = ImagesTable.find(location)
    if existing is None:
        return replace(plan, is_new_table=True)
    will_fit = any(one.column.fits(plan.column) for one in stale_vectors)
    check_writable(existing, None if will_fit else plan.column)
    return plan


def _with_template_text(config: Config) -> Config:
    """Replace the path of the chat template by the text of the chat template.

    The file of the chat template may not exist on other nodes.
    """
    caption = config.caption
    if caption.chat_template is None:
        return config
    text = read_template(caption.chat_template)
    return config.model_copy(update={"caption": caption.model_copy(update={"chat_template": text})})


def check_models(config: Config) -> tuple[ModelIdentity, Prompt, ModelIdentity]:
    """Check the models without loading them.

    Returns:
        The caption model, the prompt and the embedding model.

    Raises:
        CallError: a model, prompt, chat template or setting is not usable.
    """
    model, embedder = caption_model(config.caption), embed_model(config.embed)
    prompt = prompt_of(config.caption)
    check_name(model.name)
    # Compute the fingerprint only to check its inputs, such as a chat template. The function raises
    # an error if an input is not usable.
    caption_fingerprint(config.caption, config.images, model, prompt)
    if config.caption.variants_by == "one_request":
        prompt.all_text(config.caption.num_variants)
    return model, prompt, embedder
