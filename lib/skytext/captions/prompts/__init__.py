"""Load versioned prompt files in YAML.

A prompt file has these keys: ``id``, ``one`` (the request for one description) and ``all`` (the
request for all variants). Never edit a prompt file that was already used. To change the wording,
add a new file with a new ``id``. The id is stored in every row. The hash of the file is part of the
caption fingerprint.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from skytext.config.yaml_text import parse_yaml
from skytext.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Prompt:
    """A caption prompt.

    Attributes:
        prompt_id: the id, which is stored in every row.
        one: the request for one description.
        all: the request for all variants in one answer, with the placeholder ``{num_variants}``.
            None if the file does not have the key ``all``.
        sha256: the SHA-256 of the prompt file, in hexadecimal.
    """

    prompt_id: str
    one: str
    all: str | None
    sha256: str

    def all_text(self, num_variants: int) -> str:
        """Return the request for ``num_variants`` descriptions in one answer.

        Raises:
            ConfigError: the prompt file has no key ``all``.
        """
        if self.all is None:
            raise ConfigError(
                f"the file of prompt {self.prompt_id!r} has no key 'all': add the key to the file, "
                "or set caption.variants_by to 'samples'"
            )
        return self.all.replace("{num_variants}", str(num_variants))


def available() -> list[str]:
    """Return the ids of the packaged prompts, sorted."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name[: -len(".yaml")] for file in files if file.name.endswith(".yaml"))


def load_prompt(name: str) -> Prompt:
    """Load a packaged prompt by its id, or any YAML file by its path.

    Raises:
        ConfigError: the prompt or the file does not exist, or the file is not a valid prompt file.
    """
    if name in available():
        content = (resources.files(__name__) / f"{name}.yaml").read_bytes()
    else:
        try:
            content = Path(name).read_bytes()
        except OSError as error:
            raise ConfigError(
                f"{name!r} is not the id of a packaged prompt, and cannot be read as a file "
                f"({error.strerror}): use one of the ids {', '.join(available())}, or the path "
                "of your own prompt file"
            ) from error
    return _parse(name, content)


def _parse(name: str, content: bytes) -> Prompt:
    try:
        fields = parse_yaml(content)
    except ValueError as error:
        raise ConfigError(f"the prompt file {name!r} is not YAML: {error}") from error
    known = {"id", "one", "all"}
    if (
        not isinstance(fields, dict)
        or not all(isinstance(fields.get(key), str) and fields[key] for key in ("id", "one"))
        or not isinstance(fields.get("all", ""), str)
        or set(fields) - known
    ):
        raise ConfigError(
            f"the prompt file {name!r} is not valid: it must have the keys 'id' and 'one', and "
            "may have the key 'all'. Other keys are not allowed. Each value must be a string"
        )
    return Prompt(
        prompt_id=fields["id"],
        one=fields["one"],
        all=fields.get("all"),
        sha256=hashlib.sha256(content).hexdigest(),
    )
