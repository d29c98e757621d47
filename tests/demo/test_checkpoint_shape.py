"""Test the layout of the packaged checkpoint, and its descriptions of held-out scenes."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer

from skytext.demo import CHECKPOINT_PATH
from skytext.demo.checkpoint_shape import (
    IMAGE_PX,
    NUM_IMAGE_TOKENS,
    LlavaForConditionalGeneration,
    prompt_text,
    published_name,
)
from skytext.demo.scenes.generate import HELD_OUT_SEED, make_scene
from skytext.demo.scenes.truth_captions import PROMPT, describe, target_text
from skytext.demo.training.train import model_pixels, prompt_ids, score_held_out, shipped_image

MESSAGES = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": PROMPT}]}]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(CHECKPOINT_PATH / "tokenizer.json"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_folder_is_small_and_complete() -> None:
    names = {path.name for path in CHECKPOINT_PATH.iterdir()}
    assert {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    } <= names
    assert sum(path.stat().st_size for path in CHECKPOINT_PATH.iterdir()) <= 16 * 2**20


def test_parameters_have_the_published_names() -> None:
    with safe_open(CHECKPOINT_PATH / "model.safetensors", "pt") as weights:
        names = set(weights.keys())
        kinds = {str(weights.get_tensor(name).dtype) for name in names}
    assert kinds == {"torch.bfloat16"}
    assert {
        "vision_tower.vision_model.embeddings.patch_embedding.weight",
        "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
        "multi_modal_projector.linear_1.weight",
        "language_model.model.embed_tokens.weight",
        "language_model.model.layers.0.self_attn.q_proj.weight",
        "language_model.lm_head.weight",
    } <= names
    assert not any(name.startswith("model.") for name in names)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("lm_head.weight", "language_model.lm_head.weight"),
        ("model.language_model.norm.weight", "language_model.model.norm.weight"),
        ("model.vision_tower.embeddings.x", "vision_tower.vision_model.embeddings.x"),
        ("model.vision_tower.vision_model.x", "vision_tower.vision_model.x"),
        ("model.multi_modal_projector.linear_2.bias", "multi_modal_projector.linear_2.bias"),
    ],
)
def test_names_are_changed_as_vllm_reads_them(name: str, published: str) -> None:
    assert published_name(name) == published


def test_transformers_loads_every_weight() -> None:
    _, info = LlavaForConditionalGeneration.from_pretrained(
        CHECKPOINT_PATH, output_loading_info=True, local_files_only=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]


def test_processor_makes_what_the_model_was_trained_on(tokenizer: Tokenizer) -> None:
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(CHECKPOINT_PATH, local_files_only=True)
    text = processor.apply_chat_template(MESSAGES, add_generation_prompt=True)
    assert text == prompt_text()
    image = shipped_image(make_scene(HELD_OUT_SEED))
    inputs = processor(images=image, text=text, return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == prompt_ids(tokenizer)
    assert inputs["pixel_values"].shape == (1, 3, IMAGE_PX, IMAGE_PX)
    # The two resize functions round differently. The difference is at most one of 255 levels.
    assert np.abs(inputs["pixel_values"][0].float().numpy() - model_pixels(image)).max() < 0.03


def test_template_puts_text_out_as_it_came_in() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT_PATH, local_files_only=True)
    text = "  Ünïcode {{ braces }} <tags>\n\ttabs  "
    for content in (text, [{"type": "text", "text": text}]):
        conversation = [{"role": "user", "content": content}]
        rendered = tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=True
        )
        assert rendered == f"<s>USER: {text} ASSISTANT:"


def test_tokenizer_round_trips_any_text(tokenizer: Tokenizer) -> None:
    texts = [target_text(describe(make_scene(n), np.random.default_rng(n))) for n in range(20)]
    texts += ["naïve — 東京 🛰\n\t\x07", "  two  spaces ", json.dumps({"a": "\u2028"})]
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_descriptions_are_short(tokenizer: Tokenizer) -> None:
    lengths = [
        len(tokenizer.encode(target_text(describe(make_scene(n), np.random.default_rng(n)))).ids)
        for n in range(300)
    ]
    assert 60 < np.mean(lengths) < 100
    assert max(lengths) < 160
    assert NUM_IMAGE_TOKENS == 64


def test_it_describes_scenes_it_never_saw(tokenizer: Tokenizer) -> None:
    model = LlavaForConditionalGeneration.from_pretrained(CHECKPOINT_PATH, local_files_only=True)
    summary = score_held_out(model, tokenizer, num_scenes=16, first_seed=HELD_OUT_SEED + 50_000)
    assert summary.json_valid >= 0.95
    assert summary.land_cover >= 0.95
    assert summary.line_recall >= 0.85
    assert summary.object_recall >= 0.8
    assert summary.position >= 0.75


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, skytext.demo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
