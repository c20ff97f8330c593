"""Values that live between runs."""
