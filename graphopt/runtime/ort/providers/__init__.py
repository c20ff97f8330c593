"""The providers that graphopt knows by name, one file each: nowhere else are they named."""
