"""Random Programs of smooth float64 ops in nested Ifs, Loops and Scans."""

from random import Random

import numpy as np

from graphopt.ir.edit import control
from graphopt.ir.model.program import Program

DEPTH = 2  # of control flow inside control flow
BUDGET = 12  # steps of all bodies together: nests would multiply them


class RandomProgram:
    """Fed x, w [3] and m [3, 3], a flag and a number n; ``target`` [] depends on x at least.

    Bodies read any value above them, give values back unchanged, exchanged, twice, or constants.
    """

    def __init__(self, random: Random):
        self.random = random
        self.program = Program()
        self.left = BUDGET
        dim = random.choice([3, None])
        draw = np.random.default_rng(random.randrange(100)).uniform
        self.feeds = {
            "x": draw(0.2, 1, 3),
            "w": draw(0.2, 1, 3),
            "m": draw(0.2, 1, (3, 3)),
            "flag": np.array(random.choice([False, True])),
            "n": np.array(random.randrange(4)),
        }
        fed = (self._feed(name, [dim] * v.ndim, v.dtype) for name, v in self.feeds.items())
        self.x, self.w, self.m, self.flag, self.n = fed
        self.wrt = [self.x, self.w, self.m]
        self.target = self._record(self.program.recorder())

    def _feed(self, name, shape, dtype):
        variable = self.program.global_block().create_var(name, shape, dtype)
        variable.is_data = True
        return variable

    def _record(self, g):
        floats, ints = [self.x, self.w], [self.n, g.const(1)]
        for _ in range(self.random.randint(2, 4)):
            self._step(g, floats, ints, DEPTH)
        parts = [self._number(g, v) for v in (self.x, *floats[-3:])]
        return g.Sum(*[g.Mul(p, p) for p in parts])

    def _pick(self, options):
        return self.random.choice(options)

    def _often(self):
        return self.random.random() < 0.7

    def _body(self, g, floats, ints, depth):
        """The values in reach at the end of a body."""
        floats, ints = list(floats), list(ints)
        for _ in range(self.random.randrange(4)):
            self._step(g, floats, ints, depth)
        return floats, ints

    def _step(self, g, floats, ints, depth):
        plain = [self._unary, self._binary, self._longer, self._count]
        nested = [self._if, self._loop, self._scan] if depth and self.left > 0 else []
        self.left -= 1
        self._pick([*plain, *nested, *nested])(g, floats, ints, depth - 1)

    def _unary(self, g, floats, ints, depth):
        op = self._pick([g.Sin, g.Cos, g.Tanh, g.Sigmoid, g.Neg, g.Identity])
        floats.append(op(self._pick(floats)))

    def _binary(self, g, floats, ints, depth):
        a, b = self._pick(floats), self._pick(floats)
        if a.tensor_type.shape != b.tensor_type.shape:
            b = self._number(g, b)
        floats.append(self._pick([g.Mul, g.Add, g.Sub])(a, g.Sin(b)))

    def _longer(self, g, floats, ints, depth):
        v = self._pick(floats)
        if v.tensor_type.shape != ():
            floats.append(g.Concat(v, g.Cos(v), axis=0))

    def _count(self, g, floats, ints, depth):
        ints.append(g.Add(self._pick(ints), self.random.randrange(3)))

    def _number(self, g, v):
        return g.Mul(g.ReduceSum(g.Sin(v), keepdims=0), np.float64(0.3))

    def _if(self, g, floats, ints, depth):
        """Results of the two branches may have different lengths."""
        count = self.random.randint(1, 2)
        conditions = [self.flag, g.Not(self.flag), g.Less(self._pick(ints), 2)]

        def branch(g):
            found, numbers = self._body(g, floats, ints, depth)
            vectors = [v for v in found if v.tensor_type.shape != ()]
            constant = np.full(self.random.randint(1, 3), 0.7)
            results = [self._pick([*vectors, constant]) for _ in range(count)]
            return [*results, self._pick(numbers)]

        *results, number = control.cond(g, self._pick(conditions), branch, branch)
        floats += [v for v in results if self._often()]
        ints.append(number)

    def _loop(self, g, floats, ints, depth):
        start = [self._pick(floats) for _ in range(self.random.randrange(4))]
        trips = self._pick([0, 1, 2, 3, self.n])
        numbers = self.random.randrange(3)

        def body(g, i, held):
            found, _ = self._body(g, [*floats, *held[:-1]], [*ints, held[-1], i], depth)
            after = [*self._next(g, held[:-1], found), g.Add(held[-1], 1)]
            return after, [self._number(g, self._pick(found)) for _ in range(numbers)]

        made = control.loop(g, trips, [*start, self._pick(ints)], body)
        floats += [v for v in made[: len(start)] if self._often()]
        ints.append(made[len(start)])
        floats += [v for v in made[len(start) + 1 :] if self._often()]

    def _scan(self, g, floats, ints, depth):
        start = [self._pick(floats) for _ in range(self.random.randrange(3))]
        scanned = [self._pick([self.m, self.x]) for _ in range(self.random.randint(1, 2))]

        def body(g, held, slices):
            found, _ = self._body(g, [*floats, *held, *slices], ints, depth)
            return self._next(g, held, found), [self._number(g, self._pick(found))]

        made = control.scan(g, start, scanned, body)
        floats += [v for v in made if self._often()]

    def _next(self, g, held, found):
        """The next values: as they were, exchanged, or others of the same types."""
        same = len({v.tensor_type for v in held}) <= 1
        if same and self.random.random() < 0.3:
            return held[::-1]
        return [
            self._pick([v for v in found if v.tensor_type == old.tensor_type])
            if self._often()
            else g.Mul(old, self._number(g, self._pick(found)))
            for old in held
        ]
