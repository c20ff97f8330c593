"""ASGD: stochastic average gradient."""

from __future__ import annotations

import numpy as np

from graphopt.clip import ClipGradBase
from graphopt.errors import ArgumentError, ArgumentTypeError, did_you_mean
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import TensorType
from graphopt.optimizer.optimizer import Optimizer, Parameters, RateLike, WeightDecay
from graphopt.optimizer.state import State
from graphopt.runtime.state.storages import STORAGES


class ASGD(Optimizer):
    """Steps along the mean of the last ``batch_num`` gradients.

    With g the gradient after clipping and regularization, i = m mod n and n = batch_num:
    d ← d - y[i] + g,  y[i] ← g,  m ← m + 1,  w ← w - lr d / min(m, n).
    Weight decay is part of g, hence of the table y. ``batch_num=1`` is plain SGD.

    State of each parameter w: ``w_d_0`` as w, ``w_y_0`` [n, *w], ``w_m_0`` int64 [1]; all zero.

    Schmidt, Le Roux, Bach: Minimizing Finite Sums with the Stochastic Average Gradient, 2017.

    Args:
        learning_rate: lr per step, as in ``Optimizer``.
        batch_num: n, the number of batches in an epoch.
        parameters: as in ``Optimizer``.
        weight_decay: as in ``Optimizer``.
        grad_clip: as in ``Optimizer``.
        multi_precision: as in ``Optimizer``; d and y are float32 then.
        name: as in ``Optimizer``.
        history: where the rows of y are kept: on the ``"device"``, in ``"host"`` memory, or in a
            memory-mapped file on ``"disk"`` (in TMPDIR). A step reads one row and writes one; from
            the host or disk the next row is brought while a step runs.

    >>> import graphopt as go
    >>> main, startup = go.static.Program(), go.static.Program()
    >>> with go.static.program_guard(main, startup):
    ...     x = go.static.data("x", [None, 3])
    ...     loss = go.mean(go.static.nn.fc(x, 1))
    ...     ops, pairs = go.optimizer.ASGD(0.1, batch_num=4).minimize(loss)
    >>> [op.type for op in ops]
    ['ASGD', 'ASGD']
    >>> [(p.name, g.name) for p, g in pairs]
    [('fc_0.w_0', 'fc_0.w_0@GRAD'), ('fc_0.b_0', 'fc_0.b_0@GRAD')]

    Raises:
        ArgumentError: ``learning_rate`` or ``batch_num`` is None, or ``batch_num`` not positive;
            there is no such ``history``; a group of ``parameters`` is wrong.
        ArgumentTypeError: an argument has the wrong type.
    """

    def __init__(
        self,
        learning_rate: RateLike = 0.001,
        batch_num: int = 1,
        parameters: Parameters | None = None,
        weight_decay: WeightDecay | None = None,
        grad_clip: ClipGradBase | None = None,
        multi_precision: bool = False,
        name: str | None = None,
        history: str = "device",
    ) -> None:
        if learning_rate is None:
            raise ArgumentError("learning_rate must not be None", fix="e.g. 0.001")
        self._batch_num = _checked_batch_num(batch_num)
        if history not in STORAGES:
            raise ArgumentError(
                f"history must be one of {', '.join(STORAGES)}, not {history!r}",
                fix=did_you_mean(str(history), STORAGES) or 'e.g. "device"',
            )
        self._history = history
        super().__init__(learning_rate, parameters, weight_decay, grad_clip, multi_precision, name)

    def _update(self, state: State, w: Variable, dw: Variable, lr: Variable) -> None:
        d = state.new("d", w.tensor_type)
        y = state.new("y", TensorType(w.dtype, (self._batch_num, *w.shape)))
        m = state.new("m", TensorType(np.dtype("i8"), (1,)))
        for program in (state.g.program, state.startup):
            program.tables[y.name] = self._history
        state.g.emit("ASGD", w, dw, d, y, m, lr, into=[w, d, y, m])


def _checked_batch_num(batch_num: object) -> int:
    if batch_num is None:
        raise ArgumentError("batch_num must not be None", fix="e.g. 10")
    if isinstance(batch_num, bool) or not isinstance(batch_num, (int, np.integer)):
        raise ArgumentTypeError(f"batch_num must be an int, not {type(batch_num).__name__}")
    if batch_num <= 0:
        raise ArgumentError(f"batch_num must be positive, not {batch_num}")
    return int(batch_num)
