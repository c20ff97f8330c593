"""Reverse mode: gradients as ops of the same Program."""
