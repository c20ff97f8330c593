"""A Program copied, switched between modes, or extended by bodies."""
