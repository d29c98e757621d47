"""The vLLM engine, for any vision-language model that vLLM supports.

It uses vLLM's public classes and works with the CPU and GPU builds of vLLM 0.26 to 0.33. It does
not use ``ray.data.llm``, for two reasons. First, each version of ``ray.data.llm`` needs one certain
version of vLLM. Second, ``AsyncLLM`` in an actor can batch the requests of many Ray blocks
together, so the batch stays full.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Sequence
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from PIL import Image

from skytext.captions.captioner import (
    Answer,
    Ask,
    EngineDiedError,
    EngineInfo,
    Generation,
)
from skytext.captions.parsing import guide_pattern
from skytext.captions.prompts import Prompt
from skytext.config.captioning import CaptionConfig
from skytext.errors import ModelError, Reason, SampleError, Stage
from skytext.models.checkpoints import ModelIdentity
from skytext.models.fingerprints import read_template
from skytext.models.torchvision_ops import declare_missing_ops
from skytext.models.vllm.processes import EngineProcesses
from skytext.models.vllm.start import set_environment, start_engine

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams

logger = logging.getLogger(__name__)

_CHECK_PX = 224
_CHECK_TOKENS = 4
# Parts of vLLM's messages for a prompt that is too long: of its input processor and its renderer.
_TOO_LONG = ("longer than the maximum", "maximum context length")
_GONE = "the process of vLLM's engine has died (its log lines show the cause)"


class VllmEngine:
    """One vLLM engine: its front end in this process, and its core in a child process.

    Args:
        config: the caption settings.
        model: the checkpoint.
        prompt: the caption prompt.
        processes: registers the engine's processes.

    Raises:
        ModelError: vLLM cannot serve the checkpoint, or the device has too little memory.
        JobError: the start took too long.
    """

    def __init__(
        self,
        config: CaptionConfig,
        model: ModelIdentity,
        prompt: Prompt,
        processes: EngineProcesses | None = None,
    ) -> None:
        set_environment(config, model)
        declare_missing_ops()
        import vllm
        from vllm.platforms import current_platform

        self._config = config
        self._prompt_by_objects: dict[int, str] = {}
        self._render = PromptRenderer(config, model, prompt)
        self._requests = itertools.count()
        self.num_signs = 0
        self._processes = processes or EngineProcesses()
        # The resource tracker belongs to this Python process. It must continue to run when an
        # engine ends, so start it before the engine's processes are registered.
        resource_tracker.ensure_running()
        self._processes.leave_out_running()
        self._engine = start_engine(
            config, model, self._processes, device=current_platform.device_type
        )
        precision = str(self._engine.model_config.dtype).removeprefix("torch.")
        self.info = EngineInfo(
            engine_version=f"vllm {vllm.__version__}",
            device=_device_name(current_platform),
            precision=precision,
        )

    async def generate(self, image: Image.Image, ask: Ask) -> Generation:
        """Answer one request. Image and prompt are processed once for all samples of the request.

        Raises:
            SampleError: vLLM rejected this request.
            EngineDiedError: the engine's core process has died.
        """
        from vllm.v1.engine.exceptions import EngineDeadError

        prompt = {
            "prompt": self._prompt(ask.objects_per_answer),
            "multi_modal_data": {"image": image},
        }
        request_id = f"{os.getpid()}-{next(self._requests)}"
        samples = _Samples()
        try:
            async for output in self._engine.generate(prompt, self.sampling(ask), request_id):
                self.num_signs += 1
                samples.add(output)
        except EngineDeadError as error:
            raise EngineDiedError(_GONE) from error
        except _refusals() as error:
            raise _refused(str(error)) from error
        except _failures() as error:
            if self._engine.errored:
                raise EngineDiedError(_GONE) from error
            cause = error.__cause__ or error
            raise _refused(f"vLLM rejected the image: {type(cause).__name__}: {cause}") from error
        if not samples.token_ids:
            raise SampleError(Stage.CAPTION, Reason.ENGINE_REFUSED, "the engine returned no output")
        return Generation(
            answers=[
                Answer(self._render.decode(samples.token_ids[i]), samples.finish_reasons.get(i))
                for i in sorted(samples.token_ids)
            ],
            num_prompt_tokens=samples.num_prompt_tokens,
            num_cached_tokens=samples.num_cached_tokens,
            num_output_tokens=sum(map(len, samples.token_ids.values())),
        )

    async def check(self) -> None:
        """Send one small request with a blank image. Call it before the first real image.

        The request finds errors that would otherwise fail every image of the archive: a prompt that
        is too long, or a template without a placeholder for the image.

        Raises:
            ModelError: the engine rejects the request.
            EngineDiedError: the engine's core process has died.
        """
        blank = Image.new("RGB", (_CHECK_PX, _CHECK_PX))
        objects = self._config.num_variants if self._config.variants_by == "one_request" else 1
        ask = Ask(1, objects, self._config.temperature, _CHECK_TOKENS, None)
        try:
            await self.generate(blank, ask)
        except SampleError as error:
            raise ModelError(
                f"the engine rejects even a blank image ({error.detail}): check --prompt, "
                "--chat-template and caption.engine.max_model_len"
            ) from error

    def close(self) -> None:
        """Stop the engine and wait until its processes have ended. The engine may be dead or hung.

        Raises:
            JobError: a process does not end.
        """
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.shutdown()
            # AsyncLLM.__del__ also calls shutdown(). When the interpreter exits, the modules that
            # shutdown() needs are already deleted, and it would print a TypeError on stderr.
            engine.shutdown = _nothing
        self._processes.end()

    def _prompt(self, num_objects: int) -> str:
        if num_objects not in self._prompt_by_objects:
            self._prompt_by_objects[num_objects] = self._render(num_objects)
        return self._prompt_by_objects[num_objects]

    def sampling(self, ask: Ask) -> SamplingParams:
        """Convert an `Ask` to vLLM's parameters. A subclass may change the sampling here."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        guide = None
        if self._config.structured_output:
            guide = StructuredOutputsParams(regex=guide_pattern(ask.objects_per_answer))
        return SamplingParams(
            n=ask.num_samples,
            temperature=ask.temperature,
            top_p=self._config.top_p,
            max_tokens=ask.max_tokens,
            seed=ask.seed,
            structured_outputs=guide,
            output_kind=RequestOutputKind.DELTA,
            # It costs the front end far less to decode each complete answer once than to decode
            # text after every token.
            detokenize=False,
        )


class _Samples:
    """Collects the answers to one request from vLLM's partial outputs."""

    def __init__(self) -> None:
        self.token_ids: dict[int, list[int]] = {}
        self.finish_reasons: dict[int, str | None] = {}
        self.num_prompt_tokens = 0
        self.num_cached_tokens = 0

    def add(self, output: RequestOutput) -> None:
        """Add a partial output, which contains only new tokens."""
        self.num_prompt_tokens = len(output.prompt_token_ids or ())
        self.num_cached_tokens = output.num_cached_tokens or 0
        for item in output.outputs:
            self.token_ids.setdefault(item.index, []).extend(item.token_ids)
            self.finish_reasons[item.index] = item.finish_reason


class PromptRenderer:
    """Renders the prompt with the checkpoint's chat template. The image comes before the text.

    Args:
        config: the caption settings.
        model: the checkpoint.
        prompt: the caption prompt.

    Raises:
        ModelError: the checkpoint has no processor that transformers can load.
        ConfigError: the chat template's file cannot be read.
    """

    def __init__(self, config: CaptionConfig, model: ModelIdentity, prompt: Prompt) -> None:
        from transformers import AutoProcessor

        self._prompt = prompt
        self._num_variants = config.num_variants
        revision = None if model.is_local else model.revision
        try:
            self._processor: Any = AutoProcessor.from_pretrained(model.source, revision=revision)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"model {model.name!r} has no processor that transformers can load: {error}"
            ) from error
        self._template = None
        if config.chat_template is not None:
            self._template = read_template(config.chat_template)

    def __call__(self, num_objects: int) -> str:
        """Return the prompt that requests ``num_objects`` variants per answer.

        Raises:
            ModelError: the chat template does not accept an image.
        """
        text = self._prompt.one if num_objects == 1 else self._prompt.all_text(num_objects)
        content = [{"type": "image"}, {"type": "text", "text": text}]
        options: dict[str, Any] = {"add_generation_prompt": True, "tokenize": False}
        if self._template is not None:
            options["chat_template"] = self._template
        try:
            rendered = self._processor.apply_chat_template(
                [{"role": "user", "content": content}], **options
            )
        except (ValueError, TypeError) as error:
            raise ModelError(
                f"the checkpoint's chat template is not usable ({error}): give a template that "
                "accepts an image with --chat-template FILE"
            ) from error
        return self._without_second_bos(str(rendered))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of an answer, without special tokens."""
        return str(self._processor.tokenizer.decode(token_ids, skip_special_tokens=True))

    def _without_second_bos(self, rendered: str) -> str:
        """Remove the beginning-of-sequence token if the tokenizer adds it too (Llama 3)."""
        tokenizer = self._processor.tokenizer
        bos = tokenizer.bos_token
        adds_bos = bos and tokenizer("").get("input_ids", [])[:1] == [tokenizer.bos_token_id]
        return rendered.removeprefix(bos) if adds_bos else rendered


def _nothing() -> None:
    """Do nothing: the engine is already shut down."""


def _refusals() -> tuple[type[Exception], ...]:
    """Return the exception classes with which vLLM rejects an invalid request.

    vLLM 0.26 raises ValueError. Later versions raise VLLMClientError, which is not a ValueError.
    """
    from vllm import exceptions

    return (ValueError, getattr(exceptions, "VLLMClientError", ValueError))


def _failures() -> tuple[type[Exception], ...]:
    """Return vLLM's exception classes for a request that failed. The engine may still run."""
    from vllm import exceptions
    from vllm.v1.engine.exceptions import EngineGenerateError

    # vLLM 0.33 raises GenerationError directly. Earlier versions wrap it in an EngineGenerateError.
    return (EngineGenerateError, getattr(exceptions, "GenerationError", EngineGenerateError))


def _refused(detail: str) -> SampleError:
    too_long = any(words in detail for words in _TOO_LONG)
    reason = Reason.PROMPT_TOO_LONG if too_long else Reason.ENGINE_REFUSED
    return SampleError(Stage.CAPTION, reason, detail)


def _device_name(platform: Any) -> str:
    if platform.device_type == "cpu":
        return "cpu"
    return str(platform.get_device_name(0))
