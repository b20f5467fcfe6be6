"""Functions of as many numbers as they have no results of, as right-hand sides, whose state and results are as many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Padded:
    """A function from a vector of `inputs` numbers to one of `outputs`, as a right-hand side of size `n`, the larger.

    Of a state the first `inputs` are the function's; of the results the first `outputs` are, and the others zero.

    Args:
        function: `function(t, x)`, or `function(t, x, p)`; x is (inputs,), the result (outputs,).
        of: what the function is made of, where to look for modules and captured tensors.
    """

    def __init__(self, function: Callable, inputs: int, outputs: int, of: tuple[Callable, ...] = ()):
        self.function, self.inputs, self.outputs, self.n = function, inputs, outputs, max(inputs, outputs)
        self.inner_functions = of or (function,)

    def __call__(self, t: torch.Tensor, z: torch.Tensor, *p: Any) -> torch.Tensor:
        y = self.function(t, z[: self.inputs] if self.inputs < self.n else z, *p)
        return y if self.outputs == self.n else torch.cat([y, y.new_zeros(self.n - self.outputs)])
