"""torch.compile of forward and backward, with the eager row's update."""

import torch

from tests.benchmarks.peers import NotOffered
from tests.benchmarks.peers.with_torch import Trainer, loss_of


def build(row, rate, batch_num):
    """A row ready to step."""
    if row.scan:
        raise NotOffered("no loop over steps that torch.compile would not unroll")
    compiled = torch.compile(loss_of, fullgraph=True)

    def gradients(row, parameters, x, y):
        loss = compiled(row, parameters, x, y)
        return loss.detach(), torch.autograd.grad(loss, parameters)

    return Trainer(row, rate, batch_num, gradients)
