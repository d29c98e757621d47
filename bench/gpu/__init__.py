"""Measure LLaVA at its real size on a CUDA machine, with dummy weights: see README.md here."""
