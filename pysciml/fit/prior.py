"""What was known of the parameters before the data."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import torch
from torch.distributions import Distribution

from pysciml.errors import InvalidInputError


class Prior:
    """Minus the logarithm of the prior density of fitted tensors: the `regularization` of a fit by a noise model.

    The fit then ends at the maximum of the posterior.

    Args:
        distributions: a torch distribution for each name, which may be a pattern: `{"k": LogNormal(0.0, 1.0),
            "net.*": Normal(0.0, 0.5)}`. The names are those of `result.parameters`.

    Raises:
        InvalidInputError: what is no distribution; in the fit, a name that no fitted tensor has.

    Example:
        >>> import torch, pysciml as ps
        >>> prior = ps.Prior({"k": torch.distributions.Normal(1.0, 0.1)})
        >>> off, near = (prior({"k": torch.tensor([1.0, x])}).item() for x in (1.1, 1.0))
        >>> round(off - near, 3)  # of one sigma
        0.5
    """

    def __init__(self, distributions: Mapping[str, Distribution]):
        wrong = [name for name, d in distributions.items() if not isinstance(d, Distribution)]
        if not distributions or wrong:
            raise InvalidInputError("a prior has a torch distribution for each name.", got=", ".join(wrong) or "none",
                                    fix='Prior({"k": torch.distributions.LogNormal(0.0, 1.0)})')  # fmt: skip
        self.distributions = dict(distributions)

    def __call__(self, parameters: Mapping[str, torch.Tensor]) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for pattern, distribution in self.distributions.items():
            chosen = [x for name, x in parameters.items() if fnmatchcase(name, pattern)]
            if not chosen:
                raise InvalidInputError(
                    f"nothing that is fitted is called {pattern!r}.",
                    got=f"a prior for {pattern!r}",
                    expected=", ".join(parameters),
                    fix=f'Prior({{"{next(iter(parameters))}": torch.distributions.Normal(0.0, 1.0)}})',
                )
            for x in chosen:
                total = total - distribution.log_prob(x).sum()
        return total
