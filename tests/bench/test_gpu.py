"""Test the measurements for GPU machines, as far as this is possible without a GPU."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench.gpu.__main__ import _run_case
from bench.gpu.cases import FULL, LIMIT_S, SECTIONS, SMALL, Case, Load
from bench.gpu.correctness import MAX_NATS, Reference
from bench.gpu.engines import ask_of, load_images
from bench.gpu.fixed import AcceptAnything
from bench.gpu.report import read_results, table, write_results
from bench.gpu.run_case import make_config
from bench.gpu.shapes import SHAPES, model_config, write_checkpoint
from skytext.captions.captioner import Answer, EngineCaptioner, Generation
from skytext.config.settings import Config
from skytext.demo.scenes.generate import HELD_OUT_SEED, make_scene, render
from skytext.models.checkpoints import caption_model
from tests.models.vllm.vllm_names import installed

ROOT = Path(__file__).parents[2]
# These numbers are from the model cards of llava-hf/llava-1.5-7b-hf and
# llava-hf/llava-v1.6-mistral-7b-hf.
PUBLISHED = {"llava-1.5-7b": 7_063_427_072, "llava-next-7b": 7_566_747_648}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_shape_has_as_many_parameters_as_the_published_checkpoint(name: str) -> None:
    import torch
    import transformers

    config = dict(model_config(SHAPES[name]))
    kind = getattr(transformers, config["architectures"][0])
    with torch.device("meta"):
        model = kind(kind.config_class(**config))
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[name]


@pytest.mark.parametrize("name", SHAPES)
def test_a_checkpoint_has_a_processor_and_the_true_vocabulary(name: str, tmp_path: Path) -> None:
    from transformers import AutoProcessor

    shape = SHAPES[name]
    write_checkpoint(tmp_path, shape)
    processor: Any = AutoProcessor.from_pretrained(tmp_path)
    assert len(processor.tokenizer) == shape.num_base_tokens + 2
    assert processor.tokenizer.convert_tokens_to_ids("<image>") == shape.num_base_tokens
    side = shape.vision["image_size"]
    inputs = processor(images=Image.new("RGB", (side, side)), text="<image>\nDescribe.")
    grid = (side // shape.vision["patch_size"]) ** 2
    assert sum(token == shape.num_base_tokens for token in inputs["input_ids"][0]) >= grid
    # English has about one token per word. The other tokens of the vocabulary are also words.
    text = "Describe only what is visible. Do not guess names of places."
    assert len(processor.tokenizer(text)["input_ids"]) <= 1.5 * len(text.split())
    assert processor.tokenizer.decode([shape.num_base_tokens - 1]).split()
    assert caption_model(Config().caption.model_copy(update={"model": str(tmp_path)})).is_local


def test_any_answer_is_a_variant_and_none_repeats_another() -> None:
    accept = AcceptAnything(1)
    texts = ["", "one", "a river " * 500, "one", '{"one_sentence": "x"}']
    variants = [variant for text in texts for variant in accept(text, "length")]
    assert len({variant.folded() for variant in variants}) == len(texts)
    assert all(len(variant.caption.split()) <= 30 for variant in variants)
    assert len(AcceptAnything(5)("all in one", "length")) == 5


def test_a_captioner_takes_another_parser() -> None:
    import asyncio

    class Babbler:
        info: Any = None

        async def generate(self, image: Image.Image, ask: Any) -> Generation:
            return Generation([Answer("no JSON", "length")] * ask.num_samples, 1, 0, 5)

    captioner = EngineCaptioner(Babbler(), Config().caption, AcceptAnything(1))  # type: ignore[arg-type]
    description = asyncio.run(captioner.describe(Image.new("RGB", (8, 8)), "key"))
    assert (len(description.variants), description.attempts) == (5, 1)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("scale", [FULL, SMALL], ids=["full", "small"])
def test_every_case_has_settings_that_exist(section: str, scale: Any, work: Path) -> None:
    for case in SECTIONS[section]:
        config = make_config(case, scale, work)
        options = config.caption.engine.options
        assert (options.get("load_format") == "dummy") == (config.caption.model != "demo")
        assert set(options) <= engine_fields()
        for load in case.loads:
            num_tokens = load.num_tokens or scale.num_tokens
            assert ask_of(config, load, scale).max_tokens % num_tokens == 0


@cache
def engine_fields() -> set[str]:
    package = installed()
    if package is None:
        pytest.skip("vLLM is not installed")
    tree = ast.parse((package / "engine" / "arg_utils.py").read_text(encoding="utf-8"))
    (found,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name == "EngineArgs"
    )
    fields = (item.target for item in found.body if isinstance(item, ast.AnnAssign))
    return {field.id for field in fields if isinstance(field, ast.Name)}


def test_names_are_unique_within_a_section() -> None:
    for cases in SECTIONS.values():
        assert len({case.name for case in cases}) == len(cases)
    assert LIMIT_S <= 480


def test_no_load_finds_its_images_in_a_cache() -> None:
    images = [Image.new("RGB", (112, 112), (i, 0, 0)) for i in range(SMALL.num_images)]
    first, second = (load_images(images, Load("x"), SMALL, number) for number in (1, 2))
    assert len({image.tobytes() for image in [*first, *second]}) == 2 * SMALL.num_images
    assert load_images(images, Load("x", size_px=(64, 32)), SMALL, 1)[0].size == (64, 32)
    with pytest.raises(ValueError, match="12 images are needed"):
        load_images(images, Load("x", share=2.0), SMALL, 1)


def test_results_of_sections_are_kept_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "out" / "gpu.json"
    results = read_results(path)
    rate = {"tokens_per_s": 6500.0, "images_per_s": 10.0, "gpu_waited_share": 0.031}
    results["sections"]["job"] = {
        "cases": {
            "bare engine": {"kind": "bare", "loads": {"5 samples": rate | {"images_per_s": 8}}},
            "bare engine, 512": {"kind": "bare", "loads": {"5 samples": rate}},
            "whole job": {"kind": "job", "loads": {"5 samples": rate | {"images_per_s": 9.8}}},
        }
    }
    write_results(path, results)
    again = read_results(path)
    again["sections"]["fp8"] = {"cases": {"weights": {"skipped": "needs a CUDA GPU"}}}
    write_results(path, again)
    lines = table(read_results(path), price_per_hour=2.0).splitlines()
    assert len(lines) == 6
    # The job is compared with the best of the bare engines.
    assert "| job | whole job | 5 samples | 6,500 | 9.80 | 0.980 | 3.1% |" in lines[4]
    # At 10 images per second, a million images take 27.8 hours.
    assert lines[3].endswith("| 27.8 | 56 |")
    assert "needs a CUDA GPU" in lines[5]
    assert table(read_results(path), None).splitlines()[3].endswith("| 27.8 |  |")


def test_a_case_that_fails_is_a_result(tmp_path: Path) -> None:
    found = _run_case("fp8", Case("nobody"), tmp_path, True, 60.0)
    assert "ValueError" in found["error"]
    assert found["error"].endswith("nobody: exit status 1")


def test_a_case_ends_at_its_sections_limit(tmp_path: Path) -> None:
    found = _run_case("embedding", SECTIONS["embedding"][0], tmp_path, True, 0.2)
    assert "because of the time limit of the section" in found["error"]
    assert (
        "time limit of the section was reached"
        in _run_case("fp8", Case("x"), tmp_path, True, 0.0)["error"]
    )


def test_gpu_cases_are_skipped_without_a_gpu(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert _run_case("fp8", Case("x", needs_gpu=True), tmp_path, True, 60.0) == {
        "skipped": "this case needs a CUDA GPU"
    }


def run(folder: Path, *sections: str) -> dict[str, Any]:
    """Run sections in the small size. Return their results."""
    output = folder / "gpu.json"
    only = ",".join(sections)
    done = subprocess.run(
        [sys.executable, "-m", "bench.gpu", "--small", "--only", only, "--output", str(output)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    results: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))["sections"]
    assert done.returncode == 0, json.dumps(results, indent=1)
    assert done.stdout.startswith("| section | case |")
    return results


def test_the_reference_finds_the_first_token_that_it_would_not_have_written() -> None:
    import torch

    reference = Reference()
    image = Image.fromarray(render(make_scene(HELD_OUT_SEED)))
    prompt = "<s>USER: <image>\nDescribe this remote sensing image as JSON. ASSISTANT:"
    inputs = reference._processor(images=image, text=prompt, return_tensors="pt")
    prompt_ids = inputs["input_ids"][0].tolist()
    with torch.inference_mode():
        whole = reference._model.generate(**inputs, max_new_tokens=24, do_sample=False)
    answer = whole[0, len(prompt_ids) :].tolist()
    assert reference.first_difference(prompt, image, prompt_ids, answer) is None
    found = reference.first_difference(prompt, image, prompt_ids, [*answer[:7], 5, *answer[8:]])
    assert found is not None
    assert found.position == 7
    assert found.nats > MAX_NATS
    with pytest.raises(RuntimeError, match="the prompt of the engine is"):
        reference.first_difference(prompt, image, prompt_ids[1:], answer)


@pytest.mark.proof
@pytest.mark.vllm
def test_the_engine_computes_what_the_reference_does(tmp_path: Path) -> None:
    found = run(tmp_path, "correctness")["correctness"]["cases"]["float32, greedy"]
    answers = found["loads"]["answers"]
    assert answers["num_images"] == SMALL.num_images
    assert answers["num_tokens"] > 40 * SMALL.num_images
    assert answers["num_equal"] >= SMALL.num_images // 2
    assert answers["largest_difference_nats"] < 0.05


@pytest.mark.proof
@pytest.mark.vllm
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_goes_through_without_a_gpu(section: str, tmp_path: Path) -> None:
    found = run(tmp_path, section)[section]["cases"]
    assert list(found) == [case.name for case in SECTIONS[section]]
    measured = {name: result["loads"] for name, result in found.items() if "loads" in result}
    assert measured
    assert all(found[case.name].get("skipped") for case in SECTIONS[section] if case.needs_gpu)
    for loads in measured.values():
        assert all(load["span_s"] > 0 for load in loads.values())
