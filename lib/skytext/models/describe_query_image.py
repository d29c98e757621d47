"""Describe one image outside of a job, so that users can search with this image."""

from __future__ import annotations

import asyncio
from pathlib import Path

from PIL import Image

from skytext.captions.captioner import Description
from skytext.captions.parsing import Variant, document_text
from skytext.config.pixels import ImageConfig
from skytext.config.settings import Config
from skytext.errors import CallError, SampleError
from skytext.models.checkpoints import caption_model
from skytext.models.factory import make_captioner
from skytext.models.fingerprints import caption_fingerprint, prompt_of
from skytext.pixels.decode import ImageLimits, decode_rgb, normalise


def read_image(path: Path, images: ImageConfig) -> Image.Image:
    """Read an image file in the same way as a job.

    Args:
        path: a JPEG, PNG, WebP or TIFF file.
        images: the size limits for images.

    Raises:
        CallError: the file cannot be read, or the image is not accepted.
    """
    try:
        return decode_rgb(normalise(path.read_bytes(), ImageLimits.of(images)).data)
    except OSError as error:
        raise CallError(f"cannot read the image {path}: {error.strerror}") from error
    except SampleError as error:
        raise CallError(f"cannot use the image {path}: {error.detail}") from error


def describe_image(image: Image.Image, config: Config) -> tuple[Variant, ...]:
    """Start an engine, describe one image, and stop the engine.

    Args:
        image: the RGB image.
        config: the model and the caption settings.

    Raises:
        CallError: the model is not usable.
        JobError: the engine does not start, or it crashed repeatedly.
        SampleError: the engine returned no description.
    """
    return asyncio.run(_describe(image, config)).variants


async def _describe(image: Image.Image, config: Config) -> Description:
    caption = config.caption
    model, prompt = caption_model(caption), prompt_of(caption)
    if caption.seed is None:
        # An image must get the same description in each call. Otherwise the second page of hits
        # would belong to a different search than the first page.
        caption = caption.model_copy(update={"seed": 0})
    captioner = make_captioner(caption, model, prompt)
    try:
        return await captioner.describe(image, "query")
    finally:
        captioner.close()


def document_texts(variants: tuple[Variant, ...]) -> tuple[str, ...]:
    """Return one text to embed for each variant, for `SearchRequest.described`."""
    return tuple(document_text(variant) for variant in variants)


def fingerprint_of(config: Config) -> str:
    """Return the caption fingerprint of a configuration."""
    model, prompt = caption_model(config.caption), prompt_of(config.caption)
    return caption_fingerprint(config.caption, config.images, model, prompt)
