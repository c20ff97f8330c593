"""A Program printed, parsed, verified, or as a graph."""
