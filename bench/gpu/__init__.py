"""Measure LLaVA in its real size on a CUDA GPU, with dummy weights. See README.md."""
