"""Read YAML, and refuse YAML in which a key occurs twice."""

from __future__ import annotations

from typing import Any

import yaml


def parse_yaml(text: str | bytes) -> Any:
    """Return the value of a YAML text.

    Args:
        text: the YAML text. Bytes must be in UTF-8, or in UTF-16 with a byte order mark.

    Raises:
        ValueError: the text is not YAML, is nested too deeply, or contains a key twice. The message
            is one line.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(" ".join(str(error).split())) from error


class _Loader(yaml.SafeLoader):
    """A YAML loader that raises an error if a key occurs twice.

    PyYAML's own loader uses the last value of such a key, so a whole section could be lost without
    an error.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise ValueError(f"line {line} contains the key {key.value!r} a second time")
                seen.add(key.value)
        return node


# vLLM imports the package lm-format-enforcer, which changes PyYAML's loader so that it reads dates
# as strings. Restore the original constructor in this loader.
_Loader.yaml_constructors = {
    **_Loader.yaml_constructors,
    "tag:yaml.org,2002:timestamp": yaml.SafeLoader.construct_yaml_timestamp,
}
