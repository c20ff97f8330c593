"""RUN: executor, scope and the only door to onnxruntime."""
