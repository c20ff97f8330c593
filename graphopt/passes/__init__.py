"""CHANGE: what extends a Program (backward, clip, regularize, update) and what rewrites one."""
