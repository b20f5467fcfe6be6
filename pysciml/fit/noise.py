"""Noise models: how observations scatter about what is predicted. As losses of a fit, minus a log-likelihood."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions import Distribution, LogNormal, NegativeBinomial, Normal, Poisson, StudentT
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError


class Noise(torch.nn.Module):
    """What all noise models share: `fit(..., loss=GaussianNoise(0.1))` minimises minus the log-likelihood.

    The loss is the mean over all observations, in nats. With `Prior` as the regularization of the fit it is that of the
    posterior, and `laplace` gives the uncertainty of what was fitted.

    Args:
        sigma: the scale of the noise: a positive number, or a tensor that broadcasts to the data, (n,) for one scale a
            component; in the structure of the data where that is a pytree.
        learn: fits the scale too, from `sigma` on; its logarithm is then a parameter `log_sigma`.

    Raises:
        InvalidInputError: a scale that is not positive.
    """

    def __init__(self, sigma: Any = None, *, learn: bool = False):
        super().__init__()
        leaves, self._spec = pytree.tree_flatten(sigma)
        scales = [torch.as_tensor(x, dtype=torch.float64).detach().clone() for x in leaves if x is not None]
        if not all(bool((x > 0).all()) and bool(torch.isfinite(x).all()) for x in scales):
            raise InvalidInputError("the scale of noise must be positive.", got=f"{sigma!r:.60}", fix="sigma=0.1")
        self.learn, logs = learn, [x.log() for x in scales]
        if learn:
            single = len(logs) == 1
            self.log_sigma: Any = torch.nn.Parameter(logs[0]) if single else torch.nn.ParameterList(logs)
        else:
            self.log_sigma = logs

    @property
    def sigma(self) -> Any:
        """The scale, as it was given; the fitted one after a fit that learns it."""
        return pytree.tree_unflatten([x.exp() for x in self._logs()], self._spec) if self._logs() else None

    def scales(self, count: int) -> list[torch.Tensor] | None:
        """One scale for each of `count` leaves of the data; None where the noise has none."""
        logs = self._logs()
        if not logs:
            return None
        if len(logs) not in (1, count):
            raise InvalidInputError("sigma must be one for all data, or in the data's structure.",
                                    got=f"{len(logs)} scales for {count} leaves", fix="sigma=0.1")  # fmt: skip
        return [x.exp() for x in (logs * count if len(logs) == 1 else logs)]

    def forward(self, predicted: torch.Tensor, observed: torch.Tensor, sigma: torch.Tensor | None = None) -> Any:
        """The mean of minus the logarithm of the observations' likelihood; tensors of one shape."""
        if sigma is None and self._logs():
            (sigma,) = self.scales(1) or (None,)
        return -self.distribution(predicted, sigma).log_prob(observed.to(predicted)).mean()

    def distribution(self, predicted: torch.Tensor, sigma: Any) -> Distribution:
        """What observations are drawn from, given what is predicted."""
        raise NotImplementedError

    def information(self, predicted: torch.Tensor, sigma: Any) -> torch.Tensor:
        """Fisher's information of one observation on what is predicted, like `predicted`."""
        raise NotImplementedError

    def sample(self, predicted: torch.Tensor) -> torch.Tensor:
        """Observations of what is predicted, from torch's random numbers."""
        scales = self.scales(1)
        with torch.no_grad():
            return self.distribution(predicted, None if scales is None else scales[0].to(predicted)).sample()

    def _logs(self) -> list[torch.Tensor]:
        return [self.log_sigma] if isinstance(self.log_sigma, torch.Tensor) else list(self.log_sigma)


class GaussianNoise(Noise):
    """Observations scatter by a standard deviation `sigma`, in their own units; arguments as of `Noise`.

    Example:
        >>> import torch, pysciml as ps
        >>> k = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        >>> prob = ps.ODEProblem(lambda t, u: -k * u, torch.ones(1, dtype=torch.float64), (0.0, 2.0))
        >>> t = torch.linspace(0, 2, 40, dtype=torch.float64)
        >>> data = torch.exp(-t)[:, None] + 0.05 * torch.cos(37 * t)[:, None]
        >>> noise = ps.GaussianNoise(0.2, learn=True)
        >>> result = ps.fit(prob, data, t, loss=noise, stages=("LBFGS", 40), progress="off")
        >>> round(noise.sigma.item(), 2), list(result.parameters)
        (0.04, ['k', 'log_sigma'])
    """

    def __init__(self, sigma: Any = 1.0, *, learn: bool = False):
        super().__init__(sigma, learn=learn)

    def distribution(self, predicted: torch.Tensor, sigma: Any) -> Distribution:
        return Normal(predicted, sigma, validate_args=False)

    def information(self, predicted: torch.Tensor, sigma: Any) -> torch.Tensor:
        return torch.ones_like(predicted) / sigma**2


class LogNormalNoise(Noise):
    """Observations are what is predicted times a factor whose logarithm scatters by `sigma`: 0.1 is about 10 %.

    Both must be positive. What is predicted is the median. Arguments as of `Noise`.
    """

    def __init__(self, sigma: Any = 1.0, *, learn: bool = False):
        super().__init__(sigma, learn=learn)

    def distribution(self, predicted: torch.Tensor, sigma: Any) -> Distribution:
        return LogNormal(predicted.log(), sigma, validate_args=False)

    def information(self, predicted: torch.Tensor, sigma: Any) -> torch.Tensor:
        return 1 / (predicted * sigma) ** 2


class StudentTNoise(Noise):
    """As `GaussianNoise`, with outliers: Student's t with `df` degrees of freedom. Arguments else as of `Noise`."""

    def __init__(self, sigma: Any = 1.0, *, df: float = 4.0, learn: bool = False):
        super().__init__(sigma, learn=learn)
        if not df > 0:
            raise InvalidInputError("df must be positive.", got=f"df={df!r}", fix="df=4.0")
        self.df = float(df)

    def distribution(self, predicted: torch.Tensor, sigma: Any) -> Distribution:
        return StudentT(torch.full_like(predicted, self.df), predicted, sigma, validate_args=False)

    def information(self, predicted: torch.Tensor, sigma: Any) -> torch.Tensor:
        return torch.ones_like(predicted) * (self.df + 1) / (self.df + 3) / sigma**2


class PoissonNoise(Noise):
    """Observations are counts, whose mean is what is predicted; it must be positive."""

    def __init__(self) -> None:
        super().__init__()

    def distribution(self, predicted: torch.Tensor, sigma: Any) -> Distribution:
        return Poisson(predicted, validate_args=False)

    def information(self, predicted: torch.Tensor, sigma: Any) -> torch.Tensor:
        return 1 / predicted


class NegativeBinomialNoise(Noise):
    """Observations are counts that scatter more than Poisson's: of mean m the variance is m + sigma m**2.

    As of cases in epidemics. Arguments as of `Noise`.
    """

    def __init__(self, sigma: Any = 0.1, *, learn: bool = False):
        super().__init__(sigma, learn=learn)

    def distribution(self, predicted: torch.Tensor, sigma: Any) -> Distribution:
        count = 1 / torch.as_tensor(sigma).to(predicted)
        return NegativeBinomial(count, logits=(predicted / count).log(), validate_args=False)

    def information(self, predicted: torch.Tensor, sigma: Any) -> torch.Tensor:
        return 1 / (predicted + sigma * predicted**2)
