"""SAY: layers and their functions."""
