"""``skytext demo``: generate an archive, make a table of it, and search the table."""

from __future__ import annotations

import functools
import importlib
import io
import json
import os
import shlex
import shutil
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skytext.cli.options import AsJson, ConfigFile, Settings, local_path, make_config
from skytext.errors import ConfigError, TableError

if TYPE_CHECKING:
    from PIL import Image

    from skytext.config.settings import Config
    from skytext.search import Hit, Searcher

_MARKER = ".skytext-demo"
_NUM_IMAGES = 120
_IMAGES_PER_SHARD = 20
_NUM_HITS = 4
# A measurement of the recall with the default of 256 queries needs eight seconds. The table is so
# small that a precise measurement is not necessary.
_RECALL_QUERIES = 32
# The seed of the first scene, counted from the first held-out seed. It was chosen so that each of
# the queries below matches at least two of the 120 scenes.
_FIRST_SCENE = 49_700
_PICTURE = "searches.jpg"
_HOST, _PORT = "127.0.0.1", 8000
_QUERIES = (
    "storage tanks in a port",
    "two ships in a harbour",
    "airplanes parked beside a runway",
    "a baseball field among houses",
    "wind turbines standing in snow",
    "solar panels in the desert",
    "a motorway junction",
    "a quarry in the mountains",
)


def demo(
    directory: Annotated[
        Path,
        typer.Option(
            "--dir",
            help="Folder for the archive and the table. The folder of an earlier demo is replaced.",
            metavar="FOLDER",
            parser=local_path,
        ),
    ] = Path("skytext-demo"),
    num_images: Annotated[
        int, typer.Option(min=1, help="Number of scenes to generate.")
    ] = _NUM_IMAGES,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Generate an archive, describe its images with a small LLaVA model, and search them.

    Nothing is downloaded, because the model and the image generator are part of the package. If the
    command runs on a terminal, it then serves the search page until you press Ctrl-C. It does not
    serve the page with --json, or if the environment variable CI is set.
    """
    from skytext.cli.atomic_file import naming
    from skytext.cli.caption import show_summary
    from skytext.cli.output import JobBar, note, print_json

    started = time.monotonic()
    resolved = make_config(config, settings)
    from skytext.run.caption_run import run_caption
    from skytext.run.plans.caption_plan import check_models, plan_caption

    # Check the models before the folder of an earlier demo is deleted.
    check_models(resolved)
    archive, table = _fresh(directory)
    note(f"1. generating {num_images} scenes → {archive}")
    with naming(archive):
        _generate(archive, num_images)
    plan = plan_caption([str(archive)], str(table), resolved)
    note(
        f"2. describing each scene in {resolved.caption.num_variants} variants with LLaVA in vLLM, "
        f"embedding with {plan.embed_model.name} → {table}"
    )
    with JobBar() as bar:

        def on_described(num_images: int) -> None:
            bar.on_described(num_images)
            _import_early(is_local=plan.embed_model.is_local)

        summary = run_caption(plan, on_progress=bar.on_progress, on_described=on_described)
    if not as_json:
        show_summary(plan, summary, says_next=False)
    note("3. building the vector index")
    searcher = _index_and_open(table, resolved)
    note("4. searching in words")
    searches = [(query, searcher.search(query, _NUM_HITS).hits) for query in _QUERIES]
    if not as_json:
        truth = _read_truth(archive)
        for query, hits in searches:
            _show(query, hits, truth)
    with naming(directory):
        picture = _draw(searches, archive, directory / _PICTURE)
    duration_s = time.monotonic() - started
    if as_json:
        shown = [
            {"query": query, "hits": [hit.to_json() for hit in hits]} for query, hits in searches
        ]
        found = {"searches": shown, "picture": str(picture), "demo_s": round(duration_s, 1)}
        print_json({**summary.to_json(), **found})
        return
    note(f"done in {duration_s:.0f} s. An image of the results: {picture}. What you can run next:")
    note(f'  skytext search {shlex.quote(str(table))} "a road beside a forest"')
    note(f"  skytext status {shlex.quote(str(table))}")
    if sys.stdin.isatty() and not os.environ.get("CI"):
        _serve(table, archive, resolved)


@functools.cache
def _import_early(*, is_local: bool) -> None:
    """Start to import the library that embeds the queries.

    The import takes eight seconds on one core. The start of the engine leaves a core idle.

    Args:
        is_local: true if the embedding model is in a local folder.
    """
    if is_local:
        # The library reads this variable only once, when it is imported.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    thread = threading.Thread(
        target=importlib.import_module, args=("sentence_transformers",), daemon=True
    )
    thread.start()


def _serve(table: Path, archive: Path, config: Config) -> None:
    """Serve the search page until the user presses Ctrl-C."""
    from skytext.cli.output import note
    from skytext.service.replicas.local_server import decide_access, find_port, serve_here
    from skytext.service.served_tables import TableSet

    roots = {"archive_roots": (str(archive),)}
    service = config.service.model_copy(update=roots)
    config = config.model_copy(update={"service": service})
    served = TableSet.parse([str(table)])
    config = decide_access(served, _HOST, None, config)
    note("5. serving the page; this takes a moment")
    serve_here(served, _HOST, find_port(_HOST, _PORT), config, note)


def _fresh(directory: Path) -> tuple[Path, Path]:
    """Create the folder of the demo. Return the paths of the archive and of the table in it.

    Raises:
        ConfigError: the folder exists, but it was not created by an earlier demo.
    """
    if directory.exists():
        if not (directory / _MARKER).is_file():
            raise ConfigError(
                f"{directory} exists, and skytext demo did not create it: name another folder with "
                "--dir"
            )
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    (directory / _MARKER).touch()
    return directory / "archive", directory / "table"


def _generate(archive: Path, num_images: int) -> None:
    from skytext.demo.scenes.generate import HELD_OUT_SEED
    from skytext.demo.shards import write_shards

    write_shards(
        archive,
        num_images=num_images,
        images_per_shard=_IMAGES_PER_SHARD,
        # These scenes were not in the training data of the demonstration checkpoint.
        seed=HELD_OUT_SEED + _FIRST_SCENE,
    )


def _index_and_open(table: Path, config: Config) -> Searcher:
    from skytext.search import Searcher
    from skytext.search.unrelated_questions import measure_chance
    from skytext.table.images_dataset import ImagesTable
    from skytext.table.indexes.build_indexes import build_indexes
    from skytext.table.location import TableLocation

    images = ImagesTable.open(TableLocation.parse(str(table)))
    measure_chance(images, config)
    # Such a small table needs no vector index. The demo builds one to show how it is done.
    changes: dict[str, Any] = {"vector": "always"}
    if "recall_queries" not in config.index.model_fields_set:
        changes["recall_queries"] = _RECALL_QUERIES
    index = config.index.model_copy(update=changes)
    build_indexes(images, index)
    return Searcher.open(str(table), index=index, search=config.search)


def _draw(searches: list[tuple[str, tuple[Hit, ...]]], archive: Path, path: Path) -> Path:
    """Draw the search results into an image file, and return its path."""
    from skytext.demo.pictures import Search, save_small, searches_picture

    found = [
        Search(query, [(_image(archive, hit.uri), hit.cosine) for hit in hits])
        for query, hits in searches
    ]
    save_small(searches_picture(found), path)
    return path


def _image(archive: Path, uri: str) -> Image.Image:
    from PIL import Image

    shard, member = Path(uri).name.split("#")
    with tarfile.open(archive / shard) as opened:
        content = opened.extractfile(member)
        if content is None:
            raise TableError(f"{uri} is not a regular file in its shard")
        return Image.open(io.BytesIO(content.read())).convert("RGB")


def _read_truth(archive: Path) -> dict[str, str]:
    """Return the ground truth of each scene as one line. The keys are ``SHARD#MEMBER``."""
    from skytext.demo.shards import TRUTH_NAME

    truth = {}
    for line in (archive / TRUTH_NAME).read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        truth[f"{record['shard']}#{record['member']}"] = _account(record["truth"])
    return truth


def _account(scene: dict[str, Any]) -> str:
    parts = [scene["land_cover"]]
    parts += [line["kind"] for line in scene["linear_features"]]
    parts += [
        f"{thing['count']} {thing['kind']} ({thing['position']})" for thing in scene["objects"]
    ]
    return ", ".join(part.replace("_", " ") for part in parts)


def _show(query: str, hits: tuple[Hit, ...], truth: dict[str, str]) -> None:
    from skytext.cli.output import answers

    answers.print(f"\n“{query}”", style="bold", markup=False)
    for rank, hit in enumerate(hits, start=1):
        name = Path(hit.uri).name
        found = f"  {rank}. {hit.cosine:.3f}  {name}  {hit.one_sentence}"
        in_truth = f"            ground truth: {truth.get(name, 'unknown')}"
        answers.print(found, markup=False, soft_wrap=True)
        answers.print(in_truth, style="dim", markup=False, soft_wrap=True)
