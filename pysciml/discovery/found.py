"""What a search found for one target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pysciml.discovery.law import Candidate


@dataclass(frozen=True)
class Found:
    """The formula of one target, and what supports it.

    Attributes:
        coefficients: (terms,). threshold: chosen; NaN where an optimizer has its own. r2: on all samples. path: the
            models compared. samples: (resamples, terms) coefficients of the resampled fits.
    """

    coefficients: np.ndarray
    threshold: float
    r2: float
    path: tuple[Candidate, ...]
    samples: np.ndarray
