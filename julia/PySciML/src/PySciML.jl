"""
Julia's solvers and adjoints for right-hand sides that were written in torch.

pysciml (Python) lowers a traced right-hand side to Julia source, hands it over as text with its constants, and calls
`solve!`, `adjoint!` and `interpolate!` with plain vectors. Every model has the same Julia type, so the solvers are
compiled once, in this package's image.
"""
module PySciML

using ADTypes: AutoFiniteDiff
using DiffEqBase: BrownFullBasicInit
using LinearAlgebra: LinearAlgebra, BLAS, Diagonal, mul!
using PrecompileTools: @compile_workload, @setup_workload
using SciMLBase: SciMLBase, DiscreteCallback, ODEFunction, ODEProblem, successful_retcode
using SciMLLogging: None as Silent
using SparseArrays: SparseMatrixCSC, nonzeros, nzrange, rowvals, sparse

include("interrupt.jl")
include("vectors.jl")
include("products.jl")
include("functions.jl")
include("compiling.jl")
include("models.jl")
include("lanes.jl")
include("outer_products.jl")
include("algorithms.jl")
include("recording.jl")
include("solving.jl")
include("implicit.jl")
include("parts.jl")
include("roots.jl")
include("boundary.jl")
include("errors.jl")
include("variations.jl")
include("adjoints.jl")
include("gauss.jl")
include("events.jl")
include("delays.jl")
include("collocation.jl")
include("breaking.jl")
include("delay_adjoint.jl")
include("step_systems.jl")
include("collocation_adjoint.jl")
include("direct_adjoint.jl")
include("ensembles.jl")
include("side_by_side.jl")
include("side_by_side_adjoint.jl")
include("memory.jl")
include("stochastic/schemes.jl")
include("stochastic/brownian.jl")
include("stochastic/paths.jl")
include("stochastic/pathwise.jl")
include("stochastic/driven.jl")
include("stochastic/delayed.jl")
include("jumps/networks.jl")
include("jumps/exact.jl")
include("jumps/leaping.jl")
include("jumps/paths.jl")
include("sources.jl")
include("holes.jl")
include("precompile.jl")

end
