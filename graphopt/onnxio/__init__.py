"""SPEAK: Programs as ONNX models and back."""
