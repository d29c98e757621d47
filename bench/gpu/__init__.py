"""LLaVA at its true size on a CUDA machine, with dummy weights: see README.md beside this file."""
