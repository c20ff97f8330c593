"""Sequences, optionals, control flow's bodies and quantized tensors."""
