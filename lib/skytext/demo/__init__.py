"""Generated scenes, and a small LLaVA checkpoint that describes them, for demonstrations.

An import of this package does not load torch or transformers.
"""

from __future__ import annotations

from pathlib import Path

CHECKPOINT_PATH = Path(__file__).resolve().parent / "checkpoint"
"""Folder of the demonstration checkpoint. It has the layout of published ``llava-hf`` models."""

__all__ = ["CHECKPOINT_PATH"]
