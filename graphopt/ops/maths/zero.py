"""The explicit list of ops whose derivative is zero everywhere it exists, with the reason."""

from graphopt.ops.registry.registry import zero_gradient

zero_gradient(
    "piecewise constant",
    "Ceil", "Floor", "Hardmax", "Round", "Sign",
)  # fmt: skip
zero_gradient(
    "the result is an index, a truth value or a count",
    "And", "ArgMax", "ArgMin", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor",
    "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual",
    "NonMaxSuppression", "NonZero", "Not", "Or", "Shape", "Size", "Xor",
)  # fmt: skip
zero_gradient(
    "the result is quantized: it goes in steps",
    "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QuantizeLinear",
)  # fmt: skip
zero_gradient(
    "strings, or made of strings and integers",
    "ImageDecoder", "RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit",
    "TfIdfVectorizer",
)  # fmt: skip
zero_gradient(
    "the result does not depend on the values of float operands",
    "Constant", "ConstantOfShape", "EyeLike", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
)  # fmt: skip
zero_gradient(
    "a draw: its distribution depends on the operand, but each draw goes in steps",
    "Bernoulli", "Multinomial",
)  # fmt: skip
