"""graphopt: a static-graph training compiler on stock ONNX Runtime."""
