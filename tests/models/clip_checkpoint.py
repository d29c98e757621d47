"""Make a CLIP model with about ten thousand random weights, in the format of transformers."""

from __future__ import annotations

from pathlib import Path

PROJECTION = 24
MAX_TOKENS = 32


def make_clip(folder: Path, *, seed: int = 0) -> Path:
    """Write a complete checkpoint with configuration, weights, tokenizer and image processor."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPProcessor,
        PreTrainedTokenizerFast,
    )

    special = ["<pad>", "<bos>", "<eos>", "<unk>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["a river beside a town"], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    width = {"hidden_size": 32, "intermediate_size": 64, "projection_dim": PROJECTION}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(seed)
    model = CLIPModel(
        CLIPConfig(
            text_config={
                **width,
                **layers,
                "vocab_size": tokenizer.get_vocab_size(),
                "max_position_embeddings": MAX_TOKENS,
                "pad_token_id": 0,
                "bos_token_id": 1,
                "eos_token_id": 2,
            },
            vision_config={**width, **layers, "image_size": 32, "patch_size": 8},
            projection_dim=PROJECTION,
        )
    )
    model.save_pretrained(folder)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        model_max_length=MAX_TOKENS,
    )
    pixels = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(image_processor=pixels, tokenizer=wrapped).save_pretrained(folder)
    return folder
