"""Where a step's results lie, and in which order it runs."""
