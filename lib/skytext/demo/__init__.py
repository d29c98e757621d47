"""The embedded default: generated scenes, and a small LLaVA checkpoint that describes them.

Importing this package loads neither torch nor transformers.
"""

from __future__ import annotations

from pathlib import Path

CHECKPOINT_PATH = Path(__file__).resolve().parent / "checkpoint"
"""Folder of the demonstration checkpoint, laid out as the published ``llava-hf`` checkpoints."""

__all__ = ["CHECKPOINT_PATH"]
