"""normalization cards."""
