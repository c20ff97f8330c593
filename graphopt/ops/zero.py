"""The explicit list of ops whose derivative is zero everywhere it exists, with the reason."""

from graphopt.ops.registry import zero_gradient

zero_gradient(
    "piecewise constant",
    "Ceil", "Floor", "Round", "Sign",
)  # fmt: skip
zero_gradient(
    "the result is an index, a truth value or a count",
    "And", "ArgMax", "ArgMin", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor",
    "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "NonZero",
    "Not", "Or", "Shape", "Size", "Xor",
)  # fmt: skip
zero_gradient(
    "the result does not depend on the values of the operands",
    "ConstantOfShape", "EyeLike", "RandomNormalLike", "RandomUniformLike",
    "Bernoulli", "Multinomial",
)  # fmt: skip
