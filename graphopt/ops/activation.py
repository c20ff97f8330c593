"""activation cards."""
