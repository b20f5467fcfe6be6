"""A CasADi Function called on numpy memory, without copies through CasADi's own matrices (0.1 ms for 1,000 numbers)."""

from __future__ import annotations

import casadi as ca
import numpy as np


class NumpyFunction:
    """Calls `function` with float64 arrays, by the names of its inputs; gives all outputs by name.

    Inputs and outputs have CasADi's shapes (rows, columns); a vector may come flat. Inputs left out are zero.
    """

    def __init__(self, function: ca.Function):
        self.function = function
        self._inputs = {function.name_in(i): (i, function.size_in(i)) for i in range(function.n_in())}
        self._outputs = {
            function.name_out(i): (i, function.size_out(i), _places(function.sparsity_out(i)))
            for i in range(function.n_out())
        }  # fmt: skip

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs. Raises RuntimeError with CasADi's text if the function fails."""
        return self.counted(**inputs)[0]

    def counted(self, **inputs: np.ndarray) -> tuple[dict[str, np.ndarray], ca.FunctionBuffer]:
        """The outputs, and the buffer whose `stats()` tell what this call counted."""
        buffer, trigger = self.function.buffer()
        held = []  # the buffer keeps addresses only
        for name, value in inputs.items():
            place, (rows, columns) = self._inputs[name]
            flat = np.asarray(value, dtype=np.float64).ravel(order="F")
            if flat.size != rows * columns:
                raise ValueError(f"{name} holds {flat.size} numbers where {rows}x{columns} are needed")
            if flat.size:
                buffer.set_arg(place, memoryview(flat))  # type: ignore[arg-type]
                held.append(flat)
        results = {}
        for name, (place, shape, nonzeros) in self._outputs.items():
            flat = np.zeros(shape[0] * shape[1] if nonzeros is None else nonzeros.size)
            if flat.size:
                buffer.set_res(place, memoryview(flat))  # type: ignore[arg-type]
            results[name] = (flat, shape, nonzeros)
        trigger()
        return {name: _dense(*result) for name, result in results.items()}, buffer


def _places(sparsity: ca.Sparsity) -> np.ndarray | None:
    """Where the structural nonzeros lie in the column-major dense matrix; None if all are."""
    return None if sparsity.is_dense() else np.asarray(sparsity.find(), dtype=np.int64)


def _dense(flat: np.ndarray, shape: tuple[int, int], nonzeros: np.ndarray | None) -> np.ndarray:
    if nonzeros is not None:
        values, flat = flat, np.zeros(shape[0] * shape[1])
        flat[nonzeros] = values
    return flat.reshape(shape, order="F")
