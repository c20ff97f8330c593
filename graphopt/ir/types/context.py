"""What is current, such as the Program that is being recorded, is so in one context only.

A context is a thread's or an asyncio task's: what one of them sets no other sees. A task starts
with what was current where it was made, a thread with the defaults, which are the process's own.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Generic, TypeVar

T = TypeVar("T")


class Setting(Generic[T]):
    """``with Setting(variable, value)``: inside, and in this context, the variable has the value.

    A class: a generator takes three times as long, and passes enter one for every op.
    """

    __slots__ = ("_token", "_value", "_variable")

    def __init__(self, variable: ContextVar[T], value: T) -> None:
        self._variable, self._value = variable, value

    def __enter__(self) -> None:
        self._token: Token[T] = self._variable.set(self._value)

    def __exit__(self, *raised: object) -> None:
        self._variable.reset(self._token)
