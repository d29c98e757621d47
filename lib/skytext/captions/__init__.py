"""Prompts, requests to a captioning model, and parsing of the answers.

This package does not use Ray or vLLM.
"""
