"""The Executor and its cache."""
