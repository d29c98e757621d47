"""Score the demonstration checkpoint on held-out scenes.

    python -m bench.demo_marks --output marks.json

The complete product describes a new archive of held-out scenes. It uses five variants for each
image, structured output and the configured temperature. The bare engine describes the same archive
without structured output, once with greedy decoding and once with sampling. The descriptions are
parsed and compared with the ground truth. Then the table is searched. The queries use different
words than the descriptions (see `skytext.demo.queries`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from skytext.captions.parsing import FINISH_STOP
from skytext.demo.queries import fact_set, question
from skytext.demo.scenes.generate import HELD_OUT_SEED, Scene, make_scene
from skytext.demo.shards import TRUTH_NAME, write_shards
from skytext.demo.training.score import FIELDS, DescriptionScore, score_description, summarise

FIRST_SEED = HELD_OUT_SEED + 200_000
"""Seed of the first scene for the published scores."""
_KS = (1, 5, 10)

Described = dict[int, list[dict[str, str] | None]]
"""The descriptions of each scene, by scene number. An invalid description is None."""


def main(
    num_images: Annotated[int, typer.Option(help="Number of held-out scenes.")] = 1000,
    first_seed: Annotated[int, typer.Option(help="Seed of the first scene.")] = FIRST_SEED,
    output: Annotated[
        Path | None, typer.Option(help="JSON file to which the result is also written.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Ignored, because there is always one run.")] = 1,
) -> None:
    """Score the descriptions with and without structured output. Also score the retrieval."""
    if first_seed < HELD_OUT_SEED:
        raise typer.BadParameter(
            f"seeds below {HELD_OUT_SEED} are for training: use this seed or a higher seed"
        )
    scenes = [make_scene(first_seed + number) for number in range(num_images)]
    with tempfile.TemporaryDirectory() as scratch:
        archive, table = Path(scratch) / "archive", Path(scratch) / "table"
        write_shards(archive, num_images=num_images, images_per_shard=250, seed=first_seed)
        raw = _raw_answers(archive, Path(scratch) / "raw.json")
        run = _run_product(archive, table)
        product = _read_table(table, archive)
        retrieval = _retrieval(table, archive, scenes)
    result = {
        "num_images": num_images,
        "first_seed": first_seed,
        "run": run,
        "product": _marks(scenes, product),
        "greedy, no guide": _marks(scenes, _read_raw(raw, "greedy")),
        "sampled, no guide": _marks(scenes, _read_raw(raw, "sampled")),
        "object kinds, greedy": _by_kind(scenes, _read_raw(raw, "greedy")),
        "retrieval": retrieval,
    }
    typer.echo(json.dumps(result, indent=2))
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _raw_answers(archive: Path, path: Path) -> list[dict[str, Any]]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "bench.raw_answers", str(archive), str(path)]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _read_raw(raw: list[dict[str, Any]], name: str) -> Described:
    return {
        number: [_parse(answer["text"], answer["finish_reason"]) for answer in answers[name]]
        for number, answers in enumerate(raw)
    }


def _parse(text: str, finish_reason: str | None) -> dict[str, str] | None:
    """Parse a description. Return None if the text is not a JSON object with all fields."""
    if finish_reason != FINISH_STOP:
        return None
    try:
        value: Any = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or tuple(value) != FIELDS:
        return None
    return value if all(isinstance(part, str) and part for part in value.values()) else None


def _run_product(archive: Path, table: Path) -> dict[str, Any]:
    from skytext.config.settings import load_config
    from skytext.run.caption_run import run_caption
    from skytext.run.plans.caption_plan import plan_caption

    summary = run_caption(plan_caption([str(archive)], str(table), load_config(None, {})))
    return {
        "num_ok": summary.num_ok,
        "num_failed": summary.num_failed,
        "num_variants": summary.num_variants,
        "duration_s": round(summary.duration_s, 1),
    }


def _numbers(archive: Path) -> dict[tuple[str, str], int]:
    lines = (archive / TRUTH_NAME).read_text(encoding="utf-8").splitlines()
    members = [(record["shard"], record["member"]) for record in map(json.loads, lines)]
    return {member: number for number, member in enumerate(members)}


def _read_table(table: Path, archive: Path) -> Described:
    from skytext.table.images_dataset import ImagesTable
    from skytext.table.location import TableLocation

    numbers = _numbers(archive)
    opened = ImagesTable.open(TableLocation.parse(str(table)))
    rows = opened.dataset.to_table(columns=["shard", "member", "captions"]).to_pylist()
    return {
        numbers[row["shard"], row["member"]]: [
            {name: variant[name] for name in FIELDS} for variant in row["captions"] or ()
        ]
        for row in rows
    }


def _marks(scenes: list[Scene], described: Described) -> dict[str, Any]:
    texts = [(scenes[number], text) for number, found in described.items() for text in found]
    # An invalid description names nothing. Therefore all facts about its scene are counted as not
    # named.
    scores = [score_description(scene, text or {}) for scene, text in texts]
    marks: dict[str, Any] = asdict(summarise(scores))
    marks["json_valid"] = sum(text is not None for _, text in texts) / len(texts)
    marks["all_right"] = sum(map(_all_right, scores)) / len(scores)
    return {key: round(value, 4) for key, value in marks.items()}


def _all_right(score: DescriptionScore) -> bool:
    return (
        score.land_cover_right
        and score.num_objects == score.num_objects_named == score.num_positions_right
        and score.num_lines == score.num_lines_named == score.num_orientations_right
    )


def _by_kind(scenes: list[Scene], described: Described) -> dict[str, dict[str, float]]:
    """Return the recall and the precision of each kind of object, sorted by recall."""
    from skytext.demo.training.score import read_description

    there, named, both = Counter[str](), Counter[str](), Counter[str]()
    for number, found in described.items():
        for text in found:
            truth = {group.kind for group in scenes[number].objects}
            described_kinds = set(read_description(text or {}).objects)
            there.update(truth)
            named.update(described_kinds)
            both.update(truth & described_kinds)
    kinds = sorted(there, key=lambda kind: both[kind] / there[kind])
    return {
        kind: {
            "num": there[kind],
            "recall": round(both[kind] / there[kind], 3),
            "precision": round(both[kind] / max(named[kind], 1), 3),
        }
        for kind in kinds
    }


def _retrieval(table: Path, archive: Path, scenes: list[Scene]) -> dict[str, Any]:
    from skytext.search import Searcher

    searcher = Searcher.open(str(table))
    numbers = _numbers(archive)
    facts = [fact_set(scene) for scene in scenes]
    times = Counter(facts)
    ranks: dict[bool, list[int | None]] = {True: [], False: []}
    for number, scene in enumerate(scenes):
        asked = question(scene, np.random.default_rng((scene.seed, 7)))
        hits = searcher.search(asked, max(_KS), exact=True, mode="dense").hits
        order = [_number_of(hit.uri, numbers) for hit in hits]
        rank = order.index(number) if number in order else None
        ranks[times[facts[number]] == 1].append(rank)
    return {
        "unique": _recalls(ranks[True]),
        "all": _recalls([*ranks[True], *ranks[False]]),
    }


def _number_of(uri: str, numbers: dict[tuple[str, str], int]) -> int:
    shard, member = Path(uri).name.split("#")
    return numbers[shard, member]


def _recalls(ranks: Iterable[int | None]) -> dict[str, float]:
    found = list(ranks)
    recalls = {
        f"R@{k}": sum(rank is not None and rank < k for rank in found) / max(len(found), 1)
        for k in _KS
    }
    mean = sum(recalls.values()) / len(_KS)
    return {"num_questions": len(found)} | {
        key: round(value, 4) for key, value in (recalls | {"mean": mean}).items()
    }


if __name__ == "__main__":
    typer.run(main)
