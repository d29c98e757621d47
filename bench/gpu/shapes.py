"""Write checkpoints with the real shapes of LLaVA but without weights.

The speed of generation does not depend on the values of the weights. A checkpoint folder contains
the same files as the published ``llava-hf`` checkpoints. These are the configuration, the image
processor, a tokenizer with the real vocabulary size, and the chat template. The file for the
weights is empty, so the option ``load_format: dummy`` of vLLM is required.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from skytext.captions.prompts import available, load_prompt
from skytext.demo.checkpoint_shape import CHAT_TEMPLATE, IMAGE_MEAN, IMAGE_STD, training_texts

UNK, BOS, EOS, IMAGE, PAD = "<unk>", "<s>", "</s>", "<image>", "<pad>"
_NUM_TEXTS = 200

_CLIP_L_336: dict[str, Any] = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
    "vocab_size": 32000,
}
_TINY_CLIP = _CLIP_L_336 | {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 112,
    "projection_dim": 128,
}
_PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]


@dataclass(frozen=True)
class Shape:
    """Sizes of a checkpoint.

    Attributes:
        family: the ``model_type`` in transformers, ``llava`` or ``llava_next``.
        text: the configuration of the text model.
        vision: the configuration of the vision tower.
        pinpoints: the image sizes that LLaVA-NeXT splits into tiles, as pairs (height, width) in
            pixels. Empty for other families.
        num_base_tokens: number of tokens in the vocabulary without the image token and the padding
            token. These two tokens come after all other tokens.
    """

    family: str
    text: dict[str, Any]
    vision: dict[str, Any]
    pinpoints: list[list[int]] = field(default_factory=list)
    num_base_tokens: int = 32000


# The values are copied from llava-hf/llava-1.5-7b-hf (Vicuna 7B, with the shape of Llama 2) and
# from llava-hf/llava-v1.6-mistral-7b-hf. Values that are missing there are defaults of
# transformers.
SHAPES = {
    "llava-1.5-7b": Shape(
        family="llava",
        text={
            "model_type": "llama",
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "vocab_size": 32064,
        },
        vision=_CLIP_L_336,
    ),
    "llava-next-7b": Shape(
        family="llava_next",
        text={
            "model_type": "mistral",
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 32768,
            "rope_theta": 1_000_000.0,
            "rms_norm_eps": 1e-5,
            "sliding_window": None,
            "vocab_size": 32064,
        },
        vision=_CLIP_L_336,
        pinpoints=_PINPOINTS,
    ),
    # This shape is for machines without a GPU. The files and the code paths are the same as for the
    # other shapes, and the size is a thousandth of their size.
    "llava-next-tiny": Shape(
        family="llava_next",
        text={
            "model_type": "mistral",
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 64,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "sliding_window": None,
            "vocab_size": 4064,
        },
        vision=_TINY_CLIP,
        pinpoints=[[height // 3, width // 3] for height, width in _PINPOINTS],
        num_base_tokens=4000,
    ),
}
_CLASSES = {
    "llava": ("LlavaForConditionalGeneration", "LlavaProcessor", "CLIPImageProcessor"),
    "llava_next": (
        "LlavaNextForConditionalGeneration",
        "LlavaNextProcessor",
        "LlavaNextImageProcessor",
    ),
}


def write_checkpoint(folder: Path, shape: Shape) -> None:
    """Write a checkpoint folder without weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(shape.num_base_tokens)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(folder / "config.json", model_config(shape))
    _, processor, _ = _CLASSES[shape.family]
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "processor_class": processor,
            "bos_token": BOS,
            "eos_token": EOS,
            "unk_token": UNK,
            "pad_token": PAD,
            "image_token": IMAGE,
            "extra_special_tokens": {"image_token": IMAGE},
            "model_max_length": shape.text["max_position_embeddings"],
            "padding_side": "left",
            "clean_up_tokenization_spaces": False,
        },
    )
    _write_json(folder / "preprocessor_config.json", _image_processor(shape))
    _write_json(
        folder / "processor_config.json",
        {
            "processor_class": processor,
            "image_token": IMAGE,
            "patch_size": shape.vision["patch_size"],
            "vision_feature_select_strategy": "default",
            # The additional token is the class token. The strategy "default" removes this token.
            "num_additional_image_tokens": 1,
        },
    )
    _write_json(
        folder / "generation_config.json",
        {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": shape.num_base_tokens + 1},
    )
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    # Write an empty weights file, because skytext rejects a checkpoint without a weights file.
    save_file({"empty": np.zeros(1, np.float32)}, folder / "model.safetensors")


def model_config(shape: Shape) -> dict[str, Any]:
    """Return the content of ``config.json``."""
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": shape.num_base_tokens + 1}
    text = {"hidden_act": "silu", "rope_theta": 10000.0, "tie_word_embeddings": False} | shape.text
    theta = text.pop("rope_theta")
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": theta}
    grid = (shape.vision["image_size"] // shape.vision["patch_size"]) ** 2
    config: dict[str, Any] = {
        "architectures": [_CLASSES[shape.family][0]],
        "model_type": shape.family,
        "dtype": "bfloat16",
        "text_config": text | ids | {"dtype": "bfloat16"},
        "vision_config": shape.vision | {"hidden_act": "quick_gelu", "dtype": "bfloat16"},
        "image_token_index": shape.num_base_tokens,
        "image_seq_length": grid,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": False,
    }
    if shape.pinpoints:
        config |= {"image_grid_pinpoints": shape.pinpoints, "use_image_newline_parameter": True}
    return config | ids


def make_tokenizer(num_base_tokens: int) -> Tokenizer:
    """Return a byte-level BPE tokenizer whose vocabulary has exactly the required size.

    The first part of the vocabulary contains the words of the prompts and of generated
    descriptions. As in a real tokenizer, a token is about one word. The second part contains pairs
    of these words. The tokenizer never uses a pair to encode a text, but a model with dummy weights
    writes pairs.
    """
    texts = [*training_texts(range(_NUM_TEXTS)), *_prompts()]
    learner = Tokenizer(models.BPE(unk_token=UNK))
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=num_base_tokens // 2,
        special_tokens=[UNK, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    vocabulary: dict[str, int] = learned["vocab"]
    words = sorted(word for word in vocabulary if word.startswith("Ġ") and word[1:].isalpha())
    pairs = (first + second for first in words for second in words)
    while len(vocabulary) < num_base_tokens:
        vocabulary.setdefault(next(pairs), len(vocabulary))
    merges = [tuple(merge) for merge in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in (UNK, BOS, EOS, IMAGE, PAD)]
    )
    return tokenizer


def _prompts() -> list[str]:
    prompts = [load_prompt(name) for name in available()]
    return [text for prompt in prompts for text in (prompt.one, prompt.all) if text is not None]


def _image_processor(shape: Shape) -> dict[str, Any]:
    side = shape.vision["image_size"]
    _, processor, image_processor = _CLASSES[shape.family]
    settings: dict[str, Any] = {
        "image_processor_type": image_processor,
        "processor_class": processor,
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGE_MEAN),
        "image_std": list(IMAGE_STD),
    }
    if shape.pinpoints:
        settings |= {"image_grid_pinpoints": shape.pinpoints, "do_pad": True}
    return settings


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
