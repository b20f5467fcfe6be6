"""Runge-Kutta methods that need little memory, for very large states; explicit, most made for waves and flow.

Left out, because of what they did on a forced Lotka-Volterra system: `CKLLSRK54_3C` and `CKLLSRK95_4C` converged with
order 1, `CKLLSRK95_4M` and `CKLLSRK85_4FM_4R` missed their tolerance by a factor of 1e5, `SHLDDRK64` and `SHLDDRK_2N`
stopped converging at 1e-7. Of families of many sisters only some are here; the others are a `JuliaAlgorithm` away.
"""

from __future__ import annotations

from pysciml.algorithms.base import Algorithm

_STANESCU = (
    'Stanescu and Habashi, "2N-storage low dissipation and dispersion Runge-Kutta schemes for computational '
    'acoustics", J. Comput. Phys. 143 (1998)'
)
_TOULORGE = (
    'Toulorge and Desmet, "Optimal Runge-Kutta schemes for discontinuous Galerkin space discretizations applied to '
    'wave propagation problems", J. Comput. Phys. 231 (2012)'
)
_NIEGEMANN = (
    'Niegemann, Diehl and Busch, "Efficient low-storage Runge-Kutta schemes with optimized stability regions", '
    "J. Comput. Phys. 231 (2012)"
)
_KENNEDY = (
    'Kennedy, Carpenter and Lewis, "Low-storage, explicit Runge-Kutta schemes for the compressible Navier-Stokes '
    'equations", Appl. Numer. Math. 35 (2000)'
)
_PARSANI = (
    'Parsani, Ketcheson and Deconinck, "Optimized explicit Runge-Kutta schemes for the spectral difference method '
    'applied to wave propagation problems", SIAM J. Sci. Comput. 35 (2013)'
)
_RANOCHA = (
    'Ranocha et al., "Optimized Runge-Kutta methods with automatic step size control for compressible computational '
    'fluid dynamics", Commun. Appl. Math. Comput. 4 (2022)'
)


class LowStorageRK(Algorithm, package="OrdinaryDiffEqLowStorageRK"):
    """Runge-Kutta methods in a few registers of memory."""


class ORK256(
    LowStorageRK,
    order=2,
    adaptive=False,
    reference='Bernardini and Pirozzoli, "A general strategy for the optimization of Runge-Kutta schemes for wave '
    'propagation phenomena", J. Comput. Phys. 228 (2009)',
):
    """Five stages, order 2, made for waves."""


class CarpenterKennedy2N54(
    LowStorageRK,
    order=4,
    adaptive=False,
    reference='Carpenter and Kennedy, "Fourth-order 2N-storage Runge-Kutta schemes", NASA TM-109112 (1994)',
):
    """Five stages, order 4, in two registers: the common choice of flow solvers."""


class SHLDDRK52(LowStorageRK, order=2, adaptive=False, reference=_STANESCU):
    """Five stages, order 2, with little dissipation and dispersion."""


class RK46NL(
    LowStorageRK,
    order=4,
    adaptive=False,
    reference='Berland, Bogey and Bailly, "Low-dissipation and low-dispersion fourth-order Runge-Kutta algorithm", '
    "Comput. Fluids 35 (2006)",
):
    """Six stages, order 4, with little dissipation and dispersion on nonlinear problems."""


class CFRLDDRK64(
    LowStorageRK,
    order=4,
    adaptive=False,
    reference='Calvo, Franco and Rández, "A new minimum storage Runge-Kutta scheme for computational acoustics", '
    "J. Comput. Phys. 201 (2004)",
):
    """Six stages, order 4, made for acoustics."""


class TSLDDRK74(
    LowStorageRK,
    order=4,
    adaptive=False,
    reference='Tselios and Simos, "Optimized Runge-Kutta methods with minimal dispersion and dissipation for problems '
    'arising from computational acoustics", Phys. Lett. A 363 (2007)',
):
    """Seven stages, order 4, stable far along the imaginary axis."""


class DGLDDRK73_C(LowStorageRK, order=3, adaptive=False, reference=_TOULORGE):  # noqa: N801 - Julia's name
    """Seven stages, order 3, for waves on meshes whose smallest cells limit the step."""


class DGLDDRK84_C(LowStorageRK, order=4, adaptive=False, reference=_TOULORGE):  # noqa: N801 - Julia's name
    """Eight stages, order 4, for waves on meshes whose smallest cells limit the step."""


class DGLDDRK84_F(LowStorageRK, order=4, adaptive=False, reference=_TOULORGE):  # noqa: N801 - Julia's name
    """Eight stages, order 4, for waves on even meshes."""


class NDBLSRK124(LowStorageRK, order=4, adaptive=False, reference=_NIEGEMANN):
    """Twelve stages, order 4, for advection."""


class NDBLSRK134(LowStorageRK, order=4, adaptive=False, reference=_NIEGEMANN):
    """Thirteen stages, order 4, for advection with some diffusion."""


class NDBLSRK144(LowStorageRK, order=4, adaptive=False, reference=_NIEGEMANN):
    """Fourteen stages, order 4, for pure advection."""


class CKLLSRK43_2(LowStorageRK, order=3, reference=_KENNEDY):  # noqa: N801 - Julia's name
    """Four stages, order 3(2), for compressible flow."""


class CKLLSRK54_3C_3R(LowStorageRK, order=4, reference=_KENNEDY):  # noqa: N801 - Julia's name
    """Five stages, order 4(3), in three registers, for compressible flow."""


class CKLLSRK54_3M_3R(LowStorageRK, order=4, reference=_KENNEDY):  # noqa: N801 - Julia's name
    """Five stages, order 4(3), in three registers, with the least error."""


class CKLLSRK65_4M_4R(LowStorageRK, order=5, reference=_KENNEDY):  # noqa: N801 - Julia's name
    """Six stages, order 5(4), in four registers, with the least error."""


class CKLLSRK75_4M_5R(LowStorageRK, order=5, reference=_KENNEDY):  # noqa: N801 - Julia's name
    """Seven stages, order 5(4), in five registers, with the least error."""


class CKLLSRK85_4C_3R(LowStorageRK, order=5, reference=_KENNEDY):  # noqa: N801 - Julia's name
    """Eight stages, order 5(4), in three registers, for compressible flow."""


class CKLLSRK85_4M_3R(LowStorageRK, order=5, reference=_KENNEDY):  # noqa: N801 - Julia's name
    """Eight stages, order 5(4), in three registers, with the least error."""


class CKLLSRK95_4S(LowStorageRK, order=5, reference=_KENNEDY):  # noqa: N801 - Julia's name
    """Nine stages, order 5(4), for compressible flow where stability limits the step."""


class ParsaniKetchesonDeconinck3S32(LowStorageRK, order=2, adaptive=False, reference=_PARSANI):
    """Three stages, order 2, made for spectral differences."""


class ParsaniKetchesonDeconinck3S53(LowStorageRK, order=3, adaptive=False, reference=_PARSANI):
    """Five stages, order 3, made for spectral differences."""


class ParsaniKetchesonDeconinck3S94(LowStorageRK, order=4, adaptive=False, reference=_PARSANI):
    """Nine stages, order 4, made for spectral differences."""


class ParsaniKetchesonDeconinck3S105(LowStorageRK, order=5, adaptive=False, reference=_PARSANI):
    """Ten stages, order 5, made for spectral differences."""


class RDPK3Sp35(LowStorageRK, order=3, reference=_RANOCHA):
    """Five stages, order 3(2), for compressible flow with steps chosen as it goes."""


class RDPK3SpFSAL35(LowStorageRK, order=3, reference=_RANOCHA):
    """`RDPK3Sp35` whose last stage is the next step's first."""


class RDPK3Sp49(LowStorageRK, order=4, reference=_RANOCHA):
    """Nine stages, order 4(3), for compressible flow with steps chosen as it goes."""


class RDPK3SpFSAL49(LowStorageRK, order=4, reference=_RANOCHA):
    """`RDPK3Sp49` whose last stage is the next step's first: the first choice of this family."""


class RDPK3Sp510(LowStorageRK, order=5, reference=_RANOCHA):
    """Ten stages, order 5(4), for compressible flow with steps chosen as it goes."""


class RDPK3SpFSAL510(LowStorageRK, order=5, reference=_RANOCHA):
    """`RDPK3Sp510` whose last stage is the next step's first."""
