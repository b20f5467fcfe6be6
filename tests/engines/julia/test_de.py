"""`pysciml.de`: every kind of problem that Julia's namespace offers, against what is known of its solution."""

from __future__ import annotations

import pytest
from processes import output

CODE = """
import numpy as np
from pysciml import de

def near(x, y, error=1e-5):
    return bool(np.allclose(x, y, rtol=error, atol=error))

tight = {"abstol": 1e-10, "reltol": 1e-10}

def radioactive_chain(u, p, t):  # A -> B -> C
    a, b, c = u
    return [-p[0] * a, p[0] * a - p[1] * b, p[1] * b]
def chain(t):
    a, b = np.exp(-2.0 * t), 2.0 / (0.5 - 2.0) * (np.exp(-2.0 * t) - np.exp(-0.5 * t))
    return np.array([a, b, 1 - a - b])
prob = de.ODEProblem(radioactive_chain, [1.0, 0.0, 0.0], (0.0, 3.0), (2.0, 0.5))
sol = de.solve(prob, de.Vern9(), saveat=0.25, **tight)
print("list", near(de.stack(sol.u), chain(np.array(sol.t))))

def spring(du, u, p, t):
    du[0], du[1] = u[1], -p[0] * u[0]
sol = de.solve(de.ODEProblem(spring, np.array([1.0, 0.0]), (0.0, 2.0), np.array([4.0])), de.Tsit5(), **tight)
print("in place", near(sol.u[-1], [np.cos(4.0), -2 * np.sin(4.0)]))
sol = de.solve(de.ODEProblem(radioactive_chain, [1.0, 0.0, 0.0], (0.0, 3.0), (2.0, 0.5)), **tight)
print("no algorithm", near(sol.u[-1], chain(3.0)), near(sol(1.1), chain(1.1)))

# A fast reaction held by a slow drive, in Julia, with its Jacobian.
f = de.seval("(du, u, p, t) -> (du[1] = -p[1] * (u[1] - sin(t)) + cos(t); nothing)")
jac = de.seval("(J, u, p, t) -> (J[1, 1] = -p[1]; nothing)")
prob = de.ODEProblem(de.ODEFunction(f, jac=jac), [0.0], (0.0, 10.0), np.array([1e6]))
for alg in (de.Rodas5(), de.FBDF(), de.TRBDF2(), de.CVODE_BDF()):
    sol = de.solve(prob, alg, abstol=1e-8, reltol=1e-8)
    assert near(sol.u[-1], [np.sin(10.0)], 1e-4), (alg, sol.u[-1])
print("stiff True")

# The sum of two charges is conserved: an algebraic equation.
def charges(du, u, p, t):
    return [-u[0] - du[0], u[0] + u[1] - 1.0]
prob = de.DAEProblem(charges, [-1.0, 1.0], [1.0, 0.0], (0.0, 1.0), differential_vars=[True, False])
sol = de.solve(prob, de.IDA(), **tight)
print("dae", near(sol.u[-1], [np.exp(-1.0), 1 - np.exp(-1.0)]))

# A thermostat that feels the temperature of a second ago; by the method of steps 1 - t, then t^2/2 - 2t + 3/2.
prob = de.DDEProblem(lambda u, h, p, t: [-h(p, t - 1.0)[0]], [1.0], lambda p, t: [1.0], (0.0, 2.0), constant_lags=[1.0])
sol = de.solve(prob, de.MethodOfSteps(de.Tsit5()), saveat=0.5, **tight)
print("dde", near([u[0] for u in sol.u], [1.0, 0.5, 0.0, -0.375, -0.5]))

# A Brownian particle on a spring: as t grows its variance is noise^2 / (2 stiffness) = 0.25.
prob = de.SDEProblem(lambda u, p, t: -0.5 * u, lambda u, p, t: 0.5, 0.0, (0.0, 2000.0))
sol = de.solve(prob, de.SOSRI(), saveat=1.0, abstol=1e-2, reltol=1e-2)
print("sde", len(sol.u) == 2001, 0.15 < np.var(np.array(sol.u)) < 0.4)

prob = de.ODEProblem(lambda u, p, t: [-p[0] * u[0]], [1.0], (0.0, 1.0), (1.0,))
many = de.EnsembleProblem(prob, prob_func=lambda prob, *which: de.remake(prob, p=(2.0,)), safetycopy=False)
sols = de.solve(many, de.Tsit5(), de.EnsembleSerial(), trajectories=3, **tight)
print("ensemble", len(sols.u), near(sols.u[2].u[-1], [np.exp(-2.0)]))

# A stone reaches the ground at t = sqrt(2 h / g).
ground = de.ContinuousCallback(lambda u, t, i: u[0], lambda i: de.terminate_b(i))
prob = de.ODEProblem(lambda u, p, t: [u[1], -9.81], [20.0, 0.0], (0.0, 10.0))
sol = de.solve(prob, de.Tsit5(), callback=ground, **tight)
print("event", near(sol.t[-1], np.sqrt(40.0 / 9.81)))

for name in ("jit", "NoSuchSolver"):
    try:
        getattr(de, name)
    except (NotImplementedError, AttributeError) as error:
        print(type(error).__name__)
"""

EXPECTED = """list True
in place True
no algorithm True True
stiff True
dae True
dde True
sde True True
ensemble 3 True
event True
UnsupportedError
AttributeError"""


@pytest.mark.julia
def test_every_kind_of_problem():
    assert output(CODE).strip() == EXPECTED
