"""Read YAML that has one meaning only."""

from __future__ import annotations

from typing import Any

import yaml


def parse_yaml(text: str | bytes) -> Any:
    """Return the value of a YAML text.

    Args:
        text: bytes are UTF-8, or UTF-16 with its mark.

    Raises:
        ValueError: it is no YAML, nested too deeply, or has a key twice; in one line.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(" ".join(str(error).split())) from error


class _Loader(yaml.SafeLoader):
    """PyYAML's own takes the last value of a key, and a whole section is lost without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise ValueError(f"line {line} gives {key.value!r} a second time")
                seen.add(key.value)
        return node


# A package that vLLM imports (lm-format-enforcer) makes the shared loader read dates as texts.
_Loader.yaml_constructors = {
    **_Loader.yaml_constructors,
    "tag:yaml.org,2002:timestamp": yaml.SafeLoader.construct_yaml_timestamp,
}
