"""Gradients by SciMLSensitivity: everything it needs to know of a model is the model's own, so none of its AD runs."""
module PySciMLSensitivityExt

using PySciML: PySciML, Run, Steps
using PrecompileTools: @compile_workload, @setup_workload
using SciMLSensitivity: SciMLSensitivity, BacksolveAdjoint, GaussAdjoint, InterpolatingAdjoint,
    QuadratureAdjoint, ZygoteVJP, _adjoint_sensitivities

sensitivity(name, autojacvec, kept, reltol, abstol) =
    name == "GaussAdjoint" ? GaussAdjoint(; autojacvec, checkpointing = kept) :
    name == "InterpolatingAdjoint" ? InterpolatingAdjoint(; autojacvec, checkpointing = kept) :
    name == "BacksolveAdjoint" ? BacksolveAdjoint(; autojacvec) :
    name == "QuadratureAdjoint" ? QuadratureAdjoint(; autojacvec, reltol, abstol) :
    error("no sensitivity algorithm $name")

# A model's own products win over `autojacvec`; ZygoteVJP is the placeholder that prepares nothing.
autojacvec(f) = ZygoteVJP()

function PySciML.sciml_adjoint!(du0, dp, counts, run::Run, sensealg, alg, ts, cotangents, reltol, abstol)
    sol, T = run.sol, eltype(run.sol.prob.u0)
    asked = PySciML.with_start(Vector{T}(ts), Matrix{T}(cotangents), sol.prob.tspan[1])
    before, steps = calls(sol.prob.f), Steps(0)
    λ, gradient = gradients(sol, String(sensealg), alg, asked, T(reltol), T(abstol), steps)
    PySciML.check_end(asked)
    copyto!(du0, sol.prob.f.mass_matrix * λ)  # M u' = f: what λ belongs to is M u
    isempty(dp) || copyto!(dp, gradient)
    copyto!(counts, [calls(sol.prob.f) - before, 0, steps.count, 0])
    return nothing
end

calls(f) = calls(f, f.f)
calls(f, _) = f.vjp.calls[]

function gradients(sol, name, alg, asked, reltol, abstol, steps)
    # SUNDIALS has no test for an unstable step, and only a solution of checkpoints takes them.
    watched = PySciML.has_dense_output(alg) ? (; unstable_check = steps) : (;)
    # Each jump of the adjoint of a DAE leaves algebraic variables that do not fit the others any more.
    start = PySciML.consistent(sol.prob.f.mass_matrix)
    # The quadrature of GaussAdjoint goes along the steps of λ, which grow past what df/dp needs; those of the solution
    # do not.
    stops = name == "GaussAdjoint" ? (; tstops = sol.t) : (;)
    kept = sol.dense ? stops : (; checkpoints = sol.t)
    sensealg = Ref{Any}(sensitivity(name, autojacvec(sol.prob.f.f), !sol.dense, reltol, abstol))
    return differentiate(sol, sensealg[], alg, asked, reltol, abstol, merge(watched, start, kept))
end

# What `adjoint_sensitivities` calls once it has chosen an AD, which here is never left open. Its choosing would be
# compiled too, and with it ReverseDiff's arrays, which contain their own type: Julia 1.10 cannot always read an image
# that holds those back (`must_be_new_dt` in staticdata_utils.c meets a type without a tag).
@noinline differentiate(sol, sensealg, alg, asked, reltol, abstol, more) = _adjoint_sensitivities(
    sol, sensealg, alg; t = asked.ts, dgdu_discrete = asked, reltol, abstol, maxiters = 1_000_000,
    verbose = PySciML.Silent(), more...,
)

include("sources.jl")
include("workload.jl")

end
