"""Versioned prompt files: YAML with ``id``, ``one`` (one description) and ``all`` (all variants).

A used prompt is never edited; a new wording gets a new file and a new ``id``. Every row has the id;
the caption fingerprint has the hash of the content.
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
        prompt_id: the id, recorded in every row.
        one: the request for one description.
        all: the request for all variants at once, with the placeholder ``{num_variants}``; or None.
        sha256: hash of the file's bytes, hexadecimal.
    """

    prompt_id: str
    one: str
    all: str | None
    sha256: str

    def all_text(self, num_variants: int) -> str:
        """Return the request for ``num_variants`` descriptions in one answer.

        Raises:
            ConfigError: the prompt file has no ``all`` wording.
        """
        if self.all is None:
            raise ConfigError(
                f"prompt {self.prompt_id!r} has no 'all' wording: add one to the file, or set "
                "caption.variants_by to 'samples'"
            )
        return self.all.replace("{num_variants}", str(num_variants))


def available() -> list[str]:
    """Return the ids of the packaged prompts, sorted."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name[: -len(".yaml")] for file in files if file.name.endswith(".yaml"))


def load_prompt(name: str) -> Prompt:
    """Load a packaged prompt by its id, or any YAML file by its path.

    Raises:
        ConfigError: there is no such prompt or file, or its form is invalid.
    """
    if name in available():
        content = (resources.files(__name__) / f"{name}.yaml").read_bytes()
    else:
        try:
            content = Path(name).read_bytes()
        except OSError as error:
            raise ConfigError(
                f"prompt {name!r} is neither one of {', '.join(available())} nor a readable file "
                f"({error.strerror}): use one of these, or the path of your own prompt file"
            ) from error
    return _parse(name, content)


def _parse(name: str, content: bytes) -> Prompt:
    try:
        fields = parse_yaml(content)
    except ValueError as error:
        raise ConfigError(f"prompt file {name!r} is not YAML: {error}") from error
    known = {"id", "one", "all"}
    if (
        not isinstance(fields, dict)
        or not all(isinstance(fields.get(key), str) and fields[key] for key in ("id", "one"))
        or not isinstance(fields.get("all", ""), str)
        or set(fields) - known
    ):
        raise ConfigError(
            f"prompt file {name!r} must have the texts 'id' and 'one', may have 'all', nothing else"
        )
    return Prompt(
        prompt_id=fields["id"],
        one=fields["one"],
        all=fields.get("all"),
        sha256=hashlib.sha256(content).hexdigest(),
    )
