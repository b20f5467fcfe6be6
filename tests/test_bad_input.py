"""Every mistake gets an error that says what, what was got, and the line to type."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from problems import lotka_volterra, vector

import pysciml as ps

F64 = torch.float64
RATES = vector(1.5, 1.0, 1.0, 3.0)


def problem(**changes) -> ps.ODEProblem:
    return ps.ODEProblem(**{"f": lotka_volterra, "u0": vector(1.0, 1.0), "tspan": (0.0, 1.0), "p": RATES, **changes})


def plain(f, u0=None, tspan=(0.0, 1.0)) -> ps.ODEProblem:
    return ps.ODEProblem(f, vector(1.0, 1.0) if u0 is None else u0, tspan)


def nan_net() -> torch.nn.Module:
    net = torch.nn.Linear(2, 2).double()
    torch.nn.init.constant_(net.bias, float("nan"))
    return net


class Net(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, t, u):
        return self.layer(u)


INVALID = {
    "NaN state": (lambda: problem(u0=vector(1.0, float("nan"))), "`u0` must be finite", "1 NaN or infinite of 2"),
    "infinite state in a dict": (
        lambda: ps.ODEProblem(lambda t, u: u, {"a": vector(float("inf"))}, (0.0, 1.0)),
        r"`u0\['a'\]` must be finite",
        "1 NaN",
    ),
    "NaN parameter": (lambda: problem(p=RATES / 0.0 * 0.0), "`p` must be finite", "4 NaN"),
    "NaN module parameter": (
        lambda: ps.solve(plain(Net(nan_net()))),
        "`layer.bias` must be finite",
        "2 NaN or infinite",
    ),
    "NaN in a closure": (
        lambda: (lambda rate: ps.solve(plain(lambda t, u: rate * u)))(vector(float("nan"))),
        "`rate` must be finite",
        "1 NaN",
    ),
    "integer state": (lambda: problem(u0=torch.ones(2, dtype=torch.int64)), "float32 or float64", "torch.int64"),
    "half state": (lambda: problem(u0=torch.ones(2, dtype=torch.float16)), "float32 or float64", "float16"),
    "complex mass matrix": (
        lambda: problem(mass_matrix=torch.ones(2, dtype=torch.complex128)),
        "mass_matrix must be real",
        "complex128",
    ),
    "empty state": (lambda: problem(u0=()), "holds no tensor", r"\(\)"),
    "a string for a state": (lambda: problem(u0="one"), "must be a floating tensor", "str"),
    "mixed dtypes": (
        lambda: ps.ODEProblem(lambda t, u: u, (vector(1.0), torch.ones(1)), (0.0, 1.0)),
        "one dtype",
        "float32",
    ),
    "f is no function": (lambda: problem(f=3.0), "must be callable", "float"),
    "t0 == t1": (lambda: problem(tspan=(1.0, 1.0)), "must not be empty", "t0 == t1 == 1"),
    "endless span": (lambda: problem(tspan=(0.0, float("inf"))), "must be finite", "inf"),
    "one time only": (lambda: problem(tspan=5.0), "two times", "5.0"),
    "unknown field": (lambda: problem().remake(tspam=(0.0, 2.0)), "no field 'tspam'", "tspam"),
    "mass matrix shape": (lambda: problem(mass_matrix=vector(1.0)), "structure and shape of u0", r"\[1\]"),
    "no problem": (lambda: ps.solve(lotka_volterra), "needs a problem", "function"),
    "saveat outside": (lambda: ps.solve(problem(), saveat=[0.5, 2.0]), "inside tspan", "2.0"),
    "saveat unsorted": (lambda: ps.solve(problem(), saveat=[0.5, 0.2]), "strictly monotone", "0.2"),
    "saveat twice": (lambda: ps.solve(problem(), saveat=[0.5, 0.5]), "strictly monotone", "0.5"),
    "saveat against time": (
        lambda: ps.solve(problem(tspan=(1.0, 0.0)), saveat=[0.2, 0.5]),
        "from t0 towards t1",
        "0.2",
    ),
    "saveat empty": (lambda: ps.solve(problem(), saveat=[]), "at least one time", r"\[0\]"),
    "saveat NaN": (lambda: ps.solve(problem(), saveat=[0.1, float("nan")]), "must be finite", "nan"),
    "saveat spacing": (lambda: ps.solve(problem(), saveat=-0.1), "spacing and must be positive", "-0.1"),
    "unknown solver": (
        lambda: ps.solve(problem(), "CVODE_BFD"),
        "no algorithm named 'CVODE_BFD'",
        "did you mean CVODE_BDF",
    ),
    "solver class, not instance": (lambda: ps.solve(problem(), ps.CVODE_BDF), "alg must be", "CVODE_BDF"),
    "solver option": (lambda: ps.CVODE_BDF(linear_solver="LU"), "does not know that linear_solver", "LU"),
    "solver order": (lambda: ps.CVODE_BDF(max_order=9), "orders 1 to 5", "max_order=9"),
    "zero tolerance": (lambda: ps.solve(problem(), reltol=0.0), "reltol must be positive", "reltol=0.0"),
    "negative tolerance": (lambda: ps.solve(problem(), abstol=vector(1e-6, -1.0)), "abstol must be positive", "-1.0"),
    "tolerances of another shape": (
        lambda: ps.solve(problem(), abstol=vector(1.0, 1.0, 1.0)),
        "one per state",
        r"\[3\]",
    ),
    "backward tolerance": (lambda: ps.GaussAdjoint(reltol=-1.0), "must be positive", "-1.0"),
    "negative step": (lambda: ps.solve(problem(), dt=-0.1), "dt must be positive", "-0.1"),
    "unknown engine": (lambda: ps.solve(problem(), engine="scipy"), "no engine 'scipy'", "scipy"),
    "unknown route": (lambda: ps.solve(problem(), route="fast"), "no route 'fast'", "fast"),
    "wrong structure": (
        lambda: ps.solve(plain(lambda t, u: (u, u))),
        "same structure as u0",
        r"tensor\[2\], tensor\[2\]",
    ),
    "a number": (lambda: ps.solve(plain(lambda t, u: 1.0)), "same structure as u0", "float"),
    "nothing returned": (lambda: ps.solve(plain(lambda t, u: None)), "same structure as u0", "NoneType"),
    "wrong shape": (lambda: ps.solve(plain(lambda t, u: u[:1])), "state's shape", r"\[1\] for a state \[2\]"),
    "wrong dtype": (lambda: ps.solve(plain(lambda t, u: u.float())), "state's dtype", "torch.float32"),
    "float32 network, float64 state": (
        lambda: ps.solve(plain(Net(torch.nn.Linear(2, 2)))),
        "different dtypes",
        "float32 parameters, a torch.float64 state",
    ),
    "dense output outside": (lambda: ps.solve(problem())(2.0), "inside the span", "2.0"),
}

UNSUPPORTED = {
    "Julia's solver": (lambda: ps.solve(problem(), ps.Rodas5P()), "`Rodas5P` is not available", "CVODE_BDF"),
    "Julia's explicit solver": (lambda: ps.solve(problem(), ps.Vern7()), "`Vern7` is not available", "Tsit5"),
    "backsolve on CVODES": (
        lambda: ps.solve(problem(), ps.CVODE_BDF(), sensealg=ps.BacksolveAdjoint()),
        "`BacksolveAdjoint`",
        "GaussAdjoint",
    ),
    "compiled Tsit5": (
        lambda: ps.solve(problem(), ps.Tsit5(), route="compiled"),
        "cannot take the compiled",
        "CVODE_BDF",
    ),
    "eager CVODE": (lambda: ps.solve(problem(), ps.CVODE_BDF(), route="callback"), "cannot take the callback", "Tsit5"),
    "first step of IDA": (
        lambda: ps.solve(problem(mass_matrix=vector(1.0, 1.0)), ps.IDA(), dt=0.1),
        "chooses its first step",
        "dtmax",
    ),
    "singular mass matrix": (
        lambda: ps.solve(problem(mass_matrix=vector(1.0, 0.0)), ps.CVODE_BDF()),
        "mass matrix with zeros",
        "IDA",
    ),
    "eager mass matrix": (lambda: ps.solve(problem(mass_matrix=vector(1.0, 0.0)), ps.DP5()), "mass matrix", "IDA"),
    "another backward solver": (
        lambda: ps.solve(problem(), ps.CVODE_BDF(), sensealg=ps.GaussAdjoint(alg=ps.CVODE_Adams())),
        "forward algorithm",
        "",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_input(case):
    call, what, got = INVALID[case]
    with pytest.raises(ps.InvalidInputError, match=what) as caught:
        call()
    assert re.search(got, f"{caught.value.got} {caught.value.expected}"), caught.value.got
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_unsupported(case):
    call, what, works = UNSUPPORTED[case]
    with pytest.raises(ps.UnsupportedError, match=re.escape(what)) as caught:
        call()
    assert works in f"{caught.value.expected} {caught.value.fix}"
    assert "pysciml" in caught.value.fix or "sensealg" in caught.value.fix or "Adjoint" in caught.value.fix


@pytest.mark.usefixtures("no_julia")
def test_the_julia_engine_says_how_to_go_on():
    with pytest.raises(ps.EngineMissingError, match="julia engine") as caught:
        ps.solve(problem(), engine="julia")
    assert 'engine="embedded"' in caught.value.fix


def test_the_text_has_four_parts():
    text = str(ps.InvalidInputError("It is wrong.", got="this", expected="that", fix="type so"))
    assert text == "It is wrong.\nGot this\nExpected that\nFix: type so"


@pytest.mark.parametrize(("t0", "t1", "pole"), [(0.0, 2.0, 1.0), (3.0, 5.0, 4.0)])
def test_a_blow_up_says_when(t0, t1, pole):
    with pytest.raises(ps.SolveError, match="stopped at t") as caught:
        ps.solve(ps.ODEProblem(lambda t, u: u**2, vector(1.0), (t0, t1)))
    assert caught.value.t == pytest.approx(pole, abs=1e-3)
    assert caught.value.retcode in (ps.ReturnCode.DtLessThanMin, ps.ReturnCode.Unstable)
    assert caught.value.direction == "forward"
    assert caught.value.fix


def test_a_blow_up_backwards_in_time_says_when():
    with pytest.raises(ps.SolveError) as caught:
        ps.solve(ps.ODEProblem(lambda t, u: -(u**2), vector(1.0), (3.0, 1.0)))
    assert caught.value.t == pytest.approx(2.0, abs=1e-3)


def test_leaving_the_domain_says_when():
    with pytest.raises(ps.SolveError) as caught:
        ps.solve(ps.ODEProblem(lambda t, u: torch.log(1 - t) - u, vector(1.0), (0.0, 2.0)))
    assert caught.value.t == pytest.approx(1.0, abs=1e-2)


def test_too_many_steps_says_so():
    with pytest.raises(ps.SolveError, match="MaxIters") as caught:
        ps.solve(ps.ODEProblem(lambda t, u: torch.sin(1000 * t) * u, vector(1.0), (0.0, 200.0)), maxiters=50)
    assert caught.value.retcode is ps.ReturnCode.MaxIters
    assert 0 < caught.value.t < 1


def test_a_solve_after_a_failed_one_is_right():
    prob = ps.ODEProblem(lambda t, u: u**2, vector(1.0), (0.0, 2.0))
    with pytest.raises(ps.SolveError):
        ps.solve(prob)
    assert ps.solve(prob.remake(tspan=(0.0, 0.5)), reltol=1e-9).u[-1].item() == pytest.approx(2.0, rel=1e-6)


def test_a_failed_backward_solve_raises():
    """At the end of the span the adjoint meets a pole that the forward solve only touches."""
    p = vector(1.0).requires_grad_()
    sol = ps.solve(
        ps.ODEProblem(lambda t, u, p: -p * torch.sqrt(u), vector(1.0), (0.0, 1.99), p), maxiters=300,
        sensealg=ps.GaussAdjoint(reltol=1e-13, abstol=1e-16),
    )  # fmt: skip
    with pytest.raises(ps.SolveError) as caught:
        sol.u.sum().backward()
    assert caught.value.direction == "backward"
    assert "sensealg" in caught.value.fix
    assert p.grad is None


def test_exceptions_of_f_arrive_unchanged():
    class MineError(Exception):
        pass

    def f(t, u):
        raise MineError("as it was")

    with pytest.raises(MineError, match="as it was"):
        ps.solve(plain(f))


@pytest.mark.parametrize("name", ["u0", "p"])
def test_a_tensor_that_changes_its_shape_under_a_problem_is_noticed(name):
    prob = problem(u0=vector(1.0, 1.0), p=RATES.clone())
    ps.solve(prob)
    getattr(prob, name).data = vector(1.0)
    with pytest.raises(ps.InvalidInputError, match="changed its shape") as caught:
        ps.solve(prob)
    assert "1 states" in caught.value.got or "1 parameters" in caught.value.got
    assert "ODEProblem" in caught.value.fix


def test_a_huge_state_says_what_it_would_take():
    big = torch.zeros(1, dtype=F64).expand(300_000)
    with ps.config.override(memory_limit=10**8), pytest.raises(ps.InvalidInputError, match="GiB") as caught:
        ps.solve(ps.ODEProblem(lambda t, u: -u, big, (0.0, 1.0)), saveat=torch.linspace(0, 1, 200))
    assert "300000 states, 200 saved times" in caught.value.got
    assert "memory_limit" in caught.value.fix


def test_tight_tolerances_in_float32_warn():
    with pytest.warns(ps.PySciMLWarning, match="finer than float32"):
        ps.solve(ps.ODEProblem(lambda t, u: -u, torch.ones(1), (0.0, 1.0)), reltol=1e-9)


def test_what_cannot_be_compiled_is_solved_eagerly_with_one_warning():
    def f(t, u):
        return -u if u.sum() > 0 else u

    with pytest.warns(ps.PySciMLWarning, match="cannot be compiled") as said:
        sol = ps.solve(plain(f), reltol=1e-9, abstol=1e-11)
    assert len(said) == 1
    assert "test_bad_input.py" in str(said[0].message)
    assert torch.allclose(sol.u[-1], torch.exp(torch.tensor(-1.0, dtype=F64)).expand(2), rtol=1e-7)
    with pytest.raises(ps.TraceError, match="__bool__"):
        ps.solve(plain(f), ps.CVODE_BDF())


def test_ctrl_c_stops_a_long_solve_and_the_next_one_works():
    code = """
        import signal, torch, pysciml as ps
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start without it
        prob = ps.ODEProblem(lambda t, u: torch.sin(5000 * t) * u, torch.ones(1, dtype=torch.float64), (0.0, 1.0))
        ps.solve(prob)
        print("ready", flush=True)
        try:
            ps.solve(prob.remake(tspan=(0.0, 1e6)), maxiters=10**9)
        except KeyboardInterrupt:
            print("stopped", ps.solve(prob).u.shape[0])
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    out, _ = process.communicate(timeout=60)
    assert out == "stopped 2\n"
    assert time.monotonic() - start < 10
