"""diffrax, where it can be imported (`pip install "jax[cpu]" diffrax`): pysciml does not depend on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import numpy as np
import torch

# Read when jax is first imported; everyone has one thread.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

HERE = find_spec("diffrax") is not None and find_spec("jax") is not None
LEFT_OUT = 'diffrax is left out: it is not installed here (pip install "jax[cpu]" diffrax).'


def version() -> str:
    import diffrax
    import jax

    return f"diffrax {diffrax.__version__} (jax {jax.__version__})"


def gradient(
    f: Callable, solver: str, parameters: Sequence[torch.Tensor], u0: torch.Tensor, ts: torch.Tensor,
    scale: torch.Tensor | float = 1.0, small: torch.Tensor | float = 1.0, max_steps: int = 4096,
) -> Callable[[float], torch.Tensor]:  # fmt: skip
    """The gradient, at a tolerance, of the mean square of the scaled states at `ts`; float64, compiled once for all.

    Args:
        f: `f(t, u, p)` in jax; p are the arrays of `parameters`. small: absolute tolerances over the relative one.
    """
    import diffrax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    times, start, factor = (jnp.asarray(np.asarray(x)) for x in (ts, u0, scale))
    least = jnp.asarray(np.asarray(small))
    p = [jnp.asarray(x.detach().numpy()) for x in parameters]

    def loss(p, tol):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(f), getattr(diffrax, solver)(), 0.0, times[-1], None if solver == "Tsit5" else 1e-4, start,
            p, saveat=diffrax.SaveAt(ts=times), max_steps=max_steps,
            stepsize_controller=diffrax.PIDController(rtol=tol, atol=tol * least),
            adjoint=diffrax.RecursiveCheckpointAdjoint(),
        )  # fmt: skip
        return jnp.mean((solution.ys * factor) ** 2)

    compiled = jax.jit(jax.grad(loss))

    def run(tol: float) -> torch.Tensor:
        return torch.cat([torch.from_numpy(np.array(x)).reshape(-1) for x in jax.block_until_ready(compiled(p, tol))])

    return run
