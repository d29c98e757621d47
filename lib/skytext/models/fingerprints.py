"""Fingerprints. A fingerprint is a hash of all settings that change the output of a model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from skytext.captions.parsing import DOCUMENT_LAYOUT_ID
from skytext.captions.prompts import Prompt, load_prompt
from skytext.config.captioning import DEMO_MODEL, CaptionConfig
from skytext.config.pixels import ImageConfig
from skytext.errors import ConfigError
from skytext.models.checkpoints import ModelIdentity
from skytext.pixels.decode import PIXELS_VERSION

# The vLLM options that change the input or the weights of a model. All other options change only
# the speed.
_DECISIVE_OPTIONS = ("hf_overrides", "mm_processor_kwargs")


def prompt_of(config: CaptionConfig) -> Prompt:
    """Return the configured prompt, or the default prompt of the model.

    Raises:
        ConfigError: the configured prompt does not exist.
    """
    if config.prompt is not None:
        return load_prompt(config.prompt)
    return load_prompt("demo-1" if config.model == DEMO_MODEL else "rsrt-1")


def caption_fingerprint(
    config: CaptionConfig, images: ImageConfig, model: ModelIdentity, prompt: Prompt
) -> str:
    """Return the caption fingerprint.

    It is the hash of all settings for the model, the prompt, sampling and pixels that change a
    caption.

    Raises:
        ConfigError: the file of the chat template cannot be read.
    """
    return _fingerprint(
        {
            "model": model.revision if model.is_local else [model.source, model.revision],
            "prompt": prompt.sha256,
            "chat_template": _hash_template(config.chat_template),
            "engine": {name: config.engine.options.get(name) for name in _DECISIVE_OPTIONS},
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
            "pixels": _pixels(images),
        }
    )


def embedding_fingerprint(model: ModelIdentity) -> str:
    """Return the hash of the model, its prompts and the text layout, which change a text vector."""
    return _fingerprint(
        {
            "model": model.revision if model.is_local else [model.source, model.revision],
            "layout": DOCUMENT_LAYOUT_ID,
        }
    )


def image_embedding_fingerprint(model: ModelIdentity, images: ImageConfig) -> str:
    """Return the hash of the model and the pixel settings, which change an image vector."""
    return _fingerprint(
        {
            "model": model.revision if model.is_local else [model.source, model.revision],
            "pixels": _pixels(images),
        }
    )


def _pixels(images: ImageConfig) -> list[Any]:
    parts: list[Any] = [PIXELS_VERSION, images.max_side_px]
    # Add `bands` only if `bands` is set. Otherwise the fingerprint would differ from the
    # fingerprint of rows that were made before this setting existed.
    return parts if images.bands is None else [*parts, list(images.bands)]


def _hash_template(path: str | None) -> str | None:
    return None if path is None else hashlib.sha256(read_template(path).encode()).hexdigest()


def read_template(path: str) -> str:
    """Return a chat template.

    Args:
        path: the path of a template file, or the text of a template.

    Raises:
        ConfigError: the file cannot be read.
    """
    if "{{" in path or "{%" in path:
        return path
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the chat template {path}: {error}") from error


def _fingerprint(parts: dict[str, Any]) -> str:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
