"""Build the captioner and the embedder that a configuration names."""

from __future__ import annotations

from skytext.config import CaptionConfig, EmbedConfig
from skytext.models.captioner import Captioner
from skytext.models.embedder import Embedder, SentenceEmbedder
from skytext.models.fakes import FakeEmbedder, FakeEngine, FakeOptions
from skytext.models.identity import ModelIdentity
from skytext.models.processes import EngineProcesses
from skytext.prompts import Prompt


def make_captioner(
    config: CaptionConfig,
    model: ModelIdentity,
    prompt: Prompt,
    processes: EngineProcesses | None = None,
) -> Captioner:
    """Start an engine and return its captioner.

    Args:
        config: what to run and how.
        model: the checkpoint.
        prompt: what is asked.
        processes: where to note the engine's processes; None where nobody else has to end them.

    Raises:
        ModelError: the checkpoint cannot be served.
        ConfigError: options that the engine does not know.
        JobError: it was not up in time.
    """
    if model.is_fake:
        options = FakeOptions.parse(model.name)
        return Captioner(FakeEngine(options, processes, config.engine.start_timeout_s), config)
    # Imported here: vLLM takes seconds, and a fake must work where it is not installed.
    from skytext.models.captioner_vllm import VllmEngine

    return Captioner(VllmEngine(config, model, prompt, processes), config)


def make_embedder(config: EmbedConfig, model: ModelIdentity) -> Embedder:
    """Load an embedder.

    Raises:
        ModelError: the model cannot be loaded.
    """
    if model.is_fake:
        return FakeEmbedder()
    return SentenceEmbedder(config, model)
