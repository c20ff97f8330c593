"""Read a Program's text form back. ``parse(p.text())`` prints as ``p`` does."""

from __future__ import annotations

import re
from typing import TypeAlias

import numpy as np

from graphopt.errors import GraphoptError, TextError, did_you_mean
from graphopt.ir.operator import Operator, Role
from graphopt.ir.program import Program
from graphopt.ir.schema import OpDef, op_def
from graphopt.ir.types import LONG_NAMES, as_dtype, parse_type, to_onnx_dtype
from graphopt.ir.variable import Parameter, Variable
from graphopt.ir.where import UNKNOWN

KINDS = ("feed", "param", "frozen", "state", "var")
TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<number>-?(?:\d+\.?\d*(?:e[+-]?\d+)?|inf|nan)\b\.?)"""
    r"""|(?P<name>[A-Za-z_][\w.@:/'+-]*)|(?P<mark><-|[\[\](),=:]))"""
)
Token: TypeAlias = tuple[str, str]


def parse(text: str) -> Program:
    """A Program from its text. Locations are lost; results keep the types that are written.

    >>> p = parse('''
    ... feed x : f32[N, 4]
    ... y : f32[N, 4] = Relu(x)
    ... ''')
    >>> print(p.text(where=False))
    program : opset 21, 1 op, 1 feed, 0 params
      feed x : f32[N, 4]
      -- forward
      y : f32[N, 4] = Relu(x)

    Raises:
        TextError: a line cannot be read; the message has its number.
    """
    reader = _Reader()
    for number, line in enumerate(text.splitlines(), 1):
        try:
            reader.read(line.split(" # ")[0].strip())
        except (GraphoptError, ValueError, IndexError, KeyError) as error:
            reason = error.what if isinstance(error, GraphoptError) else error
            what = f"line {number} cannot be read: {line.strip()!r} ({reason})"
            raise TextError(what) from error
    return reader.program


class _Reader:
    def __init__(self) -> None:
        self.program = Program()
        self.block = self.program.global_block()
        self.role = Role.FORWARD
        self.tokens: list[Token] = []
        self.at = 0

    def read(self, line: str) -> None:
        if not line or line.startswith(("program", "#")):
            return
        if line.startswith("--"):
            self.role = Role(line[2:].split()[0])
            return
        if line.startswith("block "):
            self.block = self.program.add_block(int(line.split()[-1]))
            return
        self.tokens, self.at = tokenize(line), 0
        if self.peek()[1] in KINDS and len(self.tokens) > 1 and self.tokens[1][1] not in ":=":
            self._declare(self.next()[1])
        else:
            self._statement(line)

    def peek(self) -> Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def next(self) -> Token:
        token = self.peek()
        self.at += 1
        return token

    def expect(self, mark: str) -> None:
        if self.next()[1] != mark:
            raise TextError(f"expected {mark!r}")

    def accept(self, mark: str) -> bool:
        found = self.peek() == ("mark", mark)
        self.at += found
        return found

    def _declare(self, kind: str) -> None:
        name = self.next()[1]
        self.expect(":")
        tensor_type = parse_type(self._type_text())
        if kind in ("param", "frozen"):
            self.block.add_var(
                Parameter(
                    name, tensor_type, block=self.block, where=UNKNOWN, trainable=kind == "param"
                )
            )
            return
        variable = Variable(name, tensor_type, block=self.block, where=UNKNOWN)
        variable.persistable = kind == "state"
        variable.is_data = kind == "feed"
        variable.stop_gradient = kind == "state" or not tensor_type.is_float
        self.block.add_var(variable)

    def _type_text(self) -> str:
        text = self.next()[1]
        self.expect("[")
        dims = []
        while not self.accept("]"):
            dims.append(self.next()[1])
            self.accept(",")
        return f"{text}[{', '.join(dims)}]"

    def _statement(self, line: str) -> None:
        if "(" not in line:
            self._further_result()
            return
        results = [self._result()]
        while self.accept(","):
            results.append(self._result())
        if not self.accept("<-"):
            self.expect("=")
        op = self._call(results)
        self.block.append(op)

    def _further_result(self) -> None:
        op = self.block.ops.pop()
        op.outputs = [*op.outputs, self._result()]
        self.block.append(op)

    def _result(self) -> Variable | None:
        name = self.next()[1]
        if name == "_":
            return None
        if self.accept(":"):
            found = parse_type(self._type_text())
            variable = Variable(name, found, block=self.block, where=UNKNOWN)
            variable.stop_gradient = not found.is_float
            return variable
        if len(self.tokens) > self.at + 1 and self.tokens[self.at + 1] == ("mark", "="):
            self.accept("<-")
        return self._known(name)

    def _known(self, name: str) -> Variable:
        for block in (self.block, *self.program.blocks):
            if name in block.vars:
                return block.vars[name]
        fix = did_you_mean(name, self.block.vars)
        raise TextError(f"no variable {name!r} is defined above", fix=fix)

    def _call(self, results: list[Variable | None]) -> Operator:
        definition = op_def(self.next()[1], self.program.opset)
        self.expect("(")
        inputs: list[Variable | None] = []
        attrs = {n: a.default for n, a in definition.attributes.items() if a.default is not None}
        while not self.accept(")"):
            if self.at + 1 < len(self.tokens) and self.tokens[self.at + 1] == ("mark", "="):
                name = self.next()[1]
                self.expect("=")
                attrs[name] = self._attr(definition, name)
            else:
                inputs.append(self._operand())
            self.accept(",")
        made_by = "" if self.role is Role.FORWARD else str(self.role)
        ordered = {n: attrs[n] for n in definition.attributes if n in attrs}
        return Operator(definition, inputs, results, ordered, self.role, UNKNOWN, made_by)

    def _operand(self) -> Variable | None:
        kind, text = self.peek()
        if text == "_":
            self.next()
            return None
        is_literal = kind == "number" or text in ("[", "true", "false")
        if is_literal or (text in LONG_NAMES and self.tokens[self.at + 1] == ("mark", "(")):
            return self.program.constant(self._literal())
        if text == "const":
            raise TextError("the values of a large constant are not in the text")
        self.next()
        return self._known(text)

    def _literal(self) -> np.ndarray:
        if self.peek()[1] in LONG_NAMES:
            dtype = as_dtype(self.next()[1])
            self.expect("(")
            value = self._value()
            self.expect(")")
            return np.array(value, dtype)
        value = self._value()
        array = np.array(value)
        if array.size == 0:
            return array.astype(np.int64)
        return array.astype(np.float32) if array.dtype == np.float64 else array

    def _value(self) -> object:
        kind, text = self.next()
        if (kind, text) == ("mark", "["):
            values = []
            while not self.accept("]"):
                values.append(self._value())
                self.accept(",")
            return values
        if text in ("true", "false"):
            return text == "true"
        if kind == "number":
            return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
        return text

    def _attr(self, definition: OpDef, name: str) -> object:
        kind = definition.attributes[name].kind
        if kind == "TENSOR":
            return self._literal()
        if self.peek()[1] in LONG_NAMES:
            return to_onnx_dtype(as_dtype(self.next()[1]))
        return self._value()


def tokenize(line: str) -> list[Token]:
    """Names, numbers, strings and marks of one line."""
    tokens, position = [], 0
    while position < len(line):
        match = TOKEN.match(line, position)
        if match is None:
            raise TextError(f"unexpected {line[position:].lstrip()[:1]!r}")
        kind = match.lastgroup or ""
        text = match[kind]
        tokens.append(("name", _unquoted(text)) if kind == "string" else (kind, text))
        position = match.end()
    return tokens


def _unquoted(text: str) -> str:
    return text[1:-1].encode().decode("unicode_escape")
