"""Ops that exist for the sake of a runtime's kernels."""
