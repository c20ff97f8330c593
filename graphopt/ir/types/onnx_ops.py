"""The methods ``tape.MatMul(a, b)``, …: generated for type checkers in ``onnx_ops.pyi``.

At run time ``Tape.__getattr__`` makes them from onnx's schemas.
"""


class OnnxOps:
    """Base of Tape: one method per ONNX op, known to editors and type checkers only."""
