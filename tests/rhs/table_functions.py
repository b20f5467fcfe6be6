"""Right-hand sides made of torch functions: elementwise, reductions, products, rearrangements."""

import math

import torch
import torch.nn.functional as F
from tables import of_u

UNARY = (
    "neg positive abs sign sgn exp expm1 exp2 sin cos tan asin acos atan sinh cosh tanh asinh atanh erf erfc sigmoid "
    "square deg2rad rad2deg sinc floor ceil trunc frac relu selu celu nan_to_num "
    "special.expit special.erf special.ndtr special.xlog1py"
).split()  # fmt: skip
POSITIVE = "log log1p log2 log10 sqrt rsqrt reciprocal logit special.entr".split()


def _named(name):
    function = torch
    for part in name.split("."):
        function = getattr(function, part)
    return (lambda u: function(u, u + 2)) if name.endswith("1py") else function


ELEMENTWISE = [
    *(of_u(f"torch.{name}", _named(name)) for name in UNARY),
    *(of_u(f"torch.{name}", _named(name), positive=True) for name in POSITIVE),
    of_u("acosh", lambda u: torch.acosh(u + 1.5), positive=True),
    of_u("arithmetic", lambda u: 2 * u - u / 3 + 1 / (u + 4) - (-u) + (1 - u) * u),
    of_u("add-alpha", lambda u: torch.add(u, u * u, alpha=0.5) - torch.sub(u, 2, alpha=3)),
    of_u("pow-number", lambda u: u**2 + u**3 - u**-1 + u**0),
    of_u("pow-half", lambda u: u**0.5 + u**-1.5 + torch.pow(u, 2.5), positive=True),
    of_u("pow-base", lambda u: 2**u + torch.pow(3.0, u)),
    of_u("pow-tensor", lambda u: u ** (u + 1), positive=True),
    of_u("remainder", lambda u: (7 * u) % 2 + torch.remainder(5 * u, u + 3)),
    of_u("fmod", lambda u: torch.fmod(7 * u, 2) + torch.fmod(5 * u, u + 3)),
    of_u("div-rounding", lambda u: torch.div(7 * u, 2, rounding_mode="trunc") + u),
    of_u("round", lambda u: torch.round(7 * u) + torch.round(u, decimals=1) + u),
    of_u("atan2", lambda u: torch.atan2(u, u.flip(0) + 1)),
    of_u("hypot", lambda u: torch.hypot(u, u.flip(0))),
    of_u("logaddexp", lambda u: torch.logaddexp(u, u.flip(0)) + torch.logaddexp2(u, 2 * u)),
    of_u("xlogy", lambda u: torch.xlogy(u, u + 2) + torch.special.xlogy(2, u + 3)),
    of_u("copysign", lambda u: torch.copysign(u.flip(0), u)),
    of_u("lerp", lambda u: torch.lerp(u, u * u, 0.3) + torch.lerp(u, u.flip(0), u)),
    of_u("addcmul-addcdiv", lambda u: torch.addcmul(u, u, u, value=0.5) + torch.addcdiv(u, u, u + 3, value=2)),
    of_u("clamp", lambda u: u.clamp(-0.4, 0.5) + u.clamp(min=0.1) + u.clamp(max=0.2)),
    of_u("clamp-tensor", lambda u: torch.clamp(u, min=u.flip(0) - 0.1, max=u.flip(0) + 0.3)),
    of_u("clip-and-clamp_min", lambda u: torch.clip(u, -0.3, 0.3) + u.clamp_min(0.1) * u.clamp_max(0.2)),
    of_u("where", lambda u: torch.where(u > 0, u * u, -u) + torch.where(u > 0.2, 1.0, u)),
    of_u("where-of-logic", lambda u: torch.where((u > 0.1) & ~(u > 0.5) | (u < -0.5), u.sin(), u.cos())),
    of_u("where-xor", lambda u: torch.where((u > 0.1) ^ (u < 0.5), u.sin(), u.cos())),
    of_u("where-equality", lambda u: torch.where((u == u) & (u != 0) & (u >= -1) & (u <= 1), u, 0.0)),
    of_u("where-isnan", lambda u: torch.where(torch.isnan(u) | torch.isinf(u), 0.0, u)),
    of_u("where-isfinite", lambda u: torch.where(torch.isfinite(u), u, 0.0)),
    of_u("logical-functions", lambda u: torch.where(torch.logical_and(u > 0, torch.logical_not(u > 0.5)), u, -u)),
    of_u("masked_fill", lambda u: u.masked_fill(u > 0, 2.0) * u),
    of_u("boolean-times-number", lambda u: (u > 0) * u + (u > 0.3).to(u.dtype) + (u > 0).double() * u),
    of_u("maximum-minimum", lambda u: torch.maximum(u, u.flip(0)) * torch.minimum(u, 2 * u)),
    of_u("fmax-fmin", lambda u: torch.fmax(u, u.flip(0)) + torch.fmin(u, 2 * u)),
    of_u("max-of-two", lambda u: torch.max(u, u.flip(0)) - torch.min(u, u.roll(1))),
    of_u("softplus-beta", lambda u: F.softplus(u, beta=3, threshold=1)),
    of_u("polynomial", lambda u: torch.stack([u**k for k in range(4)]).sum(0)),
    of_u("sigmoid-method", lambda u: u.sigmoid() * u.tanh().exp().log1p()),
    of_u("casts", lambda u: u.float().double() * 0 + u.to(torch.float64) + u.type_as(u) + u.type(torch.float64)),
    of_u("integer-cast", lambda u: (5 * u).long() * u + (5 * u).int()),
    of_u("huber", lambda u: F.smooth_l1_loss(u, u * u) + F.huber_loss(u, u.sin()) + F.mse_loss(u, u.cos())),
    of_u("python-numbers", lambda u: math.pi * u + math.e**2 - 3 * u + bool(1)),
]

REDUCTIONS = [
    of_u("sum", lambda u: [u.sum(), u.sum(0), u.sum(-1, keepdim=True), u.sum((0, 1))], (2, 3)),
    of_u("mean", lambda u: [u.mean(), u.mean(1), u.mean((0, 1), keepdim=True), torch.mean(u, dim=0)], (2, 3)),
    of_u("prod", lambda u: [u.prod(), u.prod(1), u.prod(0, keepdim=True)], (2, 3)),
    of_u("prod-with-zero", lambda u: [(u * torch.tensor([0.0, 1.0, 1.0])).prod(), u.prod()], (3,)),
    of_u("var", lambda u: [u.var(), u.var(1), u.var(0, unbiased=False), u.var(1, correction=0, keepdim=True)], (3, 3)),
    of_u("std", lambda u: [u.std(), u.std(1), u.std(0, unbiased=False), u.std((0, 1), keepdim=True)], (3, 3)),
    of_u("var_mean-std_mean", lambda u: [*torch.var_mean(u, 1), *torch.std_mean(u)], (2, 3)),
    of_u("amax-amin", lambda u: [u.amax(), u.amax(1), u.amin(0, keepdim=True), u.amin((0, 1))], (2, 3)),
    of_u("max-min", lambda u: [u.max(), u.min(), u.max(1).values, u.min(0, keepdim=True)[0]], (2, 3)),
    of_u("max-indices", lambda u: [u.max(1).indices * u.sum(), torch.min(u, 0)[1] * u[0]], (2, 3)),
    of_u("aminmax", lambda u: [*u.aminmax(dim=1)], (2, 3)),
    of_u("median-like-by-max", lambda u: u.max(0).values - u.min(0).values, (3, 3)),
    of_u("argmax", lambda u: [u.argmax() * u.sum(), u.argmin(1) * u[:, 0]], (2, 3)),
    of_u("any-all", lambda u: [torch.where((u > 0).any(), u, -u), torch.where((u > -2).all(1), u[:, 0], 0.0)], (2, 3)),
    of_u("norm-2", lambda u: [u.norm(), torch.linalg.norm(u), torch.linalg.vector_norm(u, dim=1)], (2, 3)),
    of_u("norm-1-inf", lambda u: [u.norm(1), u.norm(p=float("inf")), u.norm(p=-float("inf"), dim=0)], (2, 3)),
    of_u("norm-3-0.5", lambda u: [u.norm(3), u.norm(0.5, dim=1), u.norm(p=4, dim=(0, 1))], (2, 3)),
    of_u(
        "norm-fro", lambda u: [torch.norm(u, "fro"), torch.linalg.matrix_norm(u), u.norm(dim=1, keepdim=True)], (2, 3)
    ),
    of_u(
        "matrix-norm-1", lambda u: [torch.linalg.matrix_norm(u, 1), torch.linalg.matrix_norm(u, float("inf"))], (2, 3)
    ),
    of_u("normalize", lambda u: F.normalize(u, dim=1), (2, 3)),
    of_u("cosine-similarity", lambda u: F.cosine_similarity(u, u.flip(1), dim=1), (2, 3)),
    of_u("dist-cdist", lambda u: [torch.dist(u[0], u[1]), (u[:, None] - u[None] + 1).norm(dim=-1)], (2, 3)),
    of_u("pairwise-distance", lambda u: F.pairwise_distance(u[:1], u[1:]), (2, 3)),
    of_u("cdist", lambda u: torch.cdist(u, u + 1), (2, 3)),
    of_u("cumsum", lambda u: u.cumsum(0) + torch.cumsum(u, -1), (2, 3)),
    of_u("cumprod", lambda u: u.cumprod(1), (2, 3)),
    of_u("logcumsumexp", lambda u: torch.logcumsumexp(u, 1), (2, 3)),
    of_u("softmax", lambda u: u.softmax(-1) + F.softmax(u, 0) + F.softmin(u, 1), (2, 3)),
    of_u("log_softmax", lambda u: u.log_softmax(-1) + F.log_softmax(u, 0), (2, 3)),
    of_u("logsumexp", lambda u: [u.logsumexp(0), torch.logsumexp(u, (0, 1), keepdim=True)], (2, 3)),
    of_u("trace-diagonal", lambda u: [u.trace(), u.diagonal(), torch.diagonal(u, 1)], (3, 3)),
    of_u("count-nonzero", lambda u: torch.count_nonzero(u > 0) * u),
    of_u("trapezoid", lambda u: [torch.trapezoid(u), torch.trapezoid(u, dx=0.1), torch.cumulative_trapezoid(u)], (4,)),
    of_u("nansum-nanmean", lambda u: [u.nansum(), torch.nanmean(u)]),
    of_u("cross-entropy", lambda u: F.cross_entropy(u, torch.tensor([0, 2])), (2, 3)),
]

PRODUCTS = [
    of_u("matmul-vectors", lambda u: u @ u),
    of_u("matmul-matrix-vector", lambda u: [u @ u[0], u[:, 0] @ u], (3, 3)),
    of_u("matmul-matrices", lambda u: u @ u.T @ u.mT.t(), (2, 2)),
    of_u("matmul-batches", lambda u: u @ u.transpose(1, 2) @ u, (2, 2, 3)),
    of_u("matmul-broadcast", lambda u: [u @ u[0, 0], u @ u[0].T, u[0] @ u.mT], (2, 2, 3)),
    of_u("matmul-with-itself-transposed", lambda u: u.T @ u + u @ u.T, (3, 3)),
    of_u("bmm", lambda u: torch.bmm(u, u.mT), (2, 2, 3)),
    of_u("mv-dot-outer", lambda u: [torch.mv(u, u[0]), torch.dot(u[0], u[1]), torch.outer(u[0], u[1])], (3, 3)),
    of_u("inner-vdot-ger", lambda u: [torch.inner(u, u), torch.vdot(u[0], u[1]), torch.ger(u[0], u[1])], (2, 3)),
    of_u("addmm", lambda u: torch.addmm(u, u, u, beta=0.5, alpha=2), (3, 3)),
    of_u("addmv-addr", lambda u: [torch.addmv(u[0], u, u[1], alpha=2), torch.addr(u, u[0], u[1])], (3, 3)),
    of_u("baddbmm", lambda u: torch.baddbmm(u, u, u, beta=0.5, alpha=2), (2, 2, 2)),
    of_u("addbmm", lambda u: torch.addbmm(u[0], u, u), (2, 2, 2)),
    of_u("chain-and-multi_dot", lambda u: torch.linalg.multi_dot([u, u.T, u]), (2, 3)),
    of_u("kron", lambda u: torch.kron(u, 2 * u), (2, 2)),
    of_u("einsum-matrix", lambda u: torch.einsum("ij,jk->ik", u, u), (3, 3)),
    of_u(
        "einsum-trace", lambda u: [torch.einsum("ii", u), torch.einsum("ij->j", u), torch.einsum("ij->ji", u)], (3, 3)
    ),
    of_u("einsum-batch", lambda u: torch.einsum("bij,bjk,k->bi", u, u.mT, u[0, :, 0]), (2, 2, 3)),
    of_u("einsum-ellipsis", lambda u: torch.einsum("...i,...i->...", u, u), (2, 3)),
    of_u("einsum-outer", lambda u: torch.einsum("i,j->ij", u, u)),
    of_u("tensordot", lambda u: [torch.tensordot(u, u, 2), torch.tensordot(u, u, dims=([1], [1]))], (2, 3)),
    of_u("cross", lambda u: torch.linalg.cross(u, u.roll(1)) + torch.cross(u, u**2, dim=0)),
    of_u("bilinear", lambda u: F.bilinear(u, u, torch.ones(3, 3, 3, dtype=u.dtype).cumsum(2)), (2, 3)),
    of_u("matrix-power", lambda u: torch.linalg.matrix_power(u, 3), (2, 2)),
    of_u("matmul-of-gathered", lambda u: u[[1, 0]] @ u[:, [0, 2, 1]].T, (2, 3)),
    of_u("det-2x2-by-hand", lambda u: (u[0, 0] * u[1, 1] - u[0, 1] * u[1, 0]) * u, (2, 2)),
]
