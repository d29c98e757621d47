"""Read annotation files of public benchmarks, and files of your own queries.

These formats are supported:

* ``dataset_*.json``: ``{"dataset", "images": [{"filename", "sentences": [{"raw"}], "split"}]}``
* ``*_caps.txt`` and ``*_filename.txt`` in the same folder. Line n of the first file is a caption.
  Line n of the second file is the file name of the image with this caption.
* a JSON list of ``{"filename" or "image", "captions" or "caption": text or list}``
* JSON lines, where each line is an object with the same keys as in the JSON list
* CSV with columns such as ``filename,title``. Each row has one caption.

An image is found by its file name without folders, because different copies of a benchmark have
different folders.
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
    """The captions of one image.

    The file name of the image has no folder. The captions are in the order of the annotation file.
    """

    name: str
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Annotations:
    """The content of one or more annotation files.

    Attributes:
        benchmark: ``rsitmd``, ``rsicd``, ``ucm``, ``sydney`` or ``nwpu``. The caller gave this
            name, or the name was found in the path of a file. None if the annotations are not from
            a benchmark, or if the benchmark is unknown.
        split: the selected split. None if the files have no splits.
        images: the images that have at least one caption, in the order of the files.
        num_empty_captions: number of empty captions. Empty captions are ignored.
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
    """A query text and the file names (without folders) of its expected images.

    A result is a hit if it is one of the expected images.
    """

    text: str
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    image: str
    captions: list[str]
    split: str | None


def file_name(path: str) -> str:
    """Return the last part of an image's path. The path may use ``/`` or ``\\``."""
    return re.split(r"[/\\]", path.strip())[-1]


def read_annotations(
    paths: Sequence[Path], split: str = "test", benchmark: str | None = None
) -> Annotations:
    """Read one or more annotation files and combine them.

    Args:
        paths: the files. For a pair of ``*_caps.txt`` and ``*_filename.txt``, one of the two files
            is enough.
        split: the split to select, if the files have splits. ``all`` selects all splits.
        benchmark: one of `BENCHMARKS`, or ``none`` for no benchmark. If None, the name of the
            benchmark is searched in the paths of the files.

    Raises:
        CallError: a file is missing or malformed, the split has no images, two images have the same
            name, or the benchmark is unknown.
    """
    if benchmark is not None and benchmark not in (*BENCHMARKS, NO_BENCHMARK):
        known = ", ".join((*BENCHMARKS, NO_BENCHMARK))
        raise CallError(f"--benchmark must be one of {known} (given: {benchmark!r})")
    entries: list[_Entry] = []
    names = []
    for path in dict.fromkeys(_caps_path(path) for path in paths):
        dataset, found = _read(path)
        names.append(dataset or path.name)
        # Do not use resolve(). If a file is a symbolic link, the path of the link contains the name
        # of the benchmark. The path of the target may not contain this name.
        names.extend(Path(os.path.abspath(path)).parts[-3:-1])
        entries.extend(_of_split(path, found, split))
    images = _merged(entries)
    kept = []
    for name, captions in images.items():
        full = tuple(caption for caption in captions if caption.strip())
        if full:
            kept.append(AnnotatedImage(name, full))
    if not kept:
        raise CallError(f"there are no captions in {', '.join(map(str, paths))}")
    has_splits = any(entry.split is not None for entry in entries)
    total = sum(map(len, images.values()))
    return Annotations(
        benchmark=_benchmark(names if benchmark is None else [benchmark]),
        split=split if has_splits else None,
        images=tuple(kept),
        num_empty_captions=total - sum(len(image.captions) for image in kept),
    )


def read_queries(path: Path) -> tuple[Query, ...]:
    """Read queries and their expected images from a CSV, JSON or JSON lines file.

    Rows with the same text are combined to one query with several expected images. In JSON,
    ``images`` may be a list of file names.

    Raises:
        CallError: the file is missing or malformed, a query has no text, or a query has no image.
    """
    expected: dict[str, dict[str, None]] = {}
    for place, item in _items(path):
        images = item.get("images", _first(item, _IMAGE_KEYS))
        images = [images] if isinstance(images, str) else images
        text = _first(item, ("query", "text", "caption", "title"))
        if not isinstance(text, str) or not text.strip():
            raise CallError(
                f"{place} has no query text: expected one of the fields query, text, caption, title"
            )
        if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
            raise CallError(
                f"{place} has no image: expected one of the fields image, images, filename"
            )
        found = expected.setdefault(text.strip(), {})
        found.update(dict.fromkeys(file_name(image) for image in images if image.strip()))
    queries = tuple(Query(text, tuple(images)) for text, images in expected.items())
    for query in queries:
        if not query.images:
            raise CallError(f"{path}: the query {query.text!r} has no expected image")
    if not queries:
        raise CallError(f"there are no queries in {path}")
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
    # If the last caption is empty, its line cannot be distinguished from the end of the file. In
    # that case the file with the names has one more line.
    captions += [""] * (len(names) - len(captions) if len(names) == len(captions) + 1 else 0)
    if len(captions) != len(names):
        raise CallError(
            f"{path} has {len(captions):,} lines, but {beside} has {len(names):,} lines: both "
            "files must have the same number of lines"
        )
    return [_Entry(name, [text], None) for name, text in zip(names, captions, strict=True)]


def _items(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each object in a CSV, JSON or JSON lines file, with its location in the file."""
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
            raise CallError(
                f"{path} must contain a JSON list, or a JSON object with a list of images in the "
                "key 'images'"
            )
        for number, row in enumerate(rows, start=1):
            yield f"{path}, entry {number}", row
    elif kind in (".jsonl", ".ndjson"):
        yield from read_json_lines(path)
    else:
        raise CallError(
            f"{path} has an unknown format: use dataset_*.json, *_caps.txt with *_filename.txt, "
            ".json, .jsonl or .csv"
        )


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    # Use strict mode. Without strict mode, all lines after an unclosed quote would become one
    # caption.
    rows = csv.DictReader(io.StringIO(read_text(path)), strict=True)
    try:
        for row in rows:
            place = f"{path}, line {rows.line_num}"
            if rows.restkey in row:
                raise CallError(
                    f"{place} has more cells than the header: if a text contains commas, put "
                    "the text in double quotes"
                )
            yield place, row
    except csv.Error as error:
        raise CallError(f"{path}, line {rows.reader.line_num} is not CSV: {error}") from error


def _entry(place: str, item: Any) -> _Entry:
    image = _first(item, _IMAGE_KEYS) if isinstance(item, dict) else None
    if not isinstance(image, str) or not image.strip():
        raise CallError(
            f"{place} has no image name: expected one of the fields {', '.join(_IMAGE_KEYS)}"
        )
    captions = _first(item, _CAPTION_KEYS)
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list):
        raise CallError(
            f"{place} has no captions: expected one of the fields {', '.join(_CAPTION_KEYS)}"
        )
    texts = [text.get("raw") if isinstance(text, dict) else text for text in captions]
    words = [text for text in texts if isinstance(text, str)]
    if len(words) != len(texts):
        raise CallError(f"{place}: every caption must be a string, but one caption is not a string")
    split = item.get("split")
    return _Entry(image, words, split if isinstance(split, str) else None)


def _of_split(path: Path, entries: list[_Entry], split: str) -> list[_Entry]:
    splits = Counter(entry.split for entry in entries)
    if set(splits) <= {None} or split == ALL_SPLITS:
        return entries
    kept = [entry for entry in entries if entry.split == split]
    if not kept:
        there = ", ".join(f"{name} ({count:,})" for name, count in splits.items())
        raise CallError(
            f"{path} has no image in the split {split!r}: set --split to one of {there}, or to all"
        )
    return kept


def _merged(entries: Iterable[_Entry]) -> dict[str, list[str]]:
    """Return the captions of each image, by file name.

    The captions of rows with the same path are combined.

    Raises:
        CallError: two different paths have the same file name.
    """
    images: dict[str, list[str]] = {}
    paths: dict[str, str] = {}
    for entry in entries:
        name = file_name(entry.image)
        if not name:
            raise CallError("an annotation has no image file name")
        before = paths.setdefault(name, entry.image)
        if before != entry.image or (name in images and len(entry.captions) > 1):
            raise CallError(
                f"the annotations have two images with the file name {name!r} ({before}, "
                f"{entry.image}). These two images cannot be distinguished, because images are "
                "found by file name"
            )
        images.setdefault(name, []).extend(entry.captions)
    return images


def _benchmark(names: Iterable[str]) -> str | None:
    words = " ".join(names).lower()
    found = [name for name in BENCHMARKS if re.search(rf"(?<![a-z]){name}(?![a-z])", words)]
    return found[0] if len(found) == 1 else None


def _first(item: dict[str, Any], keys: Sequence[str]) -> Any:
    return next((item[key] for key in keys if item.get(key) is not None), None)
