"""pooling cards."""
