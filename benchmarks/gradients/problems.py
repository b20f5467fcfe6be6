"""The rows of the table. A new one is one more `Problem` in `PROBLEMS`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.linalg import matrix_exp

import pysciml as ps
from benchmarks.gradients.problem import F64, Problem
from benchmarks.gradients.stochastic import STOCHASTIC
from benchmarks.gradients.ways import NONSTIFF, STIFF, Solvers


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=F64)


def stack(*columns: torch.Tensor) -> torch.Tensor:
    return torch.stack(columns, dim=-1)


def by_scipy(f: Callable, u0: torch.Tensor, times: torch.Tensor, method: str, **tolerances: float) -> torch.Tensor:
    """The states at `times` of u' = f(u), in plain numbers, from SciPy: differences are taken of them."""
    from scipy.integrate import solve_ivp

    found = solve_ivp(lambda t, u: f(u.tolist()), (0.0, float(times[-1])), u0.numpy(), method, times.numpy(),
                      **tolerances)  # fmt: skip
    assert found.success, found.message
    return torch.from_numpy(found.y.T.copy())


# --- not stiff

TIMES = vector(0.5, 1.0, 2.0)


def linear(t, u, p):
    return p @ u


def linear_truth(u0, p):
    return torch.stack([matrix_exp(p * t) @ u0 for t in TIMES])


LINEAR = Problem(
    "linear",
    {"u0": vector(1.0, -0.5), "p": torch.tensor([[-0.3, 1.0], [-2.0, 0.1]], dtype=F64)},
    lambda u0, p: (ps.ODEProblem(linear, u0, (0.0, 2.0), p), {"saveat": TIMES}),
    linear_truth,
)


def lotka_volterra(u, p):
    x, y = u
    return [p[0] * x - p[1] * x * y, p[2] * x * y - p[3] * y]


LOTKA_VOLTERRA = Problem(
    "lotka-volterra",
    {"u0": vector(1.0, 1.2), "p": vector(1.5, 1.0, 1.0, 3.0)},
    lambda u0, p: (ps.ODEProblem(lambda t, u, p: torch.stack(lotka_volterra(u, p)), u0, (0.0, 4.0), p),
                   {"saveat": [1.0, 2.5, 4.0]}),
    lambda u0, p: by_scipy(lambda u: lotka_volterra(u, p.tolist()), u0, vector(1.0, 2.5, 4.0), "DOP853", rtol=1e-13,
                           atol=1e-14),
    differences=1e-3,
)  # fmt: skip


# The adjoint of this one stands still, so that its steps tell nothing of how fast df/dp moves.
DRIVEN = Problem(
    "driven",
    {"u0": vector(0.3), "p": vector(1.5, 50.0)},
    lambda u0, p: (ps.ODEProblem(lambda t, u, p: p[0] * torch.sin(p[1] * t) + 0 * u, u0, (0.0, 1.0), p),
                   {"saveat": TIMES / 2}),
    lambda u0, p: u0 + (p[0] / p[1] * (1 - torch.cos(p[1] * TIMES / 2)))[:, None],
    source="f(u, p, t) = [p[1] * sin(p[2] * t)]",
)  # fmt: skip


def captured_problem(w, rate):
    weight = w * torch.ones_like(w)  # no leaf: what f captures is computed
    return ps.ODEProblem(lambda t, u: weight @ u - torch.exp(rate) * u, vector(1.0, -0.5), (0.0, 2.0))


CAPTURED = Problem(
    "captured tensors",
    {"w": torch.tensor([[-0.3, 1.0], [-2.0, 0.1]], dtype=F64), "rate": number(-0.7)},
    lambda w, rate: (captured_problem(w, rate), {"saveat": TIMES}),
    lambda w, rate: linear_truth(vector(1.0, -0.5), w - torch.exp(rate) * torch.eye(2, dtype=F64)),
)


# --- stiff; what takes most of a million steps, as InterpolatingAdjoint by Rodas5P may, is not called back

STIFF_LINEAR = Problem(
    "stiff linear",  # rates 1 and 1000
    {"u0": vector(1.0, 0.2), "p": torch.tensor([[-500.5, 499.5], [499.5, -500.5]], dtype=F64)},
    lambda u0, p: (ps.ODEProblem(linear, u0, (0.0, 2.0), p), {"saveat": TIMES}),
    linear_truth,
    STIFF,
)


def gompertz(t, u, p):
    """Stiff and not linear: the logarithms of u are a linear system."""
    return u * (p @ torch.log(u))


def gompertz_truth(u0, p):
    return torch.exp(linear_truth(torch.log(u0), p))


GOMPERTZ = Problem(
    "stiff gompertz",
    {"u0": vector(1.5, 0.8), "p": torch.tensor([[-500.5, 499.5], [499.5, -500.5]], dtype=F64)},
    lambda u0, p: (ps.ODEProblem(gompertz, u0, (0.0, 2.0), p), {"saveat": TIMES}),
    gompertz_truth,
    STIFF,
)


def robertson(u, p):
    """States and parameters in their own sizes: b in units of 1e-4, each rate constant over Robertson's."""
    a, b, c = u
    slow, fast, back = 0.04 * p[0] * a, 0.3 * p[1] * b * b, p[2] * b * c
    return [back - slow, 1e4 * (slow - fast - back), fast]


ROBERTSON = Problem(
    "robertson",
    {"u0": vector(0.9, 0.2, 0.1), "p": vector(1.0, 1.1, 0.9)},
    lambda u0, p: (ps.ODEProblem(lambda t, u, p: torch.stack(robertson(u, p)), u0, (0.0, 1000.0), p),
                   {"saveat": [0.1, 10.0, 1000.0]}),
    lambda u0, p: by_scipy(lambda u: robertson(u, p.tolist()), u0, vector(0.1, 10.0, 1000.0), "LSODA", rtol=3e-14,
                           atol=1e-14),
    Solvers((ps.Rodas5P(), ps.FBDF()), (), (ps.Rodas5P(),), (ps.CVODE_BDF(),)),
    source="""
    function (du, u, p, t)
        slow, fast, back = 0.04 * p[1] * u[1], 0.3 * p[2] * u[2]^2, p[3] * u[2] * u[3]
        du[1] = back - slow; du[2] = 1e4 * (slow - fast - back); du[3] = fast
        return nothing
    end
    """,
    differences=4e-3,
)  # fmt: skip


def dae_truth(u0, p):
    x = u0[0] / (1 + p[0] * p[1] * u0[0] * TIMES)
    return stack(x, p[1] * x**2)


DAE = Problem(
    "mass-matrix DAE",  # x' = -a z, 0 = z - c x^2
    {"u0": vector(2.0, 4.8), "p": vector(0.7, 1.2)},
    lambda u0, p: (
        ps.ODEProblem(lambda t, u, p: torch.stack([-p[0] * u[1], u[1] - p[1] * u[0] ** 2]), u0, (0.0, 2.0), p,
                      vector(1.0, 0.0)), {"saveat": TIMES}),
    dae_truth,
    Solvers((ps.Rodas5P(), ps.FBDF()), (), (ps.Rodas5P(),), (ps.IDA(),)),
    source="f!(du, u, p, t) = (du[1] = -p[1] * u[2]; du[2] = u[2] - p[2] * u[1]^2; nothing)",
)  # fmt: skip


IMPLICIT_SOLVERS = Solvers((ps.IDA(), ps.DFBDF(), ps.Rodas5P()), (ps.IDA(), ps.Rodas5P()), (), (ps.IDA(),))
IMPLICIT = Problem(
    "implicit DAE",  # the same, by its residual
    {"x0": number(2.0), "p": vector(0.7, 1.2)},
    lambda x0, p: (
        ps.DAEProblem(lambda t, u, du: torch.stack([du[0] + p[0] * u[1], u[1] - p[1] * u[0] ** 2]), vector(0.0, 0.0),
                      torch.stack([x0, 4 + 0 * x0]), (0.0, 2.0)), {"saveat": TIMES}),
    lambda x0, p: dae_truth(x0[None], p),
    IMPLICIT_SOLVERS,
    seen=lambda sol: sol.u[1],
)  # fmt: skip


def logarithm(x0, p):
    """exp(u') = p (1 + t)."""
    u = x0 + TIMES * torch.log(p) + (1 + TIMES) * torch.log(1 + TIMES) - TIMES
    return torch.log(p * (1 + TIMES))[:, None], u[:, None]


NONLINEAR = Problem(
    "nonlinear in du/dt",
    {"x0": number(1.0), "p": number(2.0)},
    lambda x0, p: (ps.DAEProblem(lambda t, u, du: torch.exp(du) - p * (1 + t), vector(0.5), x0[None], (0.0, 2.0)),
                   {"saveat": TIMES}),
    logarithm,
    IMPLICIT_SOLVERS,
)  # fmt: skip


# --- right-hand sides in parts


def oscillation(v0, u0, w, mass=1.0):
    """Velocity (or momentum) and position of m u'' = -m w^2 u."""
    t, v0 = TIMES[:, None], v0 / mass
    u = u0 * torch.cos(w * t) + v0 / w * torch.sin(w * t)
    return mass * (v0 * torch.cos(w * t) - w * u0 * torch.sin(w * t)), u


NYSTROM = Solvers((ps.DPRKN12(), (ps.KahanLi8(), {"dt": 0.02})), (ps.DPRKN12(),), (), (ps.CVODE_Adams(),), (ps.DP5(),))
SECOND_ORDER = Problem(
    "second order",
    {"du0": vector(0.3), "u0": vector(1.0), "k": vector(4.0)},
    lambda du0, u0, k: (ps.SecondOrderODEProblem(lambda t, u, du, p: -p * u, du0, u0, (0.0, 2.0), k),
                        {"saveat": TIMES}),
    lambda du0, u0, k: oscillation(du0, u0, k.sqrt()),
    NYSTROM,
)  # fmt: skip

DYNAMICAL = Problem(
    "dynamical",
    {"v0": vector(0.3), "u0": vector(1.0), "k": vector(4.0), "m": vector(0.8)},
    lambda v0, u0, k, m: (
        ps.DynamicalODEProblem(lambda t, v, u: -k * u, lambda t, v, u: v / m, v0, u0, (0.0, 2.0)), {"saveat": TIMES}),
    lambda v0, u0, k, m: oscillation(v0, u0, (k / m).sqrt(), m),
    Solvers(((ps.KahanLi8(), {"dt": 0.02}),), ((ps.KahanLi8(), {"dt": 0.02}),), (), (ps.CVODE_Adams(),), (ps.DP5(),)),
)  # fmt: skip


def split_truth(u0, k, a):
    """u' = -k u + a cos t."""
    slow = lambda t: a * (k * torch.cos(t) + torch.sin(t)) / (1 + k**2)  # noqa: E731
    return (slow(SPLIT_TIMES) + (u0 - slow(number(0.0))) * torch.exp(-k * SPLIT_TIMES))[:, None]


SPLIT_TIMES = vector(0.05, 0.3, 2.0)


SPLIT = Problem(
    "split",
    {"u0": vector(0.5), "k": vector(20.0), "a": vector(3.0)},
    lambda u0, k, a: (ps.SplitODEProblem(lambda t, u: -k * u, lambda t, u: a * torch.cos(t) + 0 * u, u0, (0.0, 2.0)),
                      {"saveat": SPLIT_TIMES}),
    split_truth,
    Solvers((ps.KenCarp4(), ps.ARKODE()), (ps.KenCarp4(),), (), (ps.CVODE_BDF(),), (ps.DP5(),)),
)  # fmt: skip


# --- complex states, which have no compiled form

HAMILTONIAN = torch.tensor([[1.0, 0.5 - 0.2j], [0.5 + 0.2j, -1.0]], dtype=torch.complex128)
COMPLEX = Problem(
    "complex",
    {"u0": torch.tensor([1.0, 0.3j], dtype=torch.complex128), "p": HAMILTONIAN},
    lambda u0, p: (ps.ODEProblem(lambda t, u, p: -1j * (p @ u), u0, (0.0, 2.0), p), {"saveat": TIMES}),
    lambda u0, p: torch.stack([matrix_exp(-1j * p * t) @ u0 for t in TIMES]),
    Solvers(callback=(ps.Tsit5(), ps.Rodas5P()), eager=(ps.DP5(),)),
)


# --- times: where f jumps, where it is to be stepped on, where states are saved, where the span begins and ends


def switched_truth(u0, p):
    late = (TIMES - 0.8).clamp_min(0)
    return (u0 * torch.exp(-p[0] * TIMES) + p[1] / p[0] * (1 - torch.exp(-p[0] * late)))[:, None]


SWITCHED = Problem(
    "switched force",
    {"u0": number(1.0), "p": vector(0.3, 2.0)},
    lambda u0, p: (
        ps.ODEProblem(lambda t, u, p: -p[0] * u + p[1] * torch.where(t >= 0.8, 1.0, 0.0), u0[None], (0.0, 2.0), p),
        {"saveat": TIMES, "d_discontinuities": [0.8]}),
    switched_truth,
)  # fmt: skip


def pulse_truth(u0, p):
    return (u0 + p[0] * p[1] * math.sqrt(math.pi))[None]


PULSE = Problem(
    "short pulse",  # stepped over without stops
    {"u0": vector(0.4), "p": vector(2.0, 0.05)},
    lambda u0, p: (
        ps.ODEProblem(lambda t, u, p: p[0] * torch.exp(-(((t - 10) / p[1]) ** 2)) + 0 * u, u0, (0.0, 20.0), p),
        {"saveat": [20.0], "tstops": [9.8, 9.9, 10.0, 10.1, 10.2]}),
    pulse_truth,
)  # fmt: skip


def swing(u0, p, t0, t):
    """u' = p[0] cos(p[1] t) u."""
    return u0 * torch.exp(p[0] / p[1] * (torch.sin(p[1] * t) - torch.sin(p[1] * t0)))[:, None]


SAVEAT = Problem(
    "saved times",
    {"u0": vector(1.0), "p": vector(0.8, 3.0), "t0": number(0.1), "ts": vector(0.5, 1.0, 1.7)},
    lambda u0, p, t0, ts: (ps.ODEProblem(lambda t, u, p: p[0] * torch.cos(p[1] * t) * u, u0, (t0, 2.0), p),
                           {"saveat": ts}),
    lambda u0, p, t0, ts: swing(u0, p, t0, ts),
)  # fmt: skip

TSPAN = Problem(
    "span",
    {"u0": vector(1.0), "p": vector(0.8, 3.0), "t0": number(0.1), "t1": number(2.0)},
    lambda u0, p, t0, t1: (ps.ODEProblem(lambda t, u, p: p[0] * torch.cos(p[1] * t) * u, u0, (t0, t1), p), {}),
    lambda u0, p, t0, t1: swing(u0, p, t0, t1[None])[0],
    seen=lambda sol: sol.u[-1],
)


# --- events


def ball(h, g, r):
    prob = ps.ODEProblem(lambda t, u: torch.stack([u[1], -g]), torch.stack([h, 0 * h]), (0.0, 2.5))
    bounce = ps.ContinuousCallback(lambda t, u: u[0], lambda t, u: torch.stack([u[0], -r * u[1]]))
    return prob, {"callback": bounce, "saveat": [2.5]}


def ball_truth(h, g, r):
    """After the second bounce."""
    first = (2 * h / g).sqrt()
    up = r**2 * g * first
    since = 2.5 - first - 2 * r * first
    return torch.stack([up * since - g * since**2 / 2, up - g * since])


EVENT_SOLVERS = Solvers((ps.Tsit5(), ps.Rodas5P()), (ps.Tsit5(),), (), (ps.CVODE_Adams(), ps.CVODE_BDF()), (ps.DP5(),))
BALL = Problem(
    "bouncing ball", {"h": number(2.0), "g": number(9.81), "r": number(0.9)}, ball, ball_truth, EVENT_SOLVERS,
    seen=lambda sol: sol.u[-1],
)  # fmt: skip


def dosed(k, dose, when):
    prob = ps.ODEProblem(lambda t, u: -k * u, vector(1.0), (0.0, 3.0))
    return prob, {"callback": ps.PresetTimeCallback(when, lambda t, u: u + dose), "saveat": [3.0]}


DOSE = Problem(
    "dose",
    {"k": number(1.1), "dose": vector(2.0), "when": vector(1.0)},
    dosed,
    lambda k, dose, when: torch.exp(-3 * k) + dose * torch.exp(-k * (3 - when)),
    EVENT_SOLVERS,
    seen=lambda sol: sol.u[-1],
)


def thresholded(u0, k, level):
    prob = ps.ODEProblem(lambda t, u: -k * u, u0, (0.0, 3.0))
    return prob, {"callback": ps.ContinuousCallback(lambda t, u: u[0] - level, terminate=True)}


THRESHOLD = Problem(
    "learned threshold",
    {"u0": vector(1.3), "k": number(1.1), "level": number(0.5)},
    thresholded,
    lambda u0, k, level: (torch.log(u0[0] / level) / k, level[None]),
    EVENT_SOLVERS,
    seen=lambda sol: (sol.t[-1], sol.u[-1]),
)


# --- steady states, and conditions at several times


def brusselator(u, p):
    x, y = u
    return torch.stack([p[0] + x**2 * y - (p[1] + 1) * x, p[1] * x - x**2 * y])


STEADY = Problem(
    "steady state",
    {"p": vector(1.0, 1.3)},
    lambda p: (ps.SteadyStateProblem(lambda t, u, p: brusselator(u, p), vector(0.9, 1.1), p), {}),
    lambda p: torch.stack([p[0], p[1] / p[0]]),
    Solvers((ps.NewtonRaphson(), ps.TrustRegion(), ps.DynamicSS(ps.Rodas5P())), (ps.TrustRegion(),),
            (ps.TrustRegion(),), (ps.NewtonRaphson(), ps.TrustRegion(), ps.DynamicSS()),
            (ps.TrustRegion(), ps.DynamicSS(ps.DP5()))),
    source="f(u, p, t) = [p[1] + u[1]^2 * u[2] - (p[2] + 1) * u[1], p[2] * u[1] - u[1]^2 * u[2]]",
)  # fmt: skip


def bratu_truth(k):
    """u'' = -k exp(u), u(0) = u(1) = 0."""
    z = torch.zeros((), dtype=F64)
    for _ in range(60):  # Newton's method for z = sqrt(2 k) cosh(z / 4); the last steps give its derivative
        z = z - (z - torch.sqrt(2 * k) * torch.cosh(z / 4)) / (1 - torch.sqrt(2 * k) * torch.sinh(z / 4) / 4)
    return -2 * torch.log(torch.cosh((vector(0.25, 0.5) - 0.5) * z / 2) / torch.cosh(z / 4))


BOUNDARY_SOLVERS = Solvers(
    (ps.MIRK4(), ps.MultiShooting(3, ps.Vern9())), (ps.MIRK4(),), (ps.MultiShooting(3, ps.Tsit5()),),
    (ps.Collocation4(), ps.MultiShooting(3)), (ps.MultiShooting(3, ps.DP5()),),
)  # fmt: skip
BRATU = Problem(
    "bratu",
    {"k": number(2.0)},
    lambda k: (ps.TwoPointBVProblem(lambda t, u, p: torch.stack([u[1], -p * torch.exp(u[0])]),
                                    (lambda u, p: u[0], lambda u, p: u[0]), vector(0.0, 0.0), (0.0, 1.0), k),
               {"saveat": [0.25, 0.5]}),
    bratu_truth,
    BOUNDARY_SOLVERS,
    seen=lambda sol: sol.u[:, 0],
    source="f(u, p, t) = [u[2], -p[1] * exp(u[1])]",
)  # fmt: skip


def inner_conditions(a, b, w):
    def bc(sol):
        return torch.stack([sol(0.4)[0] - a, sol(0.0)[0] + sol(1.0)[0] - b])

    f = lambda t, u: torch.stack([u[1], -(w**2) * u[0]])  # noqa: E731
    return ps.BVProblem(f, bc, vector(0.1, 0.1), (0.0, 1.0)), {"saveat": [0.2, 0.9]}


def inner_conditions_truth(a, b, w):
    rows = [torch.stack([torch.cos(0.4 * w), torch.sin(0.4 * w)]), torch.stack([1 + torch.cos(w), torch.sin(w)])]
    c, s = torch.linalg.solve(torch.stack(rows), torch.stack([a, b]))
    t = vector(0.2, 0.9)
    return c * torch.cos(w * t) + s * torch.sin(w * t)


INNER = Problem(
    "inner conditions", {"a": number(0.7), "b": number(-0.8), "w": number(1.7)}, inner_conditions,
    inner_conditions_truth, Solvers((ps.MIRK4(), ps.MultiShooting(3, ps.Vern9())), (ps.Shooting(ps.Tsit5()),), (),
                                    (ps.MultiShooting(3),), (ps.MultiShooting(3, ps.DP5()),)),
    seen=lambda sol: sol.u[:, 0],
)  # fmt: skip


# --- many at once, and single precision


def logistic(t, u, p):
    return p[0] * u * (1 - u / p[1])


def logistic_truth(u0, p):
    """(..., 1) and (..., 2) to (..., times, 1)."""
    rate, most = p[..., :1], p[..., 1:]
    return (most / (1 + (most / u0 - 1) * torch.exp(-rate * TIMES)))[..., None]


def ensemble(executor: str) -> Problem:
    def build(u0, p):
        prob = ps.ODEProblem(logistic, u0[0], (0.0, 2.0), p[0])
        return ps.EnsembleProblem(prob, u0, p), {"saveat": TIMES, "executor": executor}

    leaves = {"u0": vector(0.1, 0.5, 1.0)[:, None], "p": stack(vector(1.2, 0.9, 2.0), vector(2.0, 1.5, 3.0))}
    algs = (ps.Tsit5(), ps.Rodas5P())
    return Problem(f"ensemble, {executor}", leaves, build, logistic_truth,
                   Solvers(algs, (ps.Tsit5(),), (), (ps.CVODE_Adams(),), (ps.DP5(),)))  # fmt: skip


# --- delays

STEPS, STEPS_STIFF = ps.MethodOfSteps(ps.Tsit5()), ps.MethodOfSteps(ps.Rodas5P())
BY_STEPS = Solvers((STEPS, ps.MethodOfSteps(ps.Vern9()), STEPS_STIFF), (STEPS,))


def delayed_decay(u0, lag, past):
    return ps.DDEProblem(lambda t, u, h: -h(t - lag), u0, lambda s: past, (0.0, 2.0)), {"saveat": TIMES}


def delayed_decay_truth(u0, lag, past):
    """The sum over k of (-1)^k (t - k lag)^k / k!, up to t, is the solution for u0 = 1 and a past of 0."""

    def powers(t, more):
        return sum((-1) ** k * torch.clamp(t - k * lag, min=0) ** (k + more) / math.factorial(k + more) * (t >= k * lag)
                   for k in range(4))  # fmt: skip

    return u0 * powers(TIMES, 0)[:, None] - past * (powers(TIMES, 1) - powers(TIMES - lag, 1))[:, None]


DELAY = Problem(
    "delayed decay",
    {"u0": vector(1.3), "lag": number(0.7), "past": vector(0.8)},  # u0 is not where the past ends
    delayed_decay,
    delayed_decay_truth,
    BY_STEPS,
)


def mackey_glass(past, p):
    return p[0] * past / (1 + past ** p[2])


def mackey_glass_by_scipy(p):
    """In pieces as long as the lag, each with the polynomials of the one before for its past."""
    from scipy.integrate import solve_ivp

    end, lag, found = 6.0, float(p[3]), []
    past, u, t = (lambda s: p[4] * s + 0.5), 0.5, 0.0
    while t < end:
        f = lambda s, y, past=past: mackey_glass(past(s - lag), p) - p[1] * y  # noqa: E731
        piece = solve_ivp(f, (t, t + lag), [u], "DOP853", rtol=1e-13, atol=1e-14, dense_output=True)
        found += [piece.sol(s)[0] for s in (1.5, 3.7, end) if t < s <= t + lag]
        past, u, t = (lambda s, sol=piece.sol: sol(s)[0]), piece.y[0, -1], t + lag
    return torch.tensor(found, dtype=F64)[:, None]


MACKEY_GLASS = Problem(
    "mackey-glass",
    {"p": vector(2.0, 1.0, 9.65, 2.0, 0.05)},
    lambda p: (ps.DDEProblem(lambda t, u, h, p: mackey_glass(h(t - p[3]), p) - p[1] * u, vector(0.5),
                             lambda s, p: (0.5 + p[4] * s).reshape(1), (0.0, 6.0), p), {"saveat": [1.5, 3.7, 6.0]}),
    lambda p: mackey_glass_by_scipy(p.tolist()),
    BY_STEPS,
    differences=1e-3,
)  # fmt: skip


SINGLE = Problem(
    "float32",
    {"u0": torch.tensor([0.1]), "p": torch.tensor([1.2, 2.0])},
    lambda u0, p: (ps.ODEProblem(logistic, u0, (0.0, 2.0), p), {"saveat": TIMES.float()}),
    logistic_truth,
    NONSTIFF,
    tolerances={"reltol": 1e-5, "abstol": 1e-6},
    bound=1e-3,
    single=True,
)

PROBLEMS = (
    LINEAR, LOTKA_VOLTERRA, DRIVEN, CAPTURED, STIFF_LINEAR, GOMPERTZ, ROBERTSON, DAE, IMPLICIT, NONLINEAR, SECOND_ORDER,
    DYNAMICAL, SPLIT, COMPLEX, SWITCHED, PULSE, SAVEAT, TSPAN, BALL, DOSE, THRESHOLD, STEADY, BRATU, INNER,
    ensemble("serial"), ensemble("threads"), DELAY, MACKEY_GLASS, SINGLE, *STOCHASTIC,
)  # fmt: skip
