"""Elementwise functions, reductions and products."""
