"""The demonstration: generated scenes, and a small packaged LLaVA checkpoint that describes them.

Importing this package loads neither torch nor transformers.
"""

from __future__ import annotations

from pathlib import Path

CHECKPOINT_PATH = Path(__file__).resolve().parent / "checkpoint"
"""Folder of the demonstration checkpoint, with the layout of published ``llava-hf`` checkpoints."""

__all__ = ["CHECKPOINT_PATH"]
