"""What of a solve's control has no meaning under the transforms of torch.func, and says so."""

from __future__ import annotations

from pysciml.control.complex_states import is_complex
from pysciml.errors import UnsupportedError
from pysciml.problems import ODEProblem
from pysciml.rhs import functorch


def check_transforms(prob: ODEProblem, save_everystep: bool, progress: bool) -> None:
    """Raises `UnsupportedError` for what cannot be transformed, if a transform is under way."""
    if not functorch.transforming():
        return
    if save_everystep:
        raise UnsupportedError(
            "save_everystep cannot be transformed by torch.func: how many times are saved is known after the solve.",
            got="save_everystep=True in a transform", expected="times that are given: saveat",
            fix="saveat=torch.linspace(t0, t1, 50)",
        )  # fmt: skip
    if progress:
        raise UnsupportedError(
            "progress cannot be shown under a transform of torch.func, which solves several times.",
            got="progress=True in a transform", expected="no bar", fix="leave progress out",
        )  # fmt: skip
    if is_complex(prob.u0) or is_complex(prob.p):
        raise UnsupportedError(
            "complex numbers cannot be transformed by torch.func here.", got="a complex u0 or p in a transform",
            expected="backward(), or pairs of real numbers",
            fix="u0=torch.view_as_real(u0), and in f: u = torch.view_as_complex(u)",
        )  # fmt: skip
