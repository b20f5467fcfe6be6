"""A model that contains a solve, under torch.compile."""

from __future__ import annotations

import pytest
import torch
from processes import output

import pysciml as ps

ENGINES = ["embedded", pytest.param("julia", marks=pytest.mark.julia)]

pytestmark = [
    pytest.mark.usefixtures("float64"),
    # torch's own, where it looks at the arguments of a frame after a break of the graph.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]


class Model(torch.nn.Module):
    """A layer, a neural ODE, and a layer."""

    def __init__(self, engine):
        super().__init__()
        self.engine = engine
        self.before, self.after = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
        self.net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))

    def forward(self, x):
        prob = ps.ODEProblem(lambda t, u: self.net(u), torch.tanh(self.before(x)), (0.0, 1.0))
        sol = ps.solve(prob, engine=self.engine, reltol=1e-8, abstol=1e-8)
        return self.after(sol.u[-1] + sol(0.5)).sum()


def gradient(call, model):
    model.zero_grad()
    y = call(torch.tensor([0.3, 0.4]))
    y.backward()
    return y.detach(), [x.grad.clone() for x in model.parameters()]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_graph_breaks_at_the_solve_and_nothing_else_changes(engine):
    model = Model(engine)
    expected, found = gradient(model, model), gradient(torch.compile(model, backend="aot_eager"), model)
    assert torch.allclose(found[0], expected[0], rtol=1e-12)
    for ours, eager in zip(found[1], expected[1], strict=True):
        assert torch.allclose(ours, eager, rtol=1e-10)
    torch._dynamo.reset()


def test_fullgraph_says_why_it_cannot_be():
    compiled = torch.compile(Model("embedded"), backend="aot_eager", fullgraph=True)
    with pytest.raises(Exception, match=r"not made of torch operations(.|\n)*leave out fullgraph=True"):
        compiled(torch.tensor([0.3, 0.4]))
    torch._dynamo.reset()


def test_the_compiler_is_not_imported_for_a_solve():
    assert (
        output("""
        import sys, torch, pysciml as ps
        ps.solve(ps.ODEProblem(lambda t, u: -u, torch.ones(1), (0.0, 1.0)), engine="embedded")
        print("torch._dynamo" in sys.modules)
    """).strip()
        == "False"
    )
