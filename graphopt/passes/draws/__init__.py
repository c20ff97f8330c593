"""Random ops made plain."""
