"""Layers: parameters made in the default Programs, and what is recorded when they are called."""
