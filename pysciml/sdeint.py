"""torchsde's functions, with their arguments and results: code written for it moves with one import.

What they ask of an `sde` is torchsde's: `f` and `g` (or others by `names`), `noise_type` and `sde_type`, and a state of
shape (batch, d). By default they solve in Julia where it is set up, with torchsde's own fixed steps; methods that only
torchsde has, a Brownian motion of its making, and extra solver state are solved by torchsde itself.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch

from pysciml.algorithms import EM, SRA1, SRIW1, Algorithm, EulerHeun, RKMil, TorchSDE, by_name
from pysciml.control import seed_of
from pysciml.engines import select
from pysciml.errors import InvalidInputError, MissingExtraError, UnsupportedError
from pysciml.problems import NoisePath, SDEProblem
from pysciml.rhs.parameters import to_numpy
from pysciml.solve import solve
from pysciml.stochastic.settled import again, keep
from pysciml.stochastic.solve import Options
from pysciml.under_compile import graph_break

# Which solver of Julia's has the scheme of which method.
_IN_JULIA: dict[str, Callable[[], Algorithm]] = {"euler": EM, "heun": EulerHeun, "milstein": RKMil}
_ONLY_TORCH = ("midpoint", "reversible_heun", "adjoint_reversible_heun", "euler_heun", "log_ode")


@graph_break
def sdeint(
    sde: Any,
    y0: torch.Tensor,
    ts: Any,
    bm: Any = None,
    method: str | Algorithm | None = None,
    dt: float = 1e-3,
    adaptive: bool = False,
    rtol: float = 1e-5,
    atol: float = 1e-4,
    dt_min: float = 1e-5,
    options: dict[str, Any] | None = None,
    names: dict[str, str] | None = None,
    logqp: bool = False,
    extra: bool = False,
    extra_solver_state: Any = None,
    *,
    engine: str | None = None,
    seed: int | None = None,
) -> Any:
    """Solves a stochastic equation as `torchsde.sdeint` does.

    Args:
        sde: has `f(t, y)` and `g(t, y)`, or others by `names`; `noise_type`, "diagonal", "scalar", "additive" or
            "general"; and `sde_type`, "ito" or "stratonovich". f returns (batch, d), g the same for diagonal noise and
            else (batch, d, m). For `logqp` it has a prior drift `h` too.
        y0: (batch, d) the state at ts[0]. ts: (T,) increasing times.
        bm: a `NoisePath`; or a Brownian motion of torchsde's, which torchsde then solves with.
        method: a name of torchsde's, or an algorithm of pysciml's or its name. None: for Ito equations one of order 1.5
            with diagonal ("srk" in torchsde) and additive noise and "euler" else, for Stratonovich's "heun" ("midpoint"
            in torchsde).
        dt: the step, or the first one. adaptive: whether to choose steps by rtol and atol. dt_min: of torchsde alone.
        logqp: whether to return the log-ratio penalty too, a path's Kullback-Leibler divergence from the prior.
        options, names, extra, extra_solver_state: as of torchsde. engine: as of `solve`. seed: of the Brownian motion;
            None takes one from torch's generator.

    Returns:
        (T, batch, d) states; with logqp also (T - 1, batch) increments of the penalty.

    Raises:
        InvalidInputError: a y0, a noise_type or a sde_type that is none; what `solve` refuses. MissingExtraError: it
            takes torchsde, which is not installed.

    Reference: Li, Wong, Chen and Duvenaud, "Scalable gradients for stochastic differential equations", AISTATS (2020).

    Example:
        >>> import torch, pysciml as ps
        >>> class Decay(torch.nn.Module):
        ...     noise_type, sde_type = "diagonal", "ito"
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.rate = torch.nn.Parameter(torch.tensor(1.0))
        ...     def f(self, t, y):
        ...         return -self.rate * y
        ...     def g(self, t, y):
        ...         return 0.1 * torch.ones_like(y)
        >>> sde = Decay()
        >>> ys = ps.sdeint(sde, torch.ones(8, 2), torch.linspace(0, 1, 5), dt=0.05, method="euler", engine="embedded")
        >>> ys.shape
        torch.Size([5, 8, 2])
        >>> ys.mean().backward()
        >>> bool(sde.rate.grad < 0)
        True
    """
    asked = {"bm": bm, "method": method, "dt": dt, "adaptive": adaptive, "rtol": rtol, "atol": atol, "dt_min": dt_min,
             "options": options, "names": names, "logqp": logqp, "extra": extra,
             "extra_solver_state": extra_solver_state}  # fmt: skip
    return _sdeint(sde, y0, ts, asked, engine, seed, None)


@graph_break
def sdeint_adjoint(
    sde: Any,
    y0: torch.Tensor,
    ts: Any,
    bm: Any = None,
    method: str | Algorithm | None = None,
    adjoint_method: str | None = None,
    dt: float = 1e-3,
    adaptive: bool = False,
    adjoint_adaptive: bool = False,
    rtol: float = 1e-5,
    adjoint_rtol: float = 1e-5,
    atol: float = 1e-4,
    adjoint_atol: float = 1e-4,
    dt_min: float = 1e-5,
    options: dict[str, Any] | None = None,
    adjoint_options: dict[str, Any] | None = None,
    adjoint_params: Sequence[torch.Tensor] | None = None,
    names: dict[str, str] | None = None,
    logqp: bool = False,
    extra: bool = False,
    extra_solver_state: Any = None,
    *,
    engine: str | None = None,
    seed: int | None = None,
) -> Any:
    """`sdeint` with `torchsde.sdeint_adjoint`'s arguments, for memory that does not grow with the steps of torch.

    In the julia engine the gradient is that of `sdeint`: the derivative of the solver's own steps, which keeps a state
    a step and nothing of torch's; adjoint arguments have no use there. In the embedded engine it is torchsde's adjoint.

    Example:
        >>> import torch, pysciml as ps
        >>> class Growth(torch.nn.Module):
        ...     noise_type, sde_type = "diagonal", "stratonovich"
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.rate = torch.nn.Parameter(torch.tensor(0.5))
        ...     def f(self, t, y):
        ...         return self.rate * y
        ...     def g(self, t, y):
        ...         return 0.1 * y
        >>> sde = Growth()
        >>> ys = ps.sdeint_adjoint(sde, torch.ones(4, 1), [0.0, 1.0], dt=0.05, engine="embedded")
        >>> ys[-1].mean().backward()
        >>> bool(sde.rate.grad > 0)
        True
    """
    asked = {"bm": bm, "method": method, "dt": dt, "adaptive": adaptive, "rtol": rtol, "atol": atol, "dt_min": dt_min,
             "options": options, "names": names, "logqp": logqp, "extra": extra,
             "extra_solver_state": extra_solver_state}  # fmt: skip
    adjoint = {
        "adjoint_method": adjoint_method,
        "adjoint_adaptive": adjoint_adaptive,
        "adjoint_rtol": adjoint_rtol,
        "adjoint_atol": adjoint_atol,
        "adjoint_options": adjoint_options,
        "adjoint_params": adjoint_params,
    }
    usual = (None, False, 1e-5, 1e-4, None, None)
    chosen = {name: x for (name, x), default in zip(adjoint.items(), usual, strict=True) if x is not default}
    return _sdeint(sde, y0, ts, asked, engine, seed, chosen)


def _sdeint(sde: Any, y0: torch.Tensor, ts: Any, asked: dict[str, Any], engine: str | None, seed: int | None,
            adjoint: dict[str, Any] | None) -> Any:  # fmt: skip
    """Both functions. Args: asked: torchsde's arguments. adjoint: those of its adjoint that were chosen, or None."""
    _check(sde, y0)
    f, g, h = _functions(sde, asked["names"] or {}, asked["logqp"])
    if _wants_torchsde(asked) or (adjoint is not None and _embedded(engine)):
        return _by_torchsde(sde, g, y0, ts, engine, seed, asked, adjoint)
    times = torch.as_tensor(ts, dtype=torch.float64)
    key = _settles(sde, times, asked, engine)
    known = None if key is None else again(f, g, y0, key, seed)
    if known is not None:
        return known
    if asked["logqp"]:
        f, g, y0 = _with_penalty(f, g, h, sde.noise_type, y0)
    kind = "general" if sde.noise_type == "scalar" else sde.noise_type  # there g has a last dimension of one
    prob = SDEProblem(f, g, y0, (float(times[0]), float(times[-1])), noise_type=kind, interpretation=sde.sde_type)
    alg = _algorithm(asked["method"], sde, engine, asked["options"])
    steps = {"dt": asked["dt"], "reltol": asked["rtol"], "abstol": asked["atol"],
             "adaptive": asked["adaptive"] if alg.adaptive or asked["adaptive"] else None}  # fmt: skip
    sol = solve(prob, alg, saveat=times, noise=asked["bm"], seed=seed, engine=engine, **steps)
    if key is not None and sol.stats.engine == "julia":
        keep(prob, alg, Options(**steps), times, key)
    return _apart(sol.u) if asked["logqp"] else sol.u


def _settles(sde: Any, times: torch.Tensor, asked: dict[str, Any], engine: str | None) -> Hashable | None:
    """What is asked of a solve besides drift, diffusion, state and seed, or None where it is not to be kept."""
    method = asked["method"]
    other = asked["bm"] is not None or asked["logqp"] or asked["names"] or asked["options"] or times.requires_grad
    if other or (isinstance(method, Algorithm) and not method.package):
        return None
    steps = (method, *(asked[name] for name in ("dt", "adaptive", "rtol", "atol")))
    return sde.noise_type, sde.sde_type, to_numpy(times).tobytes(), engine or select.engine_name(), *steps


def _wants_torchsde(asked: dict[str, Any]) -> bool:
    """Whether something was asked for that only torchsde has."""
    of_its_own = (asked["bm"] is not None and not isinstance(asked["bm"], NoisePath)) or asked["extra"]
    method = isinstance(asked["method"], str) and asked["method"] in _ONLY_TORCH
    return of_its_own or method or asked["extra_solver_state"] is not None


def _functions(sde: Any, names: dict[str, str], prior: bool) -> tuple[Callable, Callable, Callable]:
    """Drift, diffusion and prior drift."""
    f, g, h = (
        getattr(sde, names.get(long, short), None)
        for long, short in (("drift", "f"), ("diffusion", "g"), ("prior_drift", "h"))
    )
    if f is None or g is None or (prior and h is None):
        raise InvalidInputError(
            "the sde lacks a drift, a diffusion or, for logqp, a prior drift.",
            got=type(sde).__name__,
            expected="f, g" + ", h" * prior,
            fix='names={"drift": "mu", "diffusion": "sigma"}',
        )
    return f, g, h  # type: ignore[return-value] # h is not called without logqp


def _check(sde: Any, y0: Any) -> None:
    for name, choices in (("noise_type", ("diagonal", "scalar", "additive", "general")),
                          ("sde_type", ("ito", "stratonovich"))):  # fmt: skip
        if getattr(sde, name, None) not in choices:
            raise InvalidInputError(f"the sde must have a {name}.", got=f"{getattr(sde, name, None)!r}",
                                    expected=", ".join(choices), fix=f'{name} = "{choices[0]}"')  # fmt: skip
    if not isinstance(y0, torch.Tensor) or y0.dim() != 2:
        raise InvalidInputError("y0 must be a tensor of shape (batch, d).",
                                got=str(list(y0.shape)) if isinstance(y0, torch.Tensor) else type(y0).__name__,
                                fix="y0[None]")  # fmt: skip


def _embedded(engine: str | None) -> bool:
    return select.engine_name(engine) == "embedded"


def _algorithm(method: Any, sde: Any, engine: str | None, options: dict[str, Any] | None) -> Algorithm:
    """torchsde's method as one of ours, in the engine that will solve."""
    if isinstance(method, Algorithm):
        return method
    high = "srk" if sde.sde_type == "ito" and sde.noise_type != "general" else "euler"
    name = method or ("heun" if sde.sde_type == "stratonovich" else high)
    if name == "srk" and sde.noise_type == "scalar" and not _embedded(engine):
        name = "euler" if method is None else name
    if _embedded(engine):
        return TorchSDE(name, options or {}) if name in (*_IN_JULIA, "srk") else by_name(name)
    if name == "srk":
        return SRA1() if sde.noise_type == "additive" else SRIW1()
    return _IN_JULIA[name]() if name in _IN_JULIA else by_name(name)


def _with_penalty(f: Callable, g: Callable, h: Callable, noise_type: str, y0: torch.Tensor) -> tuple:
    """Drift and diffusion of the state and one more: half the squared norm of g⁻¹ (f - h), integrated; and its start.

    Reference: Li et al. (2020), section 5; Girsanov's theorem.
    """

    def drift(t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        y = z[:, :-1]
        prior, posterior, noise = h(t, y), f(t, y), g(t, y)
        if noise_type == "diagonal":
            safe = torch.where(noise.abs() > 1e-7, noise, torch.where(noise < 0, -1e-7, 1e-7).to(noise))
            u = (posterior - prior) / safe
        else:
            u = (torch.linalg.pinv(noise) @ (posterior - prior)[..., None])[..., 0]
        return torch.cat([posterior, 0.5 * (u * u).sum(dim=1, keepdim=True)], dim=1)

    def diffusion(t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        noise = g(t, z[:, :-1])
        return torch.cat([noise, noise.new_zeros((noise.shape[0], 1, *noise.shape[2:]))], dim=1)

    return drift, diffusion, torch.cat([y0, y0.new_zeros((y0.shape[0], 1))], dim=1)


def _apart(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return u[..., :-1], u[..., -1].diff(dim=0)


def _by_torchsde(sde: Any, g: Callable, y0: torch.Tensor, ts: Any, engine: str | None, seed: int | None,
                 asked: dict[str, Any], adjoint: dict[str, Any] | None) -> Any:  # fmt: skip
    if engine == "julia":
        raise UnsupportedError(
            "the julia engine has no such method, and takes no Brownian motion of torchsde's.",
            got='engine="julia"',
            expected="euler, milstein, srk, heun; a seed or a NoisePath as bm",
            fix="leave engine out",
        )
    try:
        import torchsde
    except ImportError:
        raise MissingExtraError("torchsde", "sde", "what only torchsde can solve") from None
    from pysciml.engines.embedded.torchsde_methods import brownian

    if asked["bm"] is None or isinstance(asked["bm"], NoisePath):
        times = torch.as_tensor(ts, dtype=y0.dtype)
        with torch.no_grad():
            motions = g(times[0], y0).shape[-1] + (asked["logqp"] and sde.noise_type == "diagonal")
        shape, drawn = (y0.shape[0], motions), seed_of(seed)
        asked["bm"] = brownian(shape, y0, drawn, asked["bm"], times, asked["method"], asked["dt"])
    elif seed is not None:
        raise UnsupportedError("a Brownian motion of torchsde's has a seed of its own.", got=f"bm and seed={seed}",
                               expected="one of them", fix="seed=None")  # fmt: skip
    if adjoint is None:
        return torchsde.sdeint(sde, y0, ts, **asked)
    return torchsde.sdeint_adjoint(sde, y0, ts, **asked, **adjoint)
