"""The forms that the kernels of a place are quickest at."""
