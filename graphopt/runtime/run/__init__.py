"""A plan loaded into onnxruntime, and run."""
