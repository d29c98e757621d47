"""Make and save the demonstration checkpoint: configuration, tokenizer, processor and weights.

The folder has the layout of published ``llava-hf`` checkpoints, so transformers and vLLM can load
it without changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from skytext.demo.scenes.generate import make_scene
from skytext.demo.scenes.truth_captions import PROMPT, describe, target_text
from skytext.models.torchvision_ops import watch_imports

# transformers imports torchvision and torchaudio. The PyPI builds of these two packages need a fix
# if torch is the CPU build. This call registers the fix, so it must come before the import of
# transformers.
watch_imports()

from transformers import LlavaConfig, PreTrainedTokenizerFast  # noqa: E402
from transformers import (  # noqa: E402
    LlavaForConditionalGeneration as LlavaForConditionalGeneration,
)

IMAGE_PX = 112
"""Side length of the model's input image in pixels."""
PATCH_PX = 14
"""Side length of one patch in pixels."""
NUM_IMAGE_TOKENS = (IMAGE_PX // PATCH_PX) ** 2
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Mean of each channel in the CLIP image processor, for values from 0 to 1."""
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
"""Standard deviation of each channel in the CLIP image processor."""
MAX_TOKENS = 512
"""Maximum context length in tokens, including the image tokens."""

BOS, EOS, PAD, UNK, IMAGE = "<s>", "</s>", "<pad>", "<unk>", "<image>"
_SPECIAL_TOKENS = (UNK, BOS, EOS, PAD, IMAGE)
_VOCABULARY = 1024

# Keys that transformers writes into every configuration. This model does not need these keys.
_NOISE = (
    "_name_or_path",
    "chunk_size_feed_forward",
    "id2label",
    "is_encoder_decoder",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "return_dict",
)

# This is the template of llava-1.5-hf. It does not change the texts of messages, for example by
# removing spaces.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ 'ASSISTANT:' }}"
    "{% elif message['role'] == 'user' %}{{ 'USER: ' }}{% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>\\n' }}{% endif %}{% endfor %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ ' ' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


@dataclass(frozen=True)
class ModelShape:
    """Sizes of the network. The size of an attention head is always 64.

    Attributes:
        vision_width: Hidden size of the vision tower.
        vision_layers: Number of used layers of the vision tower. The checkpoint stores one more
            layer, because LLaVA reads the output of the second-last layer.
        vision_mlp: Inner size of the feed-forward layers of the vision tower.
        text_width: Hidden size of the text model.
        text_layers: Number of layers of the text model.
        text_mlp: Inner size of the feed-forward layers of the text model.
    """

    vision_width: int = 256
    vision_layers: int = 4
    vision_mlp: int = 640
    text_width: int = 256
    text_layers: int = 4
    text_mlp: int = 640


def prompt_text() -> str:
    """Return the training prompt as the chat template renders it. The image comes first."""
    return f"{BOS}USER: {IMAGE}\n{PROMPT} ASSISTANT:"


def training_texts(seeds: Iterable[int]) -> Iterator[str]:
    """Yield the prompt without special tokens. Then yield one target text for each seed."""
    yield f"USER: \n{PROMPT} ASSISTANT:"
    for seed in seeds:
        yield target_text(describe(make_scene(seed), np.random.default_rng((seed, 5))))


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Return the id of a token in the vocabulary.

    Raises:
        KeyError: The vocabulary does not contain the token.
    """
    found: int | None = tokenizer.token_to_id(token)
    if found is None:
        raise KeyError(f"the tokenizer has no token {token!r}")
    return found


def train_tokenizer(num_scenes: int = 20_000) -> Tokenizer:
    """Train a byte-level BPE tokenizer on the descriptions of the first ``num_scenes`` scenes."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=list(_SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_texts(range(num_scenes)), trainer)
    return tokenizer


def wrap_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Return the tokenizer for transformers, with its special tokens and its chat template."""
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        extra_special_tokens={"image_token": IMAGE},
        model_max_length=MAX_TOKENS,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def build_config(shape: ModelShape, tokenizer: Tokenizer) -> LlavaConfig:
    """Return the configuration of an untrained checkpoint."""
    ids = {token: token_id(tokenizer, token) for token in _SPECIAL_TOKENS}
    return LlavaConfig(
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": shape.vision_width,
            "intermediate_size": shape.vision_mlp,
            "num_hidden_layers": shape.vision_layers + 1,
            "num_attention_heads": shape.vision_width // 64,
            "image_size": IMAGE_PX,
            "patch_size": PATCH_PX,
            "projection_dim": shape.vision_width,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": shape.text_width,
            "intermediate_size": shape.text_mlp,
            "num_hidden_layers": shape.text_layers,
            "num_attention_heads": shape.text_width // 64,
            "num_key_value_heads": shape.text_width // 64,
            "head_dim": 64,
            "max_position_embeddings": MAX_TOKENS,
            "bos_token_id": ids[BOS],
            "eos_token_id": ids[EOS],
            "pad_token_id": ids[PAD],
            "tie_word_embeddings": False,
        },
        image_token_index=ids[IMAGE],
        image_seq_length=NUM_IMAGE_TOKENS,
        projector_hidden_act="gelu",
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
        bos_token_id=ids[BOS],
        eos_token_id=ids[EOS],
        pad_token_id=ids[PAD],
    )


def published_name(name: str) -> str:
    """Return the name that a parameter has in the published ``llava-hf`` checkpoints.

    transformers 5 uses different names for the modules (``model.vision_tower.embeddings…``), and
    saves checkpoints with its own names. vLLM reads only the published names.
    """
    if name.startswith("lm_head."):
        return f"language_model.{name}"
    bare = name.removeprefix("model.")
    for module, published in (
        ("language_model.", "language_model.model."),
        ("vision_tower.", "vision_tower.vision_model."),
    ):
        if bare.startswith(module) and not bare.startswith(published):
            return published + bare.removeprefix(module)
    return bare


def save_checkpoint(
    directory: Path, model: LlavaForConditionalGeneration, tokenizer: Tokenizer
) -> None:
    """Write a complete checkpoint folder, with weights in bfloat16."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {
        published_name(name): tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if not name.endswith("position_ids")
    }
    weights = directory / "model.safetensors"
    save_file(tensors, weights, metadata={"format": "pt"})
    # safetensors gives only the owner the permission to read the file. In an installed package, all
    # users must be able to read the file.
    weights.chmod(0o644)
    wrap_tokenizer(tokenizer).save_pretrained(directory)
    settings = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
    # transformers 5 would write the name "TokenizersBackend", which transformers 4 cannot load.
    # Both versions can load the names that are written here.
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "processor_class": "LlavaProcessor"}
    settings.pop("backend", None)
    _write_json(directory / "tokenizer_config.json", settings)
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    config = model.config.to_dict()
    config |= {"architectures": ["LlavaForConditionalGeneration"], "dtype": "bfloat16"}
    for part in (config, config["text_config"], config["vision_config"]):
        for key in _NOISE:
            part.pop(key, None)
    for part in (config["text_config"], config["vision_config"]):
        part |= {"dtype": "bfloat16"}
        part.pop("architectures", None)
    _write_json(directory / "config.json", config)
    _write_json(
        directory / "generation_config.json",
        {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        | {"max_new_tokens": 256},
    )
    image_processor = _image_processor()
    _write_json(directory / "preprocessor_config.json", image_processor)
    _write_json(
        directory / "processor_config.json",
        {
            "processor_class": "LlavaProcessor",
            "image_token": IMAGE,
            "patch_size": PATCH_PX,
            "vision_feature_select_strategy": "default",
            # The additional token is the class token. The strategy "default" removes this token.
            "num_additional_image_tokens": 1,
        },
    )


def _image_processor() -> dict[str, Any]:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "LlavaProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": IMAGE_PX},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": IMAGE_PX, "width": IMAGE_PX},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGE_MEAN),
        "image_std": list(IMAGE_STD),
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
