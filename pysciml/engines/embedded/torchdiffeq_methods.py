"""torchdiffeq's methods, and what SciML's names and options are there."""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from pysciml.algorithms import REGISTRY, Algorithm, TorchDiffEq
from pysciml.errors import InvalidInputError, UnsupportedError

# torchdiffeq fits one polynomial of order 4 to the ends and the middle of a step. Where the middle is of lower order,
# or the steps are long for it (dopri8), saved states are off by some thousand times the tolerance.
WELL_INTERPOLATED = ("dopri5", "Tsit5", "tsit5")


def methods() -> dict[str, Any]:
    """torchdiffeq's solvers by its names. Imports torchdiffeq, and SciPy with it."""
    # `torchdiffeq._impl.odeint` as an attribute is the function of that name.
    solvers = importlib.import_module("torchdiffeq._impl.odeint").SOLVERS
    if "Tsit5" not in solvers:
        solvers["Tsit5"] = _tsit5()
        # torchdiffeq 0.2.5 has none. The one in its repository carries the embedded solution of order 4 from step to
        # step and takes for its slope that of the other one, so it is not used for the name "Tsit5" either.
        solvers.setdefault("tsit5", solvers["Tsit5"])
    return solvers


def _tsit5() -> type:
    """Tsitouras' coefficients for torchdiffeq's stepper, with the midpoint of his free interpolant."""
    common = importlib.import_module("torchdiffeq._impl.rk_common")

    def row(*values: float) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)

    b = (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774)
    tableau = common._ButcherTableau(
        alpha=row(0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0),
        beta=[
            row(0.161),
            row(-0.008480655492356989, 0.335480655492357),
            row(2.8971530571054935, -6.359448489975075, 4.3622954328695815),
            row(5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
            row(5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.02826905039406838),
            row(*b),
        ],
        c_sol=row(*b, 0.0),
        c_error=row(-0.001780011052225772, -0.0008164344596567469, 0.007880878010261995, -0.1447110071732629,
                    0.5823571654525552, -0.45808210592918697, 1 / 66),
    )  # fmt: skip
    return type("Tsit5Solver", (common.RKAdaptiveStepsizeODESolver,),
                {"order": 5, "tableau": tableau, "mid": row(*_tsit5_interpolant(0.5))})  # fmt: skip


def _tsit5_interpolant(x: float) -> tuple[float, ...]:
    """The weights of the free fourth-order interpolant at the fraction x of a step; Tsitouras (2011), section 4."""
    return (
        -1.0530884977290216 * x * (x - 1.329989018975412) * (x * x - 1.4364028541716351 * x + 0.7139816917074209),
        0.1017 * x * x * (x * x - 2.1966568338249754 * x + 1.2949852507374631),
        2.490627285651252793 * x * x * (x * x - 2.38535645472061657 * x + 1.57803468208092486),
        -16.54810288924490272 * (x - 1.21712927295533244) * (x - 0.61620406037800089) * x * x,
        47.37952196281928122 * (x - 1.203071208372362603) * (x - 0.658047292653547382) * x * x,
        -34.87065786149660974 * (x - 1.2) * (x - 2 / 3) * x * x,
        2.5 * (x - 1.0) * (x - 0.6) * x * x,
    )


def kind(method: str) -> str:
    """How the method steps: "fixed", "adaptive", or "scipy" for SciPy's solvers, which torch cannot see into."""
    solver = methods()[method]
    if issubclass(solver, importlib.import_module("torchdiffeq._impl.solvers").FixedGridODESolver):
        return "fixed"
    return "adaptive" if hasattr(solver, "_advance") else "scipy"


def method_of(alg: Algorithm) -> str:
    """torchdiffeq's name of the algorithm.

    Raises:
        InvalidInputError: `TorchDiffEq` of a method that the installed torchdiffeq lacks.
    """
    if not isinstance(alg, TorchDiffEq):
        return str(alg.torchdiffeq)
    if alg.method not in methods():
        near = difflib.get_close_matches(str(alg.method), methods(), n=3, cutoff=0.5)
        version = importlib.import_module("torchdiffeq").__version__
        raise InvalidInputError(
            f"torchdiffeq {version} has no method {alg.method!r}.", got=f"TorchDiffEq({alg.method!r})",
            expected=f"did you mean {' or '.join(near)}?" if near else ", ".join(methods()),
            fix=f'pysciml.TorchDiffEq("{near[0] if near else "dopri5"}")',
        )  # fmt: skip
    return alg.method


def call(alg: Algorithm) -> str:
    """How a user writes it: `DP5()`, `TorchDiffEq("rk4")`."""
    return alg.name if alg.name.endswith(")") else f"{alg.name}()"


def aliases() -> dict[str, str]:
    """The name in `pysciml.algorithms` of every method that torchdiffeq knows."""
    named = {a.torchdiffeq: n for n, a in REGISTRY.items() if a.torchdiffeq}
    return {m: named.get(m, "TorchDiffEq") for m in methods()}


def solver_options(alg: Algorithm, dt: float | None, dtmax: float | None) -> dict[str, Any]:
    """torchdiffeq's `options` for this algorithm and these steps.

    Raises:
        InvalidInputError: an option the method does not know; a fixed-step method without a step.
        UnsupportedError: `dt` or `dtmax` where the method has no use for it.
    """
    method = method_of(alg)
    options = dict(getattr(alg, "options", {}))
    _check_options(alg, method, options)
    if kind(method) == "fixed":
        return _fixed_options(alg, options, dt, dtmax)
    if dt is not None:
        if kind(method) == "scipy":
            raise _option_for_another(alg, "dt", dt, "the methods that torchdiffeq implements itself")
        options["first_step"] = dt
    if dtmax is not None:
        options["max_step"] = dtmax
    return options


def _fixed_options(alg: Algorithm, options: dict[str, Any], dt: float | None, dtmax: float | None) -> dict[str, Any]:
    if dtmax is not None:
        raise _option_for_another(alg, "dtmax", dtmax, "adaptive algorithms; a fixed step is set by dt")
    step = options.pop("step_size", None) if dt is None else dt
    if step is not None:
        options["grid_constructor"] = _even_grid(float(step))
    if "grid_constructor" not in options:
        raise InvalidInputError(f"{alg.name} takes steps of a fixed size and must be told which.", got="dt=None",
                                fix=f"pysciml.solve(prob, pysciml.{call(alg)}, dt=0.01)")  # fmt: skip
    # Not torchdiffeq's "linear": that is of order 1 between steps, and loses the gradient of a save time on a step.
    options.setdefault("interp", "cubic")
    return options


def stop_at(method: str, options: dict[str, Any], times: torch.Tensor) -> None:
    """Makes an adaptive method step onto these times instead of interpolating, unless `options` has its own."""
    stops = options.pop("tstops", None)
    if kind(method) == "adaptive" and "step_t" not in options:
        times = times.detach().unique() if stops is None else torch.cat([times.detach(), stops.to(times)]).unique()
        jumps = options.get("jump_t")
        options["step_t"] = times if jumps is None else times[~torch.isin(times, jumps.to(times))]


@dataclass(frozen=True)
class Stops:
    """Times that a solve is to step on, and those of them where f jumps: torchdiffeq evaluates f beside those."""

    tstops: torch.Tensor
    jumps: torch.Tensor

    @classmethod
    def of(cls, tstops: Any, jumps: Any, like: torch.Tensor) -> Stops:
        """From anything that holds numbers."""
        return cls(*(torch.as_tensor(x, dtype=like.dtype, device=like.device) for x in (tstops, jumps)))

    def put_into(self, options: dict[str, Any], alg: Algorithm, sign: float = 1.0) -> None:
        """Adds them to torchdiffeq's `options`, which `stop_at` completes; `sign` -1.0 for negated times.

        Raises:
            UnsupportedError: SciPy's solvers. InvalidInputError: `TorchDiffEq` with its own option for the same.
        """
        if not (self.tstops.numel() or self.jumps.numel()):
            return
        how, times = kind(method_of(alg)), sign * torch.cat([self.tstops, self.jumps])
        if how == "scipy":
            raise _option_for_another(alg, "tstops or d_discontinuities", times.tolist(), "torch's own methods")
        if "jump_t" in options or "step_t" in options:
            raise InvalidInputError("stops are given twice.", got="step_t or jump_t in TorchDiffEq's options",
                                    fix="tstops and d_discontinuities alone")  # fmt: skip
        if how == "fixed":
            options["grid_constructor"] = _with_stops(options["grid_constructor"], times)
            options["perturb"] = bool(self.jumps.numel())
            return
        options["tstops"] = times
        if self.jumps.numel():
            options["jump_t"] = sign * self.jumps


def _with_stops(grid: Callable, stops: torch.Tensor) -> Callable:
    """A grid with these times among its own, which are cut where they are nearer than rounding."""

    def with_stops(func: Any, y0: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        nodes = grid(func, y0, t)
        sign = 1.0 if t[-1] > t[0] else -1.0
        near = 1e-12 * (t[-1] - t[0]).abs().detach()
        inner = stops.to(t)[(sign * (stops.to(t) - t[0]) > near) & (sign * (t[-1] - stops.to(t)) > near)]
        apart = ((nodes[:, None] - inner).abs() > near).all(dim=1) if inner.numel() else torch.ones_like(nodes).bool()
        return torch.cat([nodes[apart], inner]).sort(descending=sign < 0).values

    return with_stops


def _option_for_another(alg: Algorithm, name: str, value: Any, whose: str) -> UnsupportedError:
    return UnsupportedError(
        f"`{name}` is an option for another algorithm than {alg.name}.", got=f"{name}={value!r}",
        expected=f"{name} with {whose}", fix=f"pysciml.solve(prob, pysciml.{call(alg)}) without {name}",
    )  # fmt: skip


def _check_options(alg: Algorithm, method: str, options: dict[str, Any]) -> None:
    makers = [vars(c)["__init__"] for c in methods()[method].__mro__[:-1] if "__init__" in vars(c)]
    known = {name for make in makers for name in inspect.signature(make).parameters}
    known -= {"self", "func", "y0", "rtol", "atol", "kwargs", "unused_kwargs", "args"}
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            raise InvalidInputError(
                f"torchdiffeq's {method} has no option {name!r}.", got=f"options={{{name!r}: ...}}",
                expected=f"did you mean {near[0]}?" if near else ", ".join(sorted(known)), fix=f"leave {name} out",
            )  # fmt: skip


def _even_grid(dt: float) -> Callable:
    """Steps of exactly dt from t[0], the last one cut to end at t[-1]; differentiable in both."""

    def grid(func: Any, y0: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        span = float(t[-1].detach() - t[0].detach())
        nodes = torch.arange(steps(span, dt), dtype=t.dtype, device=t.device)
        return torch.cat([t[0] + math.copysign(dt, span) * nodes, t[-1:]])

    return grid


def steps(span: float, dt: float) -> int:
    """How many steps of dt cover the span, not counting one of rounding error."""
    return max(1, math.ceil(abs(span) / dt * (1 - 1e-12)))
