"""Bytes become tensors: safetensors files, and loading them into a model."""
