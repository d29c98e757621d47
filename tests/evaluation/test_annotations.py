from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from skytext.errors import CallError
from skytext.evaluation.annotations import AnnotatedImage, Query, read_annotations, read_queries

DATA = os.environ.get("SKYTEXT_TEST_DATA")
needs_data = pytest.mark.skipif(
    not DATA, reason="SKYTEXT_TEST_DATA names no folder of public annotations"
)

IMAGES = (
    AnnotatedImage("a.tif", ("a river", "a brown river")),
    AnnotatedImage("b.tif", ("an airport", "planes")),
)


def write(path: Path, value: Any) -> Path:
    text = value if isinstance(value, str) else json.dumps(value)
    path.write_text(text, encoding="utf-8")
    return path


def karpathy(split: str = "test") -> dict[str, Any]:
    return {
        "dataset": "RSICD",
        "images": [
            {
                "filename": image.name,
                "split": split,
                "sentences": [{"raw": caption, "tokens": []} for caption in image.captions],
            }
            for image in IMAGES
        ],
    }


FORMS: dict[str, Any] = {
    "dataset_x.json": karpathy(),
    "captions.json": [
        {"filename": f"x/{image.name}", "captions": list(image.captions)} for image in IMAGES
    ],
    "label.json": [
        {"image": f"val\\{image.name}", "caption": list(image.captions)} for image in IMAGES
    ],
    "nwpu.csv": "filename,title\n/x/a.tif,a river\n/x/a.tif,a brown river\n"
    "/x/b.tif,an airport\n/x/b.tif,planes\n",
    "lines.jsonl": "\n".join(
        json.dumps({"image": image.name, "caption": caption})
        for image in IMAGES
        for caption in image.captions
    ),
    "val_caps.txt": "a river\na brown river\nan airport\nplanes\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_all_formats_give_the_same_annotations(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, FORMS[name])
    write(tmp_path / "val_filename.txt", "a.tif\na.tif\nb.tif\nb.tif\n")
    found = read_annotations([path])
    assert found.images == IMAGES
    assert found.num_captions == 4
    assert found.split == ("test" if name == "dataset_x.json" else None)
    assert found.benchmark == ("rsicd" if name == "dataset_x.json" else found.benchmark)


def test_either_file_of_a_pair_will_do(tmp_path: Path) -> None:
    caps = write(tmp_path / "val_caps.txt", "a river\r\n")
    names = write(tmp_path / "val_filename.txt", "a.tif\r\n")
    assert read_annotations([names]) == read_annotations([caps]) == read_annotations([caps, names])


def test_the_benchmark_is_detected_from_folders_for_any_path_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "RSITMD" / "annotations"
    (folder / "more").mkdir(parents=True)
    write(folder / "test_caps.txt", "a river\n")
    write(folder / "test_filename.txt", "a.tif\n")
    monkeypatch.chdir(folder)
    assert read_annotations([Path("test_caps.txt")]).benchmark == "rsitmd"
    assert read_annotations([Path("test_filename.txt")]).benchmark == "rsitmd"
    assert read_annotations([Path("more/../test_caps.txt")]).benchmark == "rsitmd"
    monkeypatch.chdir(folder / "more")
    assert read_annotations([Path("../test_caps.txt")]).benchmark == "rsitmd"
    # A hub cache has links to files in folders without meaningful names.
    blob = write(tmp_path / "0a1b2c", json.dumps(FORMS["captions.json"]))
    link = folder / "captions.json"
    link.symlink_to(blob)
    assert read_annotations([link]).benchmark == "rsitmd"


def test_a_named_benchmark_overrides_the_files(tmp_path: Path) -> None:
    path = write(tmp_path / "dataset_x.json", karpathy())
    assert read_annotations([path]).benchmark == "rsicd"
    assert read_annotations([path], benchmark="rsitmd").benchmark == "rsitmd"
    assert read_annotations([path], benchmark="none").benchmark is None
    with pytest.raises(CallError, match=r"--benchmark must be one of rsitmd, .*, none \(given: 'x"):
        read_annotations([path], benchmark="x")


def test_captions_without_a_word_are_ignored_and_counted(tmp_path: Path) -> None:
    caps = write(tmp_path / "val_caps.txt", "a river\n\n\n\n")
    write(tmp_path / "val_filename.txt", "a.tif\na.tif\nb.tif\nb.tif\n")
    found = read_annotations([caps])
    assert found.images == (AnnotatedImage("a.tif", ("a river",)),)
    assert found.num_empty_captions == 3


def test_a_split_is_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "dataset_x.json", karpathy("val"))
    assert read_annotations([path], "val").images == IMAGES
    assert read_annotations([path], "all").images == IMAGES
    with pytest.raises(
        CallError, match=r"no image in the split 'test': set --split to one of val \(2\)"
    ):
        read_annotations([path])


WRONG: dict[str, tuple[str, Any, str]] = {
    "no JSON": ("a.json", "{", "not JSON"),
    "no list": ("a.json", {"a": 1}, "must contain a JSON list, or a JSON object"),
    "no image": ("a.json", [{"caption": "x"}], "no image name"),
    "no captions": ("a.json", [{"image": "a.jpg"}], "no captions"),
    "number": ("a.json", [{"image": "a.jpg", "caption": [1]}], "one caption is not a string"),
    "unknown": ("a.xml", "<a/>", "unknown form"),
    "empty": ("a.json", [], "there are no captions in"),
    "same name": (
        "a.csv",
        "filename,title\nx/a.jpg,one\ny/a.jpg,two\n",
        r"two images with the file name 'a.jpg' \(x/a.jpg, y/a.jpg\)",
    ),
    "no pair": ("val_caps.txt", "a\nb\nc\n", "must have the same number of lines"),
    "commas": (
        "a.csv",
        "filename,title\na.jpg,a river\nb.jpg,a river, a road and a field\n",
        r"a\.csv, line 3 has more cells than the header: .* double quotes",
    ),
    "quote": ("a.csv", 'filename,title\na.jpg,"a river\nb.jpg,a road\n', "line 3 is not CSV"),
    "long": ("a.csv", f"filename,title\na.jpg,{'x' * 140_000}\n", "line 2 is not CSV: field"),
    "deep": ("a.json", "[" * 100_000, r"a\.json is nested too deeply"),
    "deep lines": ("a.jsonl", "[" * 100_000, r"a\.jsonl, line 1 is nested too deeply"),
    "surrogate": ("a.json", r'[{"image": "a", "caption": "x \ud800"}]', "not valid Unicode"),
    "surrogate name": ("a.jsonl", r'{"image": "\udfff.jpg", "caption": "x"}', "not valid Unicode"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_reported(tmp_path: Path, case: str) -> None:
    name, value, message = WRONG[case]
    write(tmp_path / "val_filename.txt", "a.jpg\n")
    with pytest.raises(CallError, match=message):
        read_annotations([write(tmp_path / name, value)])


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\x0b"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_only_newlines_end_a_line(tmp_path: Path, kind: str, end: str) -> None:
    caption = f"a river{end}beside a road"
    text = f'filename,title\na.jpg,{caption}\nb.jpg,"one, two"\n'
    query = f"query,image\n{caption},a.jpg\n"
    if kind == "jsonl":
        rows = [{"filename": "a.jpg", "title": caption}, {"filename": "b.jpg", "title": "one, two"}]
        text = "\n".join(json.dumps(row, ensure_ascii=end == "\x0b") for row in rows)
        query = json.dumps({"query": caption, "image": "a.jpg"}, ensure_ascii=end == "\x0b")
    assert read_annotations([write(tmp_path / f"a.{kind}", text)]).images == (
        AnnotatedImage("a.jpg", (caption,)),
        AnnotatedImage("b.jpg", ("one, two",)),
    )
    assert read_queries(write(tmp_path / f"q.{kind}", query)) == (Query(caption, ("a.jpg",)),)


def test_halves_of_a_pair_that_belong_together_are_one_character(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", r'[{"image": "a.jpg", "caption": "\ud83d\ude00 \\ud800"}]')
    assert read_annotations([path]).images[0].captions == (r"😀 \ud800",)


def test_one_image_in_two_files_is_ambiguous(tmp_path: Path) -> None:
    one = write(tmp_path / "one.json", FORMS["captions.json"])
    two = write(tmp_path / "dataset_x.json", karpathy())
    with pytest.raises(CallError, match=r"two images with the file name 'a\.tif'"):
        read_annotations([one, two])


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="there is no file"):
        read_annotations([tmp_path / "missing.json"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("q.csv", "query,image\na river,x/a.tif\na river,b.tif\nplanes,b.tif\n"),
        (
            "q.json",
            '[{"text": "a river", "images": ["x/a.tif", "b.tif"]}, '
            '{"text": "planes", "filename": "b.tif"}]',
        ),
        (
            "q.jsonl",
            '{"query": "a river", "images": ["a.tif", "b.tif"]}\n'
            '{"query": "planes", "image": "b.tif"}',
        ),
    ],
)
def test_queries_expect_images(tmp_path: Path, name: str, value: str) -> None:
    found = read_queries(write(tmp_path / name, value))
    assert found == (Query("a river", ("a.tif", "b.tif")), Query("planes", ("b.tif",)))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('{"image": "a.tif"}', "no query text"),
        ('{"query": "river"}', "no image"),
        ('{"query": "river", "images": []}', "has no expected image"),
        ("", "no queries"),
    ],
)
def test_wrong_queries_are_reported(tmp_path: Path, value: str, message: str) -> None:
    with pytest.raises(CallError, match=message):
        read_queries(write(tmp_path / "q.jsonl", value))


@needs_data
@pytest.mark.parametrize(
    ("path", "split", "benchmark", "num_images", "num_captions", "num_empty"),
    [
        ("rsicd/dataset_rsicd_val.json", "val", "rsicd", 1094, 5470, 0),
        ("rsicd/precomp/val_caps.txt", "test", "rsicd", 1094, 5470, 0),
        # One of the 859 images has five empty captions. The JSON files contain another split.
        ("rsitmd/val_caps.txt", "test", "rsitmd", 858, 4290, 5),
        ("rsitmd/val_captions_form.json", "test", "rsitmd", 856, 4280, 0),
        ("rsitmd/val_label_form.json", "test", "rsitmd", 856, 4280, 0),
        ("ucm/dataset_ucm.json", "all", "ucm", 2100, 10500, 0),
        ("ucm/dataset_ucm.json", "test", "ucm", 210, 1050, 0),
        ("sydney/dataset_sydney.json", "train", "sydney", 497, 2485, 0),
        ("sydney/dataset_sydney.json", "test", "sydney", 58, 290, 0),
        ("nwpu/nwpu_val.csv", "test", "nwpu", 2835, 14175, 0),
    ],
)
def test_the_public_files_are_read(
    path: str, split: str, benchmark: str, num_images: int, num_captions: int, num_empty: int
) -> None:
    found = read_annotations([Path(str(DATA), path)], split)
    assert found.benchmark == benchmark
    assert len(found.images) == num_images
    assert found.num_captions == num_captions
    assert found.num_empty_captions == num_empty
