"""conv cards."""
