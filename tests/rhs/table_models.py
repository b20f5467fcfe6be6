"""Right-hand sides made of torch.nn modules, and those that people write: physics with a network in it."""

import copy
import functools

import torch
import torch.nn as nn
import torch.nn.functional as F
from tables import Case, of_net
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

SMOOTH_OR_PIECEWISE = (
    "ELU CELU SELU GELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid Mish PReLU ReLU ReLU6 RReLU "
    "SiLU Sigmoid Softplus Softshrink Softsign Tanh Tanhshrink"
).split()

ACTIVATIONS = [
    # torch's own hardsigmoid takes 1/6 in single precision.
    *(
        of_net(f"nn.{name}", getattr(nn, name), (2, 3), tol=1e-7 if name == "Hardsigmoid" else 1e-10)
        for name in SMOOTH_OR_PIECEWISE
    ),
    of_net("nn.GELU-tanh", lambda: nn.GELU(approximate="tanh"), (2, 3)),
    of_net("nn.GLU", lambda: nn.Sequential(nn.Linear(3, 6), nn.GLU()), (2, 3)),
    of_net("nn.Softmax", lambda: nn.Softmax(-1), (2, 3)),
    of_net("nn.Softmax2d", nn.Softmax2d, (1, 2, 2, 2)),
    of_net("nn.LogSoftmax", lambda: nn.LogSoftmax(1), (2, 3)),
    of_net("nn.Softmin", lambda: nn.Softmin(0), (2, 3)),
    of_net("nn.Threshold", lambda: nn.Threshold(0.1, -2.0), (2, 3)),
    of_net("nn.PReLU-channels", lambda: nn.PReLU(3), (2, 3)),
    of_net("nn.Hardtanh-limits", lambda: nn.Hardtanh(-0.3, 0.5), (2, 3)),
    of_net("nn.Softplus-beta", lambda: nn.Softplus(5, 2), (2, 3)),
    of_net(
        "nn.ReLU-inplace-on-a-temporary",
        lambda: nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True)),
        (2, 3),
    ),
]

LAYERS = [
    of_net("Linear", lambda: nn.Linear(3, 3)),
    of_net("Linear-no-bias-batch", lambda: nn.Linear(3, 4, bias=False), (2, 3)),
    of_net("Linear-3d", lambda: nn.Linear(3, 3), (2, 2, 3)),
    of_net("MLP", lambda: nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 3))),
    of_net("Bilinear", lambda: _Both(nn.Bilinear(3, 3, 2)), (2, 3)),
    of_net(
        "Identity-Flatten-Unflatten",
        lambda: nn.Sequential(nn.Identity(), nn.Flatten(0), nn.Unflatten(0, (3, 2))),
        (2, 3),
    ),
    of_net("Conv1d", lambda: nn.Conv1d(2, 3, 3), (1, 2, 6)),
    of_net("Conv1d-unbatched", lambda: nn.Conv1d(2, 2, 3, padding=1), (2, 6)),
    of_net("Conv1d-stride-padding", lambda: nn.Conv1d(2, 3, 3, stride=2, padding=2), (2, 2, 6)),
    of_net("Conv1d-same-dilation", lambda: nn.Conv1d(2, 2, 3, padding="same", dilation=2, bias=False), (1, 2, 6)),
    of_net("Conv1d-same-even", lambda: nn.Conv1d(1, 1, 4, padding="same", dilation=2), (1, 1, 6)),
    of_net("Conv1d-groups", lambda: nn.Conv1d(4, 4, 3, groups=2, padding=1), (1, 4, 5)),
    of_net("Conv1d-circular", lambda: nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular"), (1, 1, 6)),
    of_net("Conv1d-reflect", lambda: nn.Conv1d(1, 1, 3, padding=1, padding_mode="reflect"), (1, 1, 6)),
    of_net("Conv1d-replicate", lambda: nn.Conv1d(1, 1, 3, padding=1, padding_mode="replicate"), (1, 1, 6)),
    of_net("Conv2d", lambda: nn.Conv2d(2, 2, 3), (1, 2, 4, 4)),
    of_net("Conv2d-all", lambda: nn.Conv2d(2, 4, (3, 2), (2, 1), (1, 0), (1, 2), groups=2), (2, 2, 4, 4)),
    of_net("Conv2d-same-circular", lambda: nn.Conv2d(1, 1, 3, padding="same", padding_mode="circular"), (1, 1, 4, 4)),
    of_net("Conv2d-depthwise", lambda: nn.Conv2d(3, 3, 3, padding=1, groups=3), (1, 3, 3, 3)),
    of_net("Conv3d", lambda: nn.Conv3d(1, 1, 2), (1, 1, 3, 3, 3)),
    of_net("ConvTranspose1d", lambda: nn.ConvTranspose1d(2, 1, 3, stride=2, padding=1, output_padding=1), (1, 2, 4)),
    of_net("ConvTranspose2d", lambda: nn.ConvTranspose2d(2, 2, 2, stride=2, groups=2), (1, 2, 2, 2)),
    of_net("ConvTranspose2d-dilation", lambda: nn.ConvTranspose2d(1, 2, 2, dilation=2), (1, 1, 3, 3)),
    of_net("pooling", lambda: nn.Sequential(nn.AvgPool1d(2), nn.MaxPool1d(2, stride=1)), (1, 1, 6)),
    of_net("pooling-2d", lambda: nn.Sequential(nn.MaxPool2d(2, stride=1, padding=1), nn.AvgPool2d(2)), (1, 1, 4, 4)),
    of_net("adaptive-pooling", lambda: nn.AdaptiveAvgPool1d(2), (1, 1, 4)),
    of_net("adaptive-pooling-2d", lambda: nn.AdaptiveAvgPool2d(1), (1, 2, 3, 3)),
    of_net("Upsample-nearest", lambda: nn.Upsample(scale_factor=2, mode="nearest"), (1, 1, 3)),
    of_net("Upsample-bilinear", lambda: nn.Upsample(size=(3, 3), mode="bilinear", align_corners=True), (1, 1, 2, 2)),
    of_net(
        "padding-layers",
        lambda: nn.Sequential(
            nn.ConstantPad1d(1, 2.0),
            nn.ReflectionPad1d(1),
            nn.ReplicationPad1d(1),
            nn.CircularPad1d(1),
            nn.ZeroPad1d(1),
        ),
        (1, 1, 4),
    ),
    of_net("PixelShuffle", lambda: nn.PixelShuffle(2), (1, 4, 2, 2)),
    of_net("LayerNorm", lambda: nn.LayerNorm(3), (2, 3)),
    of_net("LayerNorm-2d-plain", lambda: nn.LayerNorm((2, 3), elementwise_affine=False), (2, 3)),
    of_net("RMSNorm", lambda: nn.RMSNorm(3), (2, 3)),
    of_net("GroupNorm", lambda: nn.GroupNorm(2, 4), (2, 4, 2)),
    of_net("InstanceNorm", lambda: nn.InstanceNorm1d(2, affine=True), (2, 2, 3)),
    of_net("BatchNorm-eval", lambda: nn.BatchNorm1d(3), (2, 3), fixed=True),
    of_net("BatchNorm2d-eval", lambda: _with_statistics(nn.BatchNorm2d(2)), (1, 2, 2, 2), fixed=True),
    of_net("BatchNorm-plain-eval", lambda: nn.BatchNorm1d(3, affine=False), (2, 3), fixed=True),
    of_net("Dropout-eval", lambda: nn.Sequential(nn.Dropout(0.5), nn.AlphaDropout(), nn.Linear(3, 3)), (2, 3)),
    of_net("weight-norm", lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), (3,)),
    of_net("spectral-norm", lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)), (3,)),
    of_net("MultiheadAttention", lambda: _Attend(nn.MultiheadAttention(4, 2, batch_first=True)), (1, 3, 4)),
    of_net("MultiheadAttention-weights", lambda: _Attend(nn.MultiheadAttention(4, 2), need_weights=True), (3, 1, 4)),
    of_net("TransformerEncoderLayer", lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), (1, 2, 4)),
    of_net("GRUCell", lambda: nn.GRUCell(3, 3), (2, 3)),
    of_net("LSTMCell", lambda: _First(nn.LSTMCell(3, 3)), (2, 3)),
    of_net("RNNCell", lambda: nn.RNNCell(3, 3), (2, 3)),
    of_net("Embedding-of-constants", lambda: _Embedded()),
    of_net("ModuleList-ParameterList", lambda: _Lists()),
    of_net("shared-weights", lambda: _Twice(nn.Linear(3, 3))),
    of_net("frozen-weights", lambda: nn.Linear(3, 3).requires_grad_(False)),
]


class _Both(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x, x * x)


class _First(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        return self.cell(x)[0]


class _Attend(nn.Module):
    def __init__(self, attention, **options):
        super().__init__()
        self.attention, self.options = attention, options

    def forward(self, x):
        return self.attention(x, x.sin(), x.cos(), **{"need_weights": False, **self.options})[0]


class _Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(4, 3)
        self.register_buffer("kinds", torch.tensor([0, 2, 0]))

    def forward(self, x):
        return self.table(self.kinds).sum(0) * x


class _Lists(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))
        self.gains = nn.ParameterList(torch.randn(3) for _ in range(2))
        self.names = nn.ParameterDict({"k": nn.Parameter(torch.randn(()))})

    def forward(self, x):
        for layer, gain in zip(self.layers, self.gains, strict=True):
            x = x + gain * torch.tanh(layer(x))
        return x * self.names["k"]


class _Twice(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(torch.tanh(self.layer(x)))


def _with_statistics(norm):
    norm.running_mean.uniform_()
    norm.running_var.uniform_(0.5, 2)
    return norm


# What people write ---------------------------------------------------------------------------------------------------


class Missing(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
        self.rates = nn.Parameter(torch.tensor([1.3, 1.8]))
        self.register_buffer("scale", torch.tensor([0.5, 2.0]))
        self.power = 2

    def forward(self, t, u):
        x, y = u
        known = torch.stack([self.rates[0] * x, -self.rates[1] * y**self.power])
        return known + self.scale * self.net(u) * torch.exp(-0.1 * t)


def lotka_volterra(t, u, p):
    x, y = u
    a, b, c, d = p
    return torch.stack([a * x - b * x * y, c * x * y - d * y])


def robertson(t, u):
    a, b, c = u[0], u[1], u[2]
    du = torch.zeros_like(u)
    du[0] = -0.04 * a + 1e4 * b * c
    du[1] = 0.04 * a - 1e4 * b * c - 3e7 * b * b
    du[2] = 3e7 * b**2
    return du


def hill(t, u, p):
    return p["vmax"] * u ** p["n"] / (p["k"] ** p["n"] + u ** p["n"]) - u


def pendulum(t, state):
    return {"v": -9.81 * torch.sin(state["q"]) - 0.1 * state["v"], "q": state["v"]}


def nested(t, state, p):
    (x, y), z = state["a"], state["b"]
    return {"a": (y * p[0], -x * p[1]["k"]), "b": z.sum() * torch.ones_like(z) * t}


def forced(t, u):
    return torch.where(t > 0.1, torch.sin(6.28 * (t % 0.25)), torch.floor(t)) - u


def brusselator(t, u):
    x, y = u[0], u[1]

    def laplace(z):
        return (z.roll(1, 0) + z.roll(-1, 0) + z.roll(1, 1) + z.roll(-1, 1) - 4 * z) * 9

    return torch.stack([1 + x**2 * y - 4.4 * x + 0.1 * laplace(x), 3.4 * x - x**2 * y + 0.1 * laplace(y)])


def kepler(t, u):
    q, v = u.chunk(2)
    return torch.cat([v, -q / torch.linalg.norm(q) ** 3])


def n_body(t, u):
    q, v = u[0], u[1]
    away = q[:, None] - q[None]
    force = -(away / (away.pow(2).sum(-1, keepdim=True) + 0.01) ** 1.5).sum(1)
    return torch.stack([v, force])


def kuramoto(t, u):
    return 1.0 + torch.sin(u[None, :] - u[:, None]).mean(1)


class Hamiltonian(nn.Module):
    def __init__(self):
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))

    def forward(self, t, u):
        dq, dp = grad(lambda z: self.energy(z).sum())(u)
        return torch.stack([dp, -dq])


class Lagrangian(nn.Module):
    def __init__(self):
        super().__init__()
        self.mass = nn.Parameter(torch.tensor([1.0, 2.0]))

    def energy(self, q, v):
        return 0.5 * (self.mass * v**2).sum() - torch.cos(q).sum() * (v**2).sum()

    def forward(self, t, u):
        q, v = u[:2], u[2:]
        h = torch.diagonal(hessian(self.energy, 1)(q, v))
        return torch.cat([v, grad(self.energy)(q, v) / h])


def by_jacrev(t, u):
    return jacrev(lambda x: x**2 * x.sum())(u) @ u


def by_jacfwd(t, u):
    return jacfwd(lambda x: torch.sin(x) * x.sum())(u) @ u


def by_jvp(t, u):
    return jvp(lambda x: x * x.sum(), (u,), (u.sin(),))[1]


def by_vjp(t, u):
    return vjp(lambda x: x * x.sum(), u)[1](u.cos())[0]


def by_vmap(t, u):
    return vmap(lambda row: row * row.sum() + torch.tanh(row))(u)


def by_vmap_of_grad(t, u):
    return vmap(grad(lambda x: (x**3).sum() * x[0]))(u)


class Cube(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * g


class Stateless(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(2, 2)

    def forward(self, t, u, p):
        return functional_call(self.body, p, (u,)) * torch.cos(t)


class MixedPrecision(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2)).float()

    def forward(self, t, u):
        return self.net(u.float()).double()


class GraphNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.edge = nn.Linear(4, 2)
        self.register_buffer("edges", torch.tensor([[0, 1, 2, 0], [1, 2, 0, 2]]))

    def forward(self, t, u):
        source, target = self.edges
        messages = torch.tanh(self.edge(torch.cat([u[source], u[target]], -1)))
        return torch.zeros_like(u).index_add(0, target, messages)


def closure_of_tensors():
    k, w = torch.tensor(0.7), torch.randn(3, 3)
    return lambda t, u: torch.tanh(w @ u) * k + t


def partial_of_function():
    return functools.partial(lambda a, t, u: a * u + t, 2.5)


def _normal(*shape):
    return lambda: torch.randn(shape)


WRITTEN = [
    Case("universal-equation", Missing, (2,)),
    Case("lotka-volterra", lambda: lotka_volterra, (2,), p=lambda: torch.tensor([1.5, 1.0, 3.0, 1.0])),
    Case("robertson", lambda: robertson, lambda: torch.tensor([1.0, 1e-5, 0.1]), tol=1e-9),
    Case(
        "hill",
        lambda: hill,
        (3,),
        p=lambda: {"vmax": torch.tensor(2.0), "n": torch.tensor(2.5), "k": torch.tensor([0.5, 1.0, 2.0])},
        positive=True,
    ),
    Case("pendulum-dict", lambda: pendulum, lambda: {"q": torch.tensor(0.5), "v": torch.randn(())}),
    Case(
        "nested-state-and-parameters",
        lambda: nested,
        lambda: {"a": (torch.tensor(1.0), torch.tensor(2.0)), "b": torch.randn(3)},
        p=lambda: [torch.tensor(0.3), {"k": torch.tensor(2.0)}],
    ),
    Case(
        "tuple-state",
        lambda: lambda t, s: (s[1].sum() * s[0], s[1] * s[0][0]),
        lambda: (torch.randn(2), torch.randn(2, 2)),
    ),
    Case("list-state", lambda: lambda t, s: [s[0] * t, s[1] * s[0]], lambda: [torch.randn(()), torch.randn(2)]),
    Case("scalar-state", lambda: lambda t, u: -u * torch.exp(-t), lambda: torch.tensor(0.7)),
    Case("batch-state", lambda: lambda t, u: torch.stack([u[:, 1], -u[:, 0]], 1) * t, (4, 2)),
    Case("forced-in-time", lambda: forced, (2,)),
    Case("time-only", lambda: lambda t, u: torch.stack([t, t**2]), (2,)),
    Case("constant", lambda: lambda t, u: torch.ones_like(u), (2,)),
    Case("zero", lambda: lambda t, u: 0 * u, (2,)),
    Case("identity", lambda: lambda t, u: u, (2,)),
    Case("the-parameter-itself", lambda: lambda t, u, p: p, (2,), p=_normal(2)),
    Case(
        "unused-parameter",
        lambda: lambda t, u, p: u * p["a"],
        (2,),
        p=lambda: {"a": torch.randn(2), "b": torch.randn(3)},
    ),
    Case("brusselator-2d", lambda: brusselator, (2, 3, 3), positive=True),
    Case("kepler", lambda: kepler, (4,)),
    Case("n-body", lambda: n_body, (2, 3, 2)),
    Case("kuramoto", lambda: kuramoto, (4,)),
    Case("hamiltonian-net", Hamiltonian, (2,)),
    Case("lagrangian-hessian", Lagrangian, (4,)),
    Case("jacrev", lambda: by_jacrev, (3,)),
    Case("jacfwd", lambda: by_jacfwd, (3,)),
    Case("jvp", lambda: by_jvp, (3,)),
    Case("vjp", lambda: by_vjp, (3,)),
    Case("vmap", lambda: by_vmap, (2, 3)),
    Case("vmap-of-grad", lambda: by_vmap_of_grad, (2, 3)),
    Case("custom-function", lambda: lambda t, u: Cube.apply(u) - u, (3,)),
    Case("functional_call", Stateless, (2,), p=lambda: {k: v.detach() for k, v in nn.Linear(2, 2).named_parameters()}),
    Case("float32-network-in-float64", MixedPrecision, (2,), tol=1e-4),
    Case("graph-network", GraphNetwork, (3, 2)),
    Case("closure", closure_of_tensors, (3,)),
    Case("partial", partial_of_function, (3,)),
    Case("deepcopied-module", lambda: copy.deepcopy(Missing()), (2,)),
    Case("loop-in-python", lambda: lambda t, u: functools.reduce(lambda x, k: x + k * torch.sin(x), range(3), u), (2,)),
    Case("float32", lambda: lambda t, u: torch.tanh(u) * u.sum(), lambda: torch.randn(3).float(), tol=2e-5),
    Case("float32-network", lambda: _no_time(nn.Linear(3, 3).float()), lambda: torch.randn(3).float(), tol=2e-5),
    Case("one-element", lambda: lambda t, u: torch.tanh(u) * u.sum() + u[0] * u[-1], (1,)),
    Case("one-by-one", lambda: lambda t, u: u @ u + u.mean(0) + u.amax(1, keepdim=True), (1, 1)),
    Case("empty-parts", lambda: lambda t, u: torch.cat([u[:0], u, u[3:]]) + u[:0].sum(), (3,)),
    Case("sum-of-many-uses", lambda: lambda t, u: sum((u * k).tanh() for k in range(5)), (2,)),
]


def _no_time(net):
    return lambda t, u: F.silu(net(u))
