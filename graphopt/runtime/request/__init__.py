"""Feeds and fetches, checked."""
