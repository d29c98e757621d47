"""Measure LLaVA models of real size on a CUDA GPU, with dummy weights. See README.md."""
