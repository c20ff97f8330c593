"""Types, literals and source lines."""
