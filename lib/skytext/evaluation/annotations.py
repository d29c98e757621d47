"""Read annotation files of public benchmarks, and files of your own queries.

The supported formats:

* ``dataset_*.json``: ``{"dataset", "images": [{"filename", "sentences": [{"raw"}], "split"}]}``
* ``*_caps.txt`` beside ``*_filename.txt``: one caption per line, the image's name repeated
* a JSON list of ``{"filename" or "image", "captions" or "caption": text or list}``
* CSV ``filename,title`` and similar: one caption per row
* JSON lines of the same objects

Images are matched by file name without folder, because copies of a benchmark use other folders.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skytext.errors import CallError
from skytext.evaluation.input_files import read_json, read_json_lines, read_text

ALL_SPLITS = "all"
BENCHMARKS = ("rsitmd", "rsicd", "ucm", "sydney", "nwpu")
NO_BENCHMARK = "none"
_IMAGE_KEYS = ("filename", "image", "image_path", "file_name")
_CAPTION_KEYS = ("captions", "caption", "sentences", "title", "query", "text")
_CAPS, _FILENAME = "_caps.txt", "_filename.txt"


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """An image's name, without folder, and its captions in the file's order."""

    name: str
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Annotations:
    """The content of some annotation files.

    Attributes:
        benchmark: ``rsitmd``, ``rsicd``, ``ucm``, ``sydney`` or ``nwpu``, as given or from the
            names of the files and the two folders above them; None for none or an unknown one.
        split: the selected split; None if the files have no splits.
        images: those with at least one caption, in the files' order.
        num_empty_captions: number of captions without a word, which were ignored.
    """

    benchmark: str | None
    split: str | None
    images: tuple[AnnotatedImage, ...]
    num_empty_captions: int = 0

    @property
    def num_captions(self) -> int:
        """Number of captions."""
        return sum(len(image.captions) for image in self.images)


@dataclass(frozen=True, slots=True)
class Query:
    """A text and its expected images (names without folder), any of which is a hit."""

    text: str
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    image: str
    captions: list[str]
    split: str | None


def file_name(path: str) -> str:
    """Return the last part of an image's path, with either kind of slash."""
    return re.split(r"[/\\]", path.strip())[-1]


def read_annotations(
    paths: Sequence[Path], split: str = "test", benchmark: str | None = None
) -> Annotations:
    """Read annotation files as one benchmark.

    Args:
        paths: the files; for a ``*_caps.txt`` / ``*_filename.txt`` pair, one or both of them.
        split: the split to select, if the files have splits; ``all`` for all of them.
        benchmark: one of `BENCHMARKS`, or ``none``; None to use the files' names.

    Raises:
        CallError: a missing or malformed file, no image of the split, two images with the same
            name, or an unknown benchmark.
    """
    if benchmark is not None and benchmark not in (*BENCHMARKS, NO_BENCHMARK):
        known = ", ".join((*BENCHMARKS, NO_BENCHMARK))
        raise CallError(f"--benchmark must be one of {known} (given: {benchmark!r})")
    entries: list[_Entry] = []
    names = []
    for path in dict.fromkeys(_caps_path(path) for path in paths):
        dataset, found = _read(path)
        names.append(dataset or path.name)
        # Not resolve(): if a file is a link, the folders around the link have the benchmark's name.
        names.extend(Path(os.path.abspath(path)).parts[-3:-1])
        entries.extend(_of_split(path, found, split))
    images = _merged(entries)
    kept = []
    for name, captions in images.items():
        full = tuple(caption for caption in captions if caption.strip())
        if full:
            kept.append(AnnotatedImage(name, full))
    if not kept:
        raise CallError(f"no captions in {', '.join(map(str, paths))}")
    has_splits = any(entry.split is not None for entry in entries)
    total = sum(map(len, images.values()))
    return Annotations(
        benchmark=_benchmark(names if benchmark is None else [benchmark]),
        split=split if has_splits else None,
        images=tuple(kept),
        num_empty_captions=total - sum(len(image.captions) for image in kept),
    )


def read_queries(path: Path) -> tuple[Query, ...]:
    """Read queries and their expected images: CSV, JSON or JSON lines.

    Rows with the same text are one query with several expected images; in JSON, ``images`` may be
    a list.

    Raises:
        CallError: a missing or malformed file, or a query without text or image.
    """
    expected: dict[str, dict[str, None]] = {}
    for place, item in _items(path):
        images = item.get("images", _first(item, _IMAGE_KEYS))
        images = [images] if isinstance(images, str) else images
        text = _first(item, ("query", "text", "caption", "title"))
        if not isinstance(text, str) or not text.strip():
            raise CallError(f"{place}: no query text (expected one of query, text, caption, title)")
        if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
            raise CallError(f"{place}: no image (expected one of image, images, filename)")
        found = expected.setdefault(text.strip(), {})
        found.update(dict.fromkeys(file_name(image) for image in images if image.strip()))
    queries = tuple(Query(text, tuple(images)) for text, images in expected.items())
    for query in queries:
        if not query.images:
            raise CallError(f"{path}: the query {query.text!r} has no expected image")
    if not queries:
        raise CallError(f"no queries in {path}")
    return queries


def _caps_path(path: Path) -> Path:
    if path.name.endswith(_FILENAME):
        return path.with_name(path.name.removesuffix(_FILENAME) + _CAPS)
    return path


def _read(path: Path) -> tuple[str | None, list[_Entry]]:
    if path.name.endswith(_CAPS):
        return None, _read_caps(path)
    if path.suffix.lower() == ".json":
        value = read_json(read_text(path), str(path))
        if isinstance(value, dict) and isinstance(value.get("images"), list):
            named = value.get("dataset")
            items = value["images"]
            return named if isinstance(named, str) else None, [
                _entry(f"{path}, image {i}", item) for i, item in enumerate(items)
            ]
    return None, [_entry(place, item) for place, item in _items(path)]


def _read_caps(path: Path) -> list[_Entry]:
    beside = path.with_name(path.name.removesuffix(_CAPS) + _FILENAME)
    captions, names = read_text(path).split("\n"), read_text(beside).split("\n")
    for lines in (captions, names):
        if lines and not lines[-1].strip():
            lines.pop()
    # The last caption may be empty. Only the other file distinguishes it from the end of the file.
    captions += [""] * (len(names) - len(captions) if len(names) == len(captions) + 1 else 0)
    if len(captions) != len(names):
        raise CallError(
            f"{path} has {len(captions):,} lines, {beside} has {len(names):,}: they must be a pair"
        )
    return [_Entry(name, [text], None) for name, text in zip(names, captions, strict=True)]


def _items(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a CSV, a JSON list or JSON lines, each with its location."""
    for place, row in _rows(path):
        if not isinstance(row, dict):
            raise CallError(f"{place} is not an object")
        yield place, row


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    kind = path.suffix.lower()
    if kind == ".csv":
        yield from _csv_rows(path)
    elif kind == ".json":
        rows = read_json(read_text(path), str(path))
        if not isinstance(rows, list):
            raise CallError(f"{path}: neither a list nor an object with a list of images")
        for number, row in enumerate(rows, start=1):
            yield f"{path}, entry {number}", row
    elif kind in (".jsonl", ".ndjson"):
        yield from read_json_lines(path)
    else:
        raise CallError(
            f"{path}: unknown format; supported are dataset_*.json, *_caps.txt with "
            "*_filename.txt, .json, .jsonl and .csv"
        )


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    # Strict: otherwise an unclosed quote would combine all following lines in one caption.
    rows = csv.DictReader(io.StringIO(read_text(path)), strict=True)
    try:
        for row in rows:
            place = f"{path}, line {rows.line_num}"
            if rows.restkey in row:
                raise CallError(
                    f"{place} has more cells than the header: put a text with commas in double "
                    "quotes"
                )
            yield place, row
    except csv.Error as error:
        raise CallError(f"{path}, line {rows.reader.line_num} is not CSV: {error}") from error


def _entry(place: str, item: Any) -> _Entry:
    image = _first(item, _IMAGE_KEYS) if isinstance(item, dict) else None
    if not isinstance(image, str) or not image.strip():
        raise CallError(f"{place}: no image name (expected one of {', '.join(_IMAGE_KEYS)})")
    captions = _first(item, _CAPTION_KEYS)
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list):
        raise CallError(f"{place}: no captions (expected one of {', '.join(_CAPTION_KEYS)})")
    texts = [text.get("raw") if isinstance(text, dict) else text for text in captions]
    words = [text for text in texts if isinstance(text, str)]
    if len(words) != len(texts):
        raise CallError(f"{place}: a caption is not a text")
    split = item.get("split")
    return _Entry(image, words, split if isinstance(split, str) else None)


def _of_split(path: Path, entries: list[_Entry], split: str) -> list[_Entry]:
    splits = Counter(entry.split for entry in entries)
    if set(splits) <= {None} or split == ALL_SPLITS:
        return entries
    kept = [entry for entry in entries if entry.split == split]
    if not kept:
        there = ", ".join(f"{name} ({count:,})" for name, count in splits.items())
        raise CallError(f"{path} has no image of split {split!r}: --split one of {there}, or all")
    return kept


def _merged(entries: Iterable[_Entry]) -> dict[str, list[str]]:
    """Collect captions by image. Rows with the same path are merged; duplicate names are errors."""
    images: dict[str, list[str]] = {}
    paths: dict[str, str] = {}
    for entry in entries:
        name = file_name(entry.image)
        if not name:
            raise CallError("an annotation has no image file name")
        before = paths.setdefault(name, entry.image)
        if before != entry.image or (name in images and len(entry.captions) > 1):
            raise CallError(
                f"the annotations have two images named {name!r} ({before}, {entry.image}): images "
                "are matched by file name, so they cannot be distinguished"
            )
        images.setdefault(name, []).extend(entry.captions)
    return images


def _benchmark(names: Iterable[str]) -> str | None:
    words = " ".join(names).lower()
    found = [name for name in BENCHMARKS if re.search(rf"(?<![a-z]){name}(?![a-z])", words)]
    return found[0] if len(found) == 1 else None


def _first(item: dict[str, Any], keys: Sequence[str]) -> Any:
    return next((item[key] for key in keys if item.get(key) is not None), None)
