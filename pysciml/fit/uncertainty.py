"""How well data determine what was fitted: Fisher's information, and the posterior as a Gaussian."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from pysciml.errors import InvalidInputError
from pysciml.fit.noise import Noise
from pysciml.fit.parameters import Named, holding
from pysciml.fit.prior import Prior
from pysciml.rhs.parameters import entry_names

_RATIO = 1e-12  # of an eigenvalue of the scaled information to the largest: below it is rounding


@dataclass(frozen=True, eq=False)
class Information:
    """What data tell about n fitted numbers, at the best fit.

    Attributes:
        names: of the numbers, `k` or `net.weight[0, 1]`. values: (n,) where they were fitted.
        matrix: (n, n) Fisher's information; its inverse bounds the covariance of any unbiased estimate from below.
        tensors: the fitted tensors by name.
    """

    names: tuple[str, ...]
    values: torch.Tensor
    matrix: torch.Tensor
    tensors: Named

    @property
    def scaled(self) -> torch.Tensor:
        """(n, n) the matrix with ones on its diagonal, where it is not zero: free of units."""
        size = self._sizes
        return self.matrix / torch.outer(size, size)

    @property
    def directions(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Eigenvalues (n,) of `scaled`, the smallest first, and eigenvectors in columns.

        Those of small eigenvalues are the combinations of parameters that the data leave open.
        """
        return torch.linalg.eigh(self.scaled)

    @property
    def identifiable(self) -> bool:
        """Whether the data determine every number, to rounding."""
        values, _ = self.directions
        return bool(self.matrix.diagonal().all()) and bool(values[0] > _RATIO * values[-1])

    @property
    def covariance(self) -> torch.Tensor:
        """(n, n) the inverse, infinite on the diagonal where the data say nothing."""
        values, vectors = self.directions
        open_ = values <= _RATIO * values[-1]
        inverse = torch.where(open_, torch.zeros_like(values), 1 / values.clamp_min(torch.finfo(values.dtype).tiny))
        size = self._sizes
        found = (vectors * inverse) @ vectors.T / torch.outer(size, size)
        loose = (vectors[:, open_].square().sum(dim=1) > math.sqrt(_RATIO)) | (self.matrix.diagonal() == 0)
        found.diagonal()[loose] = math.inf
        return found

    @property
    def std(self) -> torch.Tensor:
        """(n,) standard deviations of the numbers."""
        return self.covariance.diagonal().sqrt()

    @property
    def _sizes(self) -> torch.Tensor:
        size = self.matrix.diagonal().sqrt()
        return torch.where(size > 0, size, torch.ones_like(size))

    def __repr__(self) -> str:
        rows = list(zip(self.names, self.values.tolist(), self.std.tolist(), strict=True))
        width = max(len(name) for name in self.names[:20])
        lines = [f"  {name:<{width}}  {value:>11.5g} ± {std:.2g}" for name, value, std in rows[:20]]
        lines += [f"  and {len(rows) - 20} more"] if len(rows) > 20 else []
        values, vectors = self.directions
        lines.append(f"  eigenvalues of the scaled information from {values[0]:.2g} to {values[-1]:.2g}")
        if not self.identifiable:
            lines.append(f"  the data leave open: {_combination(self.names, vectors[:, 0])}")
        return "\n".join([type(self).__name__, *lines])


@dataclass(frozen=True, eq=False, repr=False)
class Laplace(Information):
    """The posterior of the fitted numbers as a Gaussian about its maximum, with the prior in its information."""

    def sample(self, count: int, *, seed: int | None = None) -> torch.Tensor:
        """(count, n) draws.

        Raises:
            InvalidInputError: the data and the prior leave something open.
        """
        if not self.identifiable:
            _, vectors = self.directions
            raise InvalidInputError(
                "there is no posterior to draw from: data and prior leave a combination of parameters open.",
                got=_combination(self.names, vectors[:, 0]), expected="an information without zeros",
                fix='regularization=pysciml.Prior({"*": torch.distributions.Normal(0.0, 1.0)}) in the fit',
            )  # fmt: skip
        values, vectors = self.directions
        random = None if seed is None else torch.Generator().manual_seed(seed)
        z = torch.randn(count, len(self.values), generator=random, dtype=torch.float64)
        return self.values + (z / values.sqrt()) @ vectors.T / self._sizes

    def put(self, values: torch.Tensor) -> Any:
        """A context in which the fitted tensors hold these values (n,): one row of `sample`, say."""
        tensors = list(self.tensors.values())
        pieces = values.split([x.numel() for x in tensors])
        return holding(tensors, [v.reshape(x.shape).to(x) for v, x in zip(pieces, tensors, strict=True)])


def fisher_information(result: Any) -> Information:
    """Fisher's information of the training data of a fit by a noise model, on all that was fitted but the noise's own.

    One backward solve for each observation. To look for what data leave open before there are any, fit to data made up
    at likely values.

    Args:
        result: of `fit`, whose loss is a noise model.

    Raises:
        InvalidInputError: another loss.

    Reference: Raue et al., "Structural and practical identifiability analysis", Bioinformatics 25 (2009); Gutenkunst et
    al., "Universally sloppy parameter sensitivities", PLoS Comput. Biol. 3 (2007).

    Example:
        >>> import torch, pysciml as ps
        >>> a, b = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.5, 2.0))
        >>> prob = ps.ODEProblem(lambda t, u: -a * b * u, torch.ones(1, dtype=torch.float64), (0.0, 2.0))
        >>> t = torch.linspace(0, 2, 9, dtype=torch.float64)
        >>> noise = ps.GaussianNoise(0.1)
        >>> result = ps.fit(prob, torch.exp(-t)[:, None], t, loss=noise, stages=("LBFGS", 9), progress="off")
        >>> ps.fisher_information(result).identifiable  # of a product, neither factor
        False
    """
    check_likelihood(result, "Fisher's information")
    named = _own(result)
    with holding(list(result.parameters.values()), result.values):
        predicted, sigma = result._objective.predictions()
        rows = [_row(p, list(named.values())) for p in predicted]
        weights = result._objective.loss.information(predicted, sigma).detach()
    J = torch.stack(rows).double()
    return Information(*_described(named, result), J.T @ (weights.double()[:, None] * J), named)


def laplace(result: Any) -> Laplace:
    """The posterior of what was fitted, as a Gaussian: Fisher's information, and the curvature of the prior if any.

    Args:
        result: of `fit`, whose loss is a noise model.

    Raises:
        InvalidInputError: another loss.

    Reference: MacKay, "Information Theory, Inference, and Learning Algorithms" (2003), chapter 27.

    Example:
        >>> import torch, pysciml as ps
        >>> k = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        >>> prob = ps.ODEProblem(lambda t, u: -k * u, torch.ones(1, dtype=torch.float64), (0.0, 2.0))
        >>> t = torch.linspace(0, 2, 9, dtype=torch.float64)
        >>> noise = ps.GaussianNoise(0.1)
        >>> result = ps.fit(prob, torch.exp(-t)[:, None], t, loss=noise, stages=("LBFGS", 20), progress="off")
        >>> print(ps.laplace(result))
        Laplace
          k            1 ± 0.11
          eigenvalues of the scaled information from 1 to 1
    """
    information = fisher_information(result)
    prior = result._objective.regularization
    more = _curvature(prior, result, information) if prior is not None else 0.0
    names, values, matrix = information.names, information.values, information.matrix
    return Laplace(names, values, matrix + more, information.tensors)


def check_likelihood(result: Any, what: str) -> None:
    """Raises `InvalidInputError` where a fit was not of a likelihood, with a prior or none."""
    objective = getattr(result, "_objective", None)
    if objective is None or not isinstance(objective.loss, Noise):
        raise InvalidInputError(
            f"{what} is that of a likelihood, which only a noise model has.",
            got=f"loss={type(getattr(objective, 'loss', None)).__name__}",
            expected="a fit with loss=GaussianNoise(sigma), PoissonNoise(), ...",
            fix="pysciml.fit(prob, data, t, loss=pysciml.GaussianNoise(0.1, learn=True))",
        )
    if objective.regularization is not None and not isinstance(objective.regularization, Prior):
        raise InvalidInputError(f"{what} needs a prior density, if the fit was drawn towards anything.",
                                got="regularization=" + getattr(objective.regularization, "__name__", "a function"),
                                expected="a Prior, or none",
                                fix='regularization=pysciml.Prior({"k": ...})')  # fmt: skip


def _own(result: Any) -> Named:
    """What was fitted of the equation: the scale of the noise is independent of it."""
    of_noise = set(map(id, result._objective.loss.parameters()))
    return {name: x for name, x in result.parameters.items() if id(x) not in of_noise}


def _row(predicted: torch.Tensor, tensors: list[torch.Tensor]) -> torch.Tensor:
    grads = torch.autograd.grad(predicted, tensors, retain_graph=True, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(x) if g is None else g).reshape(-1) for g, x in zip(grads, tensors, strict=True)]
    )


def _described(named: Named, result: Any) -> tuple[tuple[str, ...], torch.Tensor]:
    best = dict(zip(result.parameters, result.values, strict=True))
    values = torch.cat([best[name].detach().reshape(-1).double() for name in named])
    return tuple(n for name, x in named.items() for n in entry_names(name, x.shape)), values


def _curvature(prior: Prior, result: Any, information: Information) -> torch.Tensor:
    """(n, n) the Hessian of minus the logarithm of the prior."""
    tensors, best = information.tensors, dict(zip(result.parameters, result.values, strict=True))
    sizes = [x.numel() for x in tensors.values()]

    def value(flat: torch.Tensor) -> torch.Tensor:
        pieces = zip(flat.split(sizes), tensors.items(), strict=True)
        return prior({**best, **{name: piece.reshape(x.shape) for piece, (name, x) in pieces}})

    return torch.autograd.functional.hessian(value, information.values)


def _combination(names: tuple[str, ...], vector: torch.Tensor) -> str:
    """The largest parts of a direction, in words."""
    vector = vector * vector[vector.abs().argmax()].sign()
    order = [int(i) for i in vector.abs().argsort(descending=True)[:4] if abs(vector[i]) > 0.1]
    return " ".join(f"{float(vector[i]):+.2f} {names[i]}" for i in order) + " (in units of what the data tell of each)"
