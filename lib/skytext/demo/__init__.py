"""The demonstration: generated scenes, and a small LLaVA checkpoint that describes these scenes.

Importing this package loads neither torch nor transformers.
"""

from __future__ import annotations

from pathlib import Path

CHECKPOINT_PATH = Path(__file__).resolve().parent / "checkpoint"
"""Folder of the demonstration checkpoint. Its layout is that of published ``llava-hf`` models."""

__all__ = ["CHECKPOINT_PATH"]
