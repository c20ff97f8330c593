"""loss cards."""
