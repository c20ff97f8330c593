"""Read a Program's text form back. ``parse(p.text())`` prints as ``p`` does."""

from __future__ import annotations

import json
import re
from typing import TypeAlias

import numpy as np

from graphopt.errors import GraphoptError, TextError, did_you_mean
from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator, Role
from graphopt.ir.model.program import Program
from graphopt.ir.model.schema import OpDef, op_def
from graphopt.ir.model.step import Step
from graphopt.ir.model.variable import Parameter, Variable
from graphopt.ir.types.types import (
    LONG_NAMES,
    PLAIN_NAME,
    STRING,
    TensorType,
    as_dtype,
    container,
    parse_type,
    to_onnx_dtype,
)
from graphopt.ir.types.where import UNKNOWN

KINDS = ("feed", "param", "frozen", "state", "var")
NUMBER = r"-?(?:\d+\.?\d*(?:e[+-]?\d+)?|inf|nan)(?![\w.@:/'+-])"
TOKEN = re.compile(
    rf"\s*(?:(?P<string>{STRING})|(?P<number>{NUMBER})|(?P<name>{PLAIN_NAME.pattern})"
    r"|(?P<mark><-|[\[\](),=:*])|(?P<comment>\#.*|$))",
    re.ASCII,
)
HEADER = re.compile(r"(?:program|step) : opset (\d+)\b")
STEP = re.compile(r"\s*step( :.*)?\n")  # the first line of a Step's text
BLOCK = re.compile(r"(\w+)\((.*)\):\s*(#.*)?$")
Token: TypeAlias = tuple[str, str]


def parse_step(text: str) -> Step:
    """A Step from its text, which begins with ``step`` and ends with what it gives.

    >>> s = parse_step('''
    ... step
    ... feed x : f32[2]
    ... state w : f32[2]
    ... v : f32[2] = Add(w, x)
    ... y : f32[2] = Exp(w)
    ... -> y, w <- v
    ... ''')
    >>> print(s.text(where=False))
    step : opset 21, 2 ops, 1 feed, 0 params
      feed x : f32[2]
      state w : f32[2]
      -- forward
      v : f32[2] = Add(w, x)
      y : f32[2] = Exp(w)
      -> y, w <- v

    Raises:
        TextError: a line cannot be read, or the text is a Program's.
    """
    found = parse(text)
    if not isinstance(found, Step):
        raise TextError("this is the text of a Program: a Step's begins with the line 'step'")
    return found


def parse(text: str) -> Program:
    """A Program, or a Step, from its text.

    Locations are lost; results keep the types that are written.

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
    reader = _Reader(Step() if STEP.match(text) else Program())
    for number, line in enumerate(text.splitlines(), 1):
        try:
            reader.read(line.strip())
        except (GraphoptError, ValueError, IndexError, KeyError, OverflowError) as error:
            reason = error.what if isinstance(error, GraphoptError) else error
            what = f"line {number} cannot be read: {line.strip()!r} ({reason})"
            raise TextError(what) from error
    return reader.program


class _Reader:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.block = self.program.global_block()
        self.role = Role.FORWARD
        self.tokens: list[Token] = []
        self.at = 0

    def read(self, line: str) -> None:
        if line.startswith("--"):
            self.role = Role(line[2:].split()[0])
        elif found := HEADER.match(line):
            self.program.opset = max(self.program.opset, int(found[1]))
        elif line == "step":
            pass
        elif found := BLOCK.match(line):
            self._open(found[1], tokenize(found[2]))
        elif line.startswith("->"):
            self._close(tokenize(line[2:]))
        else:
            self._line(tokenize(line))

    def _open(self, name: str, inputs: list[Token]) -> None:
        """A block of the last op begins."""
        op, block = self.block.ops[-1], Block(self.program, self.block)
        if name not in op.definition.attributes:
            raise TextError(f"{op.type} has no block {name!r}")
        op.attrs[name] = block
        block.enter(self.block)
        self.block = block
        self.tokens, self.at = inputs, 0
        while self.at < len(self.tokens):
            formal = self._name()
            self.expect(":")
            block.add_input(formal, self._type())
            self.accept(",")

    def _close(self, outputs: list[Token]) -> None:
        self.tokens, self.at = outputs, 0
        if self.block.parent is None:
            self._give()
            return
        while self.at < len(self.tokens):
            found = self._operand()
            if found is not None:
                self.block.outputs = [*self.block.outputs, found]
            self.accept(",")
        self.block = self.block.parent
        self.role = self.block.ops[-1].role

    def _give(self) -> None:
        """What a Step gives: fetched variables, and the next values of state."""
        if not isinstance(self.program, Step):
            raise TextError("no block is open here")
        fetch: list[Variable] = []
        next_state: dict[Variable, Variable] = {}
        while self.at < len(self.tokens):
            found = self._operand()
            assert found is not None, "what is given has a name"
            if self.accept("<-"):
                value = self._operand()
                assert value is not None, "what is given has a name"
                next_state[found] = value
            else:
                fetch.append(found)
            self.accept(",")
        self.program.fetch, self.program.next_state = fetch, next_state

    def _line(self, tokens: list[Token]) -> None:
        self.tokens, self.at = tokens, 0
        if not tokens:
            return
        kind, word = self.peek()
        if kind == "name" and word in KINDS and len(tokens) > 1 and tokens[1][0] != "mark":
            self._declare(self.next()[1])
        elif ("mark", "=") in tokens or ("mark", "<-") in tokens[:-1]:
            self._statement()
        else:
            self._further_result()
        if self.at < len(tokens):
            raise TextError(f"the line goes on after its end: {tokens[self.at][1]!r}")

    def peek(self) -> Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def next(self) -> Token:
        token = self.peek()
        if token[0] == "end":
            raise TextError("the line ends too early")
        self.at += 1
        return token

    def expect(self, mark: str) -> None:
        if not self.accept(mark):
            raise TextError(f"expected {mark!r}")

    def accept(self, mark: str) -> bool:
        found = self.peek() == ("mark", mark)
        self.at += found
        return found

    def _declare(self, kind: str) -> None:
        name = self._name()
        self.expect(":")
        tensor_type = self._type()
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

    def _name(self) -> str:
        kind, text = self.next()
        if kind not in ("name", "string"):
            raise TextError(f"expected a name, not {text!r}")
        return text

    def _type(self) -> TensorType:
        dtype = self._name()
        if self.accept("("):
            return self._container(dtype)
        self.expect("[")
        parts = []
        while not self.accept("]"):
            kind, text = self.next()
            parts.append(json.dumps(text) if kind == "string" else text)
        return parse_type(f"{dtype}[{' '.join(parts)}]")

    def _container(self, kind: str) -> TensorType:
        key = None
        if kind == "map":
            key = as_dtype(self._name())
            self.expect(",")
        element = self._type()
        self.expect(")")
        if kind not in ("seq", "optional", "map"):
            raise TextError(f"{kind!r} is not a type that holds others")
        return container(kind, element, key)

    def _statement(self) -> None:
        results = [self._result()]
        while self.accept(","):
            results.append(self._result())
        if not self.accept("<-") or self.peek() == ("mark", "="):
            self.expect("=")
        self.block.append(self._call(results))

    def _further_result(self) -> None:
        op = self.block.ops[-1]
        self.block.remove(op)
        op.outputs = [*op.outputs, self._result()]
        self.accept("<-")
        self.block.append(op)

    def _result(self) -> Variable | None:
        if self._word("_"):
            return None
        name = self._name()
        if self.accept(":"):
            found = self._type()
            variable = Variable(name, found, block=self.block, where=UNKNOWN)
            variable.stop_gradient = not found.is_float
            return variable
        return self._known(name)

    def _word(self, *words: str) -> str:
        """The next token if it is one of these, bare; else ''."""
        kind, text = self.peek()
        found = kind == "name" and text in words
        self.at += found
        return text if found else ""

    def _known(self, name: str) -> Variable:
        block: Block | None = self.block
        while block is not None:
            if name in block.vars:
                return block.vars[name]
            block = block.parent
        fix = did_you_mean(name, self.block.vars)
        raise TextError(f"no variable {name!r} is defined above", fix=fix)

    def _call(self, results: list[Variable | None]) -> Operator:
        type = self._name()
        definition = op_def(type, self.program.opset_of(type))
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
        if self._word("_"):
            return None
        kind, text = self.peek()
        bare = kind == "name" and text in ("true", "false", "const")
        if kind == "number" or (kind, text) == ("mark", "[") or bare or self._is_typed():
            return self.program.constant(self._literal())
        return self._known(self._name())

    def _is_typed(self) -> bool:
        """Whether a literal such as f64(2.0) follows."""
        kind, text = self.peek()
        follows = self.tokens[self.at + 1 : self.at + 2] == [("mark", "(")]
        return kind == "name" and text in LONG_NAMES and follows

    def _literal(self) -> np.ndarray:
        if self._word("const"):
            return self._empty()
        if not self._is_typed():
            return _natural(self._value())
        dtype = as_dtype(self._name())
        self.expect("(")
        value = self._value()
        self.expect(")")
        if dtype.kind != "c":
            return np.array(value, dtype)
        pairs = np.array(value, dtype.type(0).real.dtype)  # the last axis: real, imaginary
        if pairs.shape[-1:] != (2,):
            raise TextError("a complex number is written [real, imaginary]")
        return pairs.view(dtype)[..., 0]

    def _empty(self) -> np.ndarray:
        found = self._type()
        if not found.is_static or 0 not in (found.shape or ()):
            raise TextError("the values of a large constant are not in the text")
        return np.zeros(found.shape, found.dtype)  # type: ignore[arg-type]

    def _value(self) -> object:
        if self.accept("["):
            values = []
            while not self.accept("]"):
                values.append(self._value())
                self.accept(",")
            return values
        kind, text = self.next()
        if kind == "name" and text in ("true", "false"):
            return text == "true"
        if kind == "number":
            return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
        if kind == "mark":
            raise TextError(f"expected a value, not {text!r}")
        return text

    def _attr(self, definition: OpDef, name: str) -> object:
        kind = definition.attributes[name].kind
        if kind == "TENSOR":
            return self._literal()
        if kind == "TYPE_PROTO":
            return self._type()
        if word := self._word(*LONG_NAMES):
            return to_onnx_dtype(as_dtype(word))
        return self._value()


def _natural(value: object) -> np.ndarray:
    """The array of a literal without a dtype: bool, i64 or f32."""
    array = np.array(value)
    if array.size == 0 or array.dtype.kind == "i":
        return array.astype(np.int64)
    if array.dtype.kind not in "bf":
        raise TextError(f"{value!r} needs a dtype, such as str({value!r})")
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def tokenize(line: str) -> list[Token]:
    """Names, numbers, strings and marks of one line, without its comment."""
    tokens, position = [], 0
    while position < len(line):
        match = TOKEN.match(line, position)
        if match is None:
            raise TextError(f"unexpected {line[position:].lstrip()[:1]!r}")
        kind = match.lastgroup or ""
        if kind == "comment":
            break
        text = match[kind]
        tokens.append((kind, str(json.loads(text)) if kind == "string" else text))
        position = match.end()
    return tokens
