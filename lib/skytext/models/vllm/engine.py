"""The vLLM engine, for any vision-language model that vLLM supports.

The module uses public classes of vLLM, and works with the CPU and GPU builds of vLLM 0.26 to 0.33.
The module does not use ``ray.data.llm``, for two reasons. First, each version of ``ray.data.llm``
needs one exact version of vLLM. Second, ``AsyncLLM`` in an actor can put the requests of many Ray
blocks into one batch, so that the batch is always full.
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
# Parts of the error messages with which vLLM rejects a prompt that is too long. The first message
# comes from the input processor, and the second message from the renderer.
_TOO_LONG = ("longer than the maximum", "maximum context length")
_GONE = "the process of the vLLM engine has died (the log lines of this process show the cause)"


class VllmEngine:
    """One vLLM engine. Its front end runs in this process, and its core runs in a child process.

    Args:
        config: the caption settings.
        model: the checkpoint.
        prompt: the caption prompt.
        processes: the object in which the processes of the engine are registered.

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
        # Python's resource tracker is a child process of this process. It must continue to run when
        # an engine ends. Therefore start the resource tracker before the processes of the engine
        # are registered.
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
        """Answer one request.

        The image and the prompt are processed once for all samples of the request.

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
        """Send one small request with a blank image. Call this method before the first real image.

        The request detects errors that would make every image of the archive fail. Examples are a
        prompt that is too long, and a template without a placeholder for the image.

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
                f"the engine rejects a blank test image ({error.detail}): check --prompt, "
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
            # shutdown() needs are already deleted. A second call of shutdown() would then print a
            # TypeError on stderr.
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
            # Decode each complete answer once. This takes the front end much less time than
            # decoding the text after every token.
            detokenize=False,
        )


class _Samples:
    """The answers to one request, which are built from the partial outputs of vLLM."""

    def __init__(self) -> None:
        self.token_ids: dict[int, list[int]] = {}
        self.finish_reasons: dict[int, str | None] = {}
        self.num_prompt_tokens = 0
        self.num_cached_tokens = 0

    def add(self, output: RequestOutput) -> None:
        """Add a partial output. It contains only the tokens after the previous partial output."""
        self.num_prompt_tokens = len(output.prompt_token_ids or ())
        self.num_cached_tokens = output.num_cached_tokens or 0
        for item in output.outputs:
            self.token_ids.setdefault(item.index, []).extend(item.token_ids)
            self.finish_reasons[item.index] = item.finish_reason


class PromptRenderer:
    """A function object that renders the prompt with the chat template of the checkpoint.

    In the prompt, the image comes before the text.

    Args:
        config: the caption settings.
        model: the checkpoint.
        prompt: the caption prompt.

    Raises:
        ModelError: the checkpoint has no processor that transformers can load.
        ConfigError: the file of the chat template cannot be read.
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
                f"the chat template of the checkpoint is not usable ({error}): use "
                "--chat-template FILE to give a template that accepts an image"
            ) from error
        return self._without_second_bos(str(rendered))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of an answer, without special tokens."""
        return str(self._processor.tokenizer.decode(token_ids, skip_special_tokens=True))

    def _without_second_bos(self, rendered: str) -> str:
        """Remove the beginning-of-sequence token if the tokenizer also adds it (as in Llama 3)."""
        tokenizer = self._processor.tokenizer
        bos = tokenizer.bos_token
        adds_bos = bos and tokenizer("").get("input_ids", [])[:1] == [tokenizer.bos_token_id]
        return rendered.removeprefix(bos) if adds_bos else rendered


def _nothing() -> None:
    """Do nothing. This function replaces ``shutdown`` of an engine that is already shut down."""


def _refusals() -> tuple[type[Exception], ...]:
    """Return the exception classes with which vLLM rejects an invalid request.

    vLLM 0.26 raises ValueError. Later versions raise VLLMClientError, which is not a ValueError.
    """
    from vllm import exceptions

    return (ValueError, getattr(exceptions, "VLLMClientError", ValueError))


def _failures() -> tuple[type[Exception], ...]:
    """Return the exception classes of vLLM for a failed request.

    After such an exception, the engine may still be running.
    """
    from vllm import exceptions
    from vllm.v1.engine.exceptions import EngineGenerateError

    # vLLM 0.33 raises GenerationError directly. Earlier versions wrap the GenerationError in an
    # EngineGenerateError.
    return (EngineGenerateError, getattr(exceptions, "GenerationError", EngineGenerateError))


def _refused(detail: str) -> SampleError:
    too_long = any(words in detail for words in _TOO_LONG)
    reason = Reason.PROMPT_TOO_LONG if too_long else Reason.ENGINE_REFUSED
    return SampleError(Stage.CAPTION, reason, detail)


def _device_name(platform: Any) -> str:
    if platform.device_type == "cpu":
        return "cpu"
    return str(platform.get_device_name(0))
