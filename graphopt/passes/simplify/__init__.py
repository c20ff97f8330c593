"""Fewer ops that mean the same, on every place."""
