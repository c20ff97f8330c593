"""What passes are made of: walks, rewriting, liveness."""
