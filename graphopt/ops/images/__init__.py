"""Ops on images: resizing, sampling, regions."""
