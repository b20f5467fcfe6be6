"""Right-hand sides that move numbers about: joining, cutting, indexing, padding, stencils, writing in place."""

import torch
import torch.nn.functional as F
from tables import of_u

VIEWS = [
    of_u("cat", lambda u: torch.cat([u, u * u, u[:1]]), (2, 3)),
    of_u("cat-dim", lambda u: torch.cat((u[:, 1:], u[:, :1]), dim=-1), (2, 3)),
    of_u("stack", lambda u: torch.stack([u[0], u[1].sin(), u[2] * u[0]])),
    of_u("stack-dim", lambda u: torch.stack([u, u * 2], dim=1), (2, 3)),
    of_u("hstack-vstack-dstack", lambda u: [torch.hstack([u, u]), torch.vstack([u, u]), torch.dstack([u, u])], (2, 3)),
    of_u("column-row-stack", lambda u: [torch.column_stack([u, u * u]), torch.row_stack([u, u.sin()])]),
    of_u("split", lambda u: u.split(2)[0] * u.split([2, 2, 1])[1] + u[-1], (5,)),
    of_u("chunk", lambda u: [x * k for k, x in enumerate(u.chunk(2, dim=1))], (2, 4)),
    of_u("tensor_split-hsplit", lambda u: [*torch.tensor_split(u, 3), *torch.hsplit(u, 2)], (4,)),
    of_u("unbind", lambda u: sum(k * x for k, x in enumerate(u.unbind(0))), (3, 2)),
    of_u("unpack", lambda u: torch.stack([(lambda x, y: x * y)(*u), (lambda x, y: x - y)(*u)]), (2,)),
    of_u("iterate", lambda u: torch.stack([x * x for x in u])),
    of_u("reshape", lambda u: u.reshape(3, 2) @ u.view(2, -1), (2, 3)),
    of_u("view-as-flatten-ravel", lambda u: [u.flatten() * u.ravel(), u.view_as(u), u.unflatten(1, (3, 1))], (2, 3)),
    of_u("permute", lambda u: u.permute(2, 0, 1) * torch.permute(u, (2, 0, 1)), (2, 3, 2)),
    of_u("transpose", lambda u: [u.transpose(0, 1), u.swapaxes(0, 1).sin(), u.adjoint().cos()], (2, 3)),
    of_u("movedim", lambda u: u.movedim(0, 2) + torch.moveaxis(u, 0, -1), (2, 3, 2)),
    of_u("expand", lambda u: [u[:1].expand(2, -1) * u, u[0].expand_as(u), torch.broadcast_to(u[0], (2, 2, 3))], (2, 3)),
    of_u("broadcast_tensors", lambda u: [*torch.broadcast_tensors(u, u[:, :1])], (2, 3)),
    of_u("repeat-tile", lambda u: [u.repeat(2, 1), u.tile(2), torch.tile(u, (1, 2, 1))], (2, 3)),
    of_u("repeat_interleave", lambda u: [u.repeat_interleave(2, 0), u.repeat_interleave(2)], (2, 3)),
    of_u("repeat_interleave-tensor", lambda u: u.repeat_interleave(torch.tensor([2, 1]), 0), (2, 3)),
    of_u("squeeze-unsqueeze", lambda u: u.unsqueeze(-1).unsqueeze(0).squeeze() * u[:, None].squeeze(1)),
    of_u("roll", lambda u: u.roll(1) - 2 * u + torch.roll(u, -1) + u.roll((1, 1), (0, 1)), (3, 3)),
    of_u("roll-by-more-than-once-round", lambda u: u.roll(7, 0) + u.roll(-5, 0)),
    of_u("flip", lambda u: u.flip(0) + torch.flip(u, (0, 1)) + torch.fliplr(u) + torch.flipud(u), (2, 3)),
    of_u("rot90", lambda u: torch.rot90(u) + torch.rot90(u, 2) + u.rot90(3), (3, 3)),
    of_u("tril-triu", lambda u: u.tril() + torch.triu(u, 1) * 2 + u.tril(-1), (3, 3)),
    of_u("diag", lambda u: torch.diag(u) @ u + torch.diag_embed(u).sum(0) + torch.diag(torch.diag(u))),
    of_u("unfold", lambda u: [u.unfold(0, 3, 1), u.unfold(0, 2, 2).sin()], (6,)),
    of_u("unfold-1-of-2", lambda u: u.unfold(1, 2, 1).mean(-1), (2, 4)),
    of_u("meshgrid", lambda u: [x * y for x, y in [torch.meshgrid(u, u[:2], indexing="ij")]]),
    of_u("meshgrid-xy", lambda u: [x * y for x, y in [torch.meshgrid(u, u[:2], indexing="xy")]]),
    of_u("cartesian_prod", lambda u: torch.cartesian_prod(u, u[:2])),
    of_u("block_diag", lambda u: torch.block_diag(u, u * u), (2, 2)),
    of_u("as_strided", lambda u: u.as_strided((2, 2), (1, 1), 1), (2, 3)),
    of_u("pixel_shuffle", lambda u: F.pixel_shuffle(u, 2), (1, 4, 2, 2)),
    of_u(
        "full-zeros-ones-eye",
        lambda u: (
            torch.full_like(u, 2.0) * u
            + torch.ones(3, 3).double() @ u
            + torch.eye(3).double() @ u
            + torch.zeros_like(u)
        ),
    ),
    of_u(
        "arange-linspace",
        lambda u: u * torch.arange(3) + torch.linspace(0, 1, 3, dtype=u.dtype) * torch.arange(1.0, 4.0),
    ),
    of_u(
        "new-tensors",
        lambda u: u.new_zeros(3) + u.new_ones(3) * u + u.new_full((3,), 2.0) + u.new_tensor([1.0, 2.0, 3.0]),
    ),
    of_u(
        "tensor-of-constants", lambda u: torch.tensor([1.0, 2.0, 3.0]) * u + torch.as_tensor(0.5) + torch.tensor(2) * u
    ),
]

INDEXING = [
    of_u("select", lambda u: u[0] * u[-1] + u.select(0, 1), (3, 2)),
    of_u("slices", lambda u: [u[1:], u[:-1], u[::2], u[-3:-1], u[1:4:2]], (5,)),
    of_u("slice-beyond", lambda u: [u[1:100], u[-100:2], u.narrow(0, 1, 2)], (5,)),
    of_u("two-axes", lambda u: [u[0, 1], u[:, 1], u[1:, :2], u[..., 0], u[-1, ...]], (2, 3)),
    of_u("none-and-ellipsis", lambda u: [u[None], u[:, None, 1:], u[..., None, 0], u[None, ..., None]], (2, 3)),
    of_u("list-index", lambda u: [u[[2, 0]], u[[0, 0, 1]] * 2, u[[-1]]]),
    of_u("list-index-of-two-axes", lambda u: [u[[0, 1], [2, 0]], u[:, [2, 0]], u[[1], :]], (2, 3)),
    of_u("tensor-index", lambda u: [u[torch.tensor([2, 0, 2])], u[torch.arange(2)], u[torch.tensor(1)]]),
    of_u("tensor-index-2d", lambda u: [u[torch.tensor([[0, 1], [1, 0]])], u[:, torch.tensor([[0], [2]])]], (2, 3)),
    of_u("negative-tensor-index", lambda u: u[torch.tensor([-1, -2])]),
    of_u(
        "tensor-and-slice",
        lambda u: [u[torch.tensor([1, 0]), 1:], u[torch.tensor([[1], [0]]), torch.tensor([0, 2])]],
        (2, 3),
    ),
    of_u("separated-index-tensors", lambda u: u[torch.tensor([1, 0]), :, torch.tensor([0, 1])], (2, 3, 2)),
    of_u("boolean-mask", lambda u: [u[torch.tensor([True, False, True])], u[[True, True, False]]]),
    of_u(
        "boolean-mask-2d",
        lambda u: [u[torch.tensor([[True, False, True], [False, True, True]])], u[torch.tensor([True, False])]],
        (2, 3),
    ),
    of_u(
        "index_select-take",
        lambda u: [u.index_select(1, torch.tensor([2, 0])), torch.take(u, torch.tensor([5, 0, -1]))],
        (2, 3),
    ),
    of_u(
        "gather-take_along_dim",
        lambda u: [u.gather(1, torch.tensor([[0, 2], [1, 1]])), torch.take_along_dim(u, torch.tensor([[1], [0]]), 1)],
        (2, 3),
    ),
    of_u("gather-by-argmax", lambda u: u.gather(1, u.argmax(1, keepdim=True)), (2, 3)),
    of_u(
        "scatter",
        lambda u: [torch.zeros_like(u).scatter(0, torch.tensor([2, 0, 1]), u), u.scatter(0, torch.tensor([1]), 5.0)],
    ),
    of_u("scatter_add", lambda u: torch.zeros_like(u).scatter_add(0, torch.tensor([0, 0, 1]), u) * u),
    of_u("scatter_reduce-sum", lambda u: torch.zeros_like(u).scatter_reduce(0, torch.tensor([0, 0, 1]), u, "sum")),
    of_u(
        "index_add-index_copy",
        lambda u: [
            u.index_add(0, torch.tensor([0, 0, 2]), u * u, alpha=2),
            u.index_copy(0, torch.tensor([2, 0]), u[:2]),
        ],
    ),
    of_u(
        "index_put",
        lambda u: [
            u.index_put((torch.tensor([0, 2]),), u[:2]),
            u.index_put((torch.tensor([0, 0]),), u[:2], accumulate=True),
        ],
    ),
    of_u("index_fill", lambda u: u.index_fill(0, torch.tensor([1]), 2.0) * u),
    of_u(
        "select_scatter",
        lambda u: [
            torch.select_scatter(u, u[0], 0, 1),
            torch.slice_scatter(u, u[:1], 0, 1, 2),
            torch.diagonal_scatter(u[:, :2], u[0, :2]),
        ],
        (2, 3),
    ),
    of_u(
        "message-passing",
        lambda u: torch.zeros_like(u).index_add(
            0, torch.tensor([0, 1, 2, 2]), u[torch.tensor([1, 2, 0, 1])] - u[torch.tensor([0, 1, 2, 2])]
        ),
        (3, 2),
    ),
    of_u("embedding", lambda u: F.embedding(torch.tensor([[0, 1], [1, 1]]), u).sum(1), (2, 3)),
    of_u("one_hot", lambda u: F.one_hot(torch.tensor([0, 2]), 3).to(u.dtype) @ u),
]

STENCILS = [
    of_u("diff", lambda u: [u.diff(), torch.diff(u, n=2), torch.diff(u, prepend=u[-1:])], (5,)),
    of_u("gradient", lambda u: torch.gradient(u, spacing=0.5)[0], (5,)),
    of_u("gradient-2d", lambda u: sum(torch.gradient(u)), (3, 4)),
    of_u("laplacian-roll", lambda u: u.roll(1, 0) + u.roll(-1, 0) + u.roll(1, 1) + u.roll(-1, 1) - 4 * u, (4, 4)),
    of_u("laplacian-slices", lambda u: torch.cat([u[:1], u[2:] - 2 * u[1:-1] + u[:-2], u[-1:]]), (6,)),
    of_u("pad-constant", lambda u: [F.pad(u, (1, 2)), F.pad(u, (1, 0, 0, 1), value=3.0), F.pad(u, (-1, 1))], (2, 3)),
    of_u("pad-replicate", lambda u: F.pad(u[None], (1, 2), mode="replicate").diff(), (1, 5)),
    of_u("pad-reflect", lambda u: F.pad(u[None], (2, 1), mode="reflect").diff(), (1, 5)),
    of_u("pad-circular", lambda u: F.pad(u[None], (1, 1), mode="circular").diff(n=2)[0], (1, 5)),
    of_u(
        "pad-2d",
        lambda u: [F.pad(u, (1, 1, 1, 0), mode=mode) for mode in ("replicate", "reflect", "circular")],
        (1, 1, 3, 3),
    ),
    of_u("pad-3d-replicate", lambda u: F.pad(u, (1, 1, 0, 1, 1, 0), mode="replicate"), (1, 1, 2, 2, 2)),
    of_u("upwind", lambda u: torch.where(u > 0, u - u.roll(1), u.roll(-1) - u), (5,)),
    of_u(
        "minmod",
        lambda u: (
            0.5
            * (torch.sign(u.diff()) + torch.sign(u.roll(1).diff()))
            * torch.minimum(u.diff().abs(), u.roll(1).diff().abs())
        ),
        (5,),
    ),
    of_u(
        "conv-laplacian", lambda u: F.conv1d(u[None, None], u.new_tensor([[[1.0, -2.0, 1.0]]]), padding=1)[0, 0], (6,)
    ),
    of_u(
        "conv2d-laplacian",
        lambda u: F.conv2d(
            F.pad(u[None, None], (1, 1, 1, 1), mode="circular"),
            u.new_tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None],
        )[0, 0],
        (4, 4),
    ),
]


def write_items(u):
    du = torch.zeros_like(u)
    du[0] = u[1]
    du[1] = -u[0]
    du[-1] += u[0] * u[1]
    return du


def write_slices(u):
    du = torch.empty_like(u)
    du[1:-1] = u[2:] - 2 * u[1:-1] + u[:-2]
    du[0] = du[-1] = 0.0
    du += u
    du *= 2
    return du


def write_through_a_view(u):
    du = torch.zeros(2, 3, dtype=u.dtype)
    row = du[0]
    row += u[0]
    row.mul_(2)
    du[1].copy_(u[1])
    return du + row.sum()


def write_columns(u):
    du = u.clone()
    du[:, 0] = u[:, 1]
    du[:, 1:] -= u[:, :2]
    du[..., -1].add_(1.0)
    du.view(-1)[0] = 3.0
    return du


def write_where_listed(u):
    du = torch.zeros_like(u)
    du[[0, 2]] = u[[1, 1]]
    du[torch.tensor([False, True, False])] = 2.0
    du[torch.tensor([0, 2])] += u[:2]
    du.index_add_(0, torch.tensor([1, 1]), u[:2])
    return du


def write_with_methods(u):
    x = u.sin()
    x.add_(u).mul_(2).sub_(1.0).div_(3).neg_()
    x = (x * 1).clamp_(-0.5, 0.5) + (2 * x).pow_(2)
    y = torch.zeros_like(u).fill_(2.0)
    y.zero_()
    x -= y
    x /= 2
    return x


def write_into_a_copy(u):
    out = u.clone().detach_() * 0 + u
    out.t_().unsqueeze_(0)
    return out.squeeze_(0).t()


def write_masked(u):
    x = u.clone()
    x.masked_fill_(u > 0, 0.5)
    x[u < -0.3] = 0.1
    return x * u


IN_PLACE = [
    of_u("write-items", write_items),
    of_u("write-slices", write_slices, (5,)),
    of_u("write-through-a-view", write_through_a_view, (2, 3)),
    of_u("write-columns", write_columns, (2, 3)),
    of_u("write-where-listed", write_where_listed),
    of_u("write-with-methods", write_with_methods),
    of_u("write-into-a-copy", write_into_a_copy, (2, 3)),
    of_u("write-masked", write_masked),
    of_u("inplace-activation-of-a-temporary", lambda u: F.relu(2 * u, inplace=True) + F.elu(u + 0, inplace=True)),
]
