"""Measure the speed and the quality of text embedding on a CPU, for each precision.

To measure the speed, descriptions of generated scenes are embedded as in the job. The speed is
compared with a bare ``encode`` of the same model in float32. All methods run alternately in one
process. To measure the quality, real captions from the folder ``SKYTEXT_TEST_DATA`` are used as
queries. The other captions of an image represent the image. Repeated captions are removed. The
quality is the mean recall for text to image.

    python -m bench.search.embedding
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.search.vectors import Floats
from skytext.captions.parsing import Variant, document_text
from skytext.config.embedding import EmbedConfig
from skytext.models.checkpoints import embed_model
from skytext.models.text_embedder import SentenceEmbedder
from skytext.models.torchvision_ops import declare_missing_ops

if TYPE_CHECKING:
    from bench.search.sections import Bench

DATA = "SKYTEXT_TEST_DATA"
LIMIT = 0.1
"""Maximum loss of mean recall, in percentage points.

A precision with a larger loss cannot become the default.
"""
BARE = "bare encode, float32"
REFERENCE = "skytext, float32"
SETS = {
    "RSITMD": "rsitmd/val_caps.txt",
    "RSICD": "rsicd/dataset_rsicd_val.json",
}
_NUM_TEXTS = 512
_REPEATS = 3
_BATCH = 64

Encode = Callable[[list[str]], Floats]


def measure(bench: Bench) -> dict[str, Any]:
    """Run the measurement in a new process, in which no other threads run."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.search.embedding"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    """Print the result as one line of JSON."""
    if DATA not in os.environ:
        raise SystemExit(
            f"the environment variable {DATA} is not set: set it to the folder with the "
            "captions (see docs/benchmarks.md)"
        )
    with tempfile.TemporaryDirectory() as scratch:
        ways = make_ways(Path(scratch))
        rates = speeds(ways, scene_texts(_NUM_TEXTS), _REPEATS)
        # Skip the bare `encode`, because its vectors are the same as the vectors of skytext in the
        # same precision.
        asked = {name: encode for name, encode in ways.items() if not name.startswith("bare")}
        recalls = {name: mean_recalls(encode) for name, encode in asked.items()}
    print(json.dumps(summary(rates, recalls)))


def summary(rates: dict[str, float], recalls: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Compare all methods with the bare ``encode``, and choose a method.

    The chosen method is the fastest method that loses less than `LIMIT`.
    """
    found: dict[str, Any] = {}
    for name, rate in rates.items():
        found[name] = {"texts_per_s": round(rate, 1), "ratio": round(rate / rates[BARE], 3)}
        if name not in recalls:
            continue
        changes = {key: value - recalls[REFERENCE][key] for key, value in recalls[name].items()}
        found[name] |= {
            "mean_recall": {key: round(value, 3) for key, value in recalls[name].items()},
            "mean_recall_change": {key: round(value, 3) for key, value in changes.items()},
        }
    good = [name for name in recalls if min(found[name]["mean_recall_change"].values()) > -LIMIT]
    return {
        "mean_recall_sets": list(SETS),
        "ways": found,
        "chosen": max(good, key=lambda name: rates[name]),
        "limit": LIMIT,
    }


def speeds(ways: dict[str, Encode], texts: list[str], repeats: int) -> dict[str, float]:
    """Return the texts per second of each method. This is the median of ``repeats`` runs."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for encode in ways.values():
        encode(texts[:_BATCH])
    for _ in range(repeats):
        for name, encode in ways.items():
            started = time.perf_counter()
            encode(texts)
            times[name].append(time.perf_counter() - started)
    return {name: len(texts) / statistics.median(spans) for name, spans in times.items()}


def scene_texts(count: int) -> list[str]:
    """Return descriptions of generated scenes, in the text layout that the job uses."""
    from skytext.demo.scenes.generate import HELD_OUT_SEED, make_scene
    from skytext.demo.scenes.truth_captions import describe

    rng = np.random.default_rng(0)
    scenes = (make_scene(HELD_OUT_SEED + place) for place in range(count))
    return [document_text(Variant(**describe(scene, rng))) for scene in scenes]


def mean_recalls(encode: Encode) -> dict[str, float]:
    """Return the mean recall (at 1, 5 and 10) for text to image of each set, in percent."""
    from skytext.evaluation.annotations import ALL_SPLITS, read_annotations
    from skytext.evaluation.compared_setups import PAPER_RULE
    from skytext.evaluation.text_only import caption_vectors, text_only

    found = {}
    for name, path in SETS.items():
        annotations = read_annotations([Path(os.environ[DATA]) / path], split=ALL_SPLITS)
        vectors = caption_vectors(annotations, lambda texts: encode(list(texts)))
        asked = text_only(annotations, vectors, distinct=True)
        found[name] = float(np.mean(asked.directions[PAPER_RULE].recall("expected")))
    return found


def make_ways(scratch: Path) -> dict[str, Encode]:
    """Return all embedding methods, by name."""
    ways: dict[str, Encode] = {BARE: _bare("float32"), "bare encode, bfloat16": _bare("bfloat16")}
    for dtype in ("float32", "bfloat16"):
        ways[f"skytext, {dtype}"] = _skytext(dtype)
    ways["torch, int8 weights"] = _torch_int8()
    onnx = scratch / "model.onnx"
    _export(onnx)
    ways["ONNX, float32"] = _onnx(onnx)
    ways["ONNX, int8"] = _onnx(_quantised(onnx))
    return ways


def _model(dtype: Any) -> Any:
    declare_missing_ops()
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    source = embed_model(EmbedConfig()).source
    return SentenceTransformer(source, device="cpu", model_kwargs={"dtype": dtype})


def _encoder(model: Any) -> Encode:
    def encode(texts: list[str]) -> Floats:
        vectors = model.encode(
            texts, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False
        )
        vectors = np.asarray(vectors, dtype=np.float32)
        unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    return encode


def _bare(dtype: Any) -> Encode:
    return _encoder(_model(dtype))


def _skytext(dtype: str) -> Encode:
    config = EmbedConfig.model_validate({"dtype": dtype, "batch_size": _BATCH})
    embedder = SentenceEmbedder(config, embed_model(config))
    return lambda texts: embedder.embed_documents(texts).vectors


def _torch_int8() -> Encode:
    import torch

    model = _model("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.ao.quantization.quantize_dynamic(
            model[0].model, {torch.nn.Linear}, dtype=torch.qint8
        )
    model[0].model = module
    return _encoder(model)


_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def _require_onnx() -> None:
    if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")):
        raise SystemExit(
            "onnx and onnxruntime are not installed: run: pip install 'skytext[bench]'"
        )


def _export(path: Path) -> None:
    """Write the transformer, without pooling, as ONNX."""
    _require_onnx()
    import torch

    bert = _model("float32")[0].model

    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, *inputs: Any) -> Any:
            return self.bert(**dict(zip(_INPUTS, inputs, strict=True))).last_hidden_state

    sample = torch.ones((2, 8), dtype=torch.int64)
    with torch.inference_mode(), warnings.catch_warnings():
        # Ignore warnings of the tracer about branches, because every batch uses the same branches.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Hidden().eval(),
            (sample, sample, torch.zeros_like(sample)),
            str(path),
            input_names=list(_INPUTS),
            output_names=["hidden"],
            dynamic_axes={name: {0: "texts", 1: "tokens"} for name in (*_INPUTS, "hidden")},
            opset_version=17,
            dynamo=False,
        )


def _quantised(path: Path) -> Path:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = path.with_name("int8.onnx")
    # Suppress a warning. It recommends a step that has no effect for this model.
    logging.getLogger().setLevel(logging.ERROR)
    quantize_dynamic(path, target, weight_type=QuantType.QInt8)
    return target


def _onnx(path: Path) -> Encode:
    """Return the model with an ONNX session in place of the transformer."""
    import onnxruntime
    import torch
    from transformers.modeling_outputs import BaseModelOutput

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    model = _model("float32")

    class Session(torch.nn.Module):
        def __init__(self, config: Any) -> None:
            super().__init__()
            self.config = config

        def forward(self, **features: Any) -> Any:
            given = {name: features[name].numpy() for name in _INPUTS if name in features}
            if "token_type_ids" not in given:
                given["token_type_ids"] = np.zeros_like(given["input_ids"])
            (hidden,) = session.run(None, given)
            return BaseModelOutput(last_hidden_state=torch.from_numpy(hidden))

    model[0].model = Session(model[0].model.config)
    return _encoder(model)


if __name__ == "__main__":
    main()
