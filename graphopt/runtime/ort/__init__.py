"""onnxruntime: the only door to it."""
