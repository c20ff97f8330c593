"""Programs, blocks, ops and variables."""
