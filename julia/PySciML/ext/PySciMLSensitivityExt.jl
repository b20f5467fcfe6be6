"""Gradients by SciMLSensitivity: everything it needs to know of a model is the model's own, so none of its AD runs."""
module PySciMLSensitivityExt

using PySciML: PySciML, Run, Steps
using PrecompileTools: @compile_workload, @setup_workload
using SciMLSensitivity: SciMLSensitivity, AdjointSensitivityIntegrand, BacksolveAdjoint, GaussAdjoint,
    InterpolatingAdjoint, ODEAdjointProblem, QuadratureAdjoint, ZygoteVJP, _adjoint_sensitivities, quadgk, vec_pjac!

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
    before = calls(sol.prob.f)
    steps = sensealg == "BacksolveAdjoint" ? PySciML.Retraced(run, T(reltol), T(abstol)) : Steps(0)
    λ, gradient = gradients(run, String(sensealg), alg, asked, T(reltol), T(abstol), steps)
    PySciML.check_end(steps, asked)
    copyto!(du0, sol.prob.f.mass_matrix * λ)  # M u' = f: what λ belongs to is M u
    isempty(dp) || copyto!(dp, gradient)
    copyto!(counts, [calls(sol.prob.f) - before, 0, steps.count, 0])
    return nothing
end

calls(f) = calls(f, f.f)
calls(f, _) = f.vjp.calls[]

function gradients(run, name, alg, asked, reltol, abstol, steps)
    sol, stops = run.sol, PySciML.stops(run)
    # SUNDIALS has no test for an unstable step, and only a solution of checkpoints takes them.
    watched = PySciML.has_dense_output(alg) ? (; unstable_check = steps) : (;)
    # Each jump of the adjoint of a DAE leaves algebraic variables that do not fit the others any more.
    start = PySciML.consistent(sol.prob.f.mass_matrix)
    kept = sol.dense ? (;) : (; checkpoints = sol.t)
    # SciMLSensitivity's GaussAdjoint takes its quadrature while λ is solved for, and was wrong by a hundredth for a body in
    # free fall by Rodas5P, at all tolerances; the steps of λ, once they are there, are as good for it.
    quadrature = name == "QuadratureAdjoint" || (name == "GaussAdjoint" && sol.dense)
    # They grow past what df/dp needs; those of the solution do not. A solve between checkpoints makes its stops at those,
    # and so has to be told them beside the user's.
    tstops = (sol.dense ? quadrature : !isempty(stops)) ? [sol.t; stops] : stops
    stopping = isempty(tstops) ? (;) : (; tstops)
    sensealg = Ref{Any}(sensitivity(quadrature ? "QuadratureAdjoint" : name, autojacvec(sol.prob.f.f), !sol.dense, reltol, abstol))
    # The compiler shall not look into either from here: see below.
    by = Base.inferencebarrier(quadrature ? along_steps : differentiate)
    return by(sol, sensealg[], alg, asked, reltol, abstol, merge(watched, start, kept, stopping))
end

# What `adjoint_sensitivities` calls once it has chosen an AD, which here is never left open. Its choosing would be
# compiled too, and with it ReverseDiff's arrays, which contain their own type: Julia 1.10 cannot always read an image
# that holds those back (`must_be_new_dt` in staticdata_utils.c meets a type without a tag).
@noinline differentiate(sol, sensealg, alg, asked, reltol, abstol, more) = _adjoint_sensitivities(
    sol, sensealg, alg; t = asked.ts, dgdu_discrete = asked, reltol, abstol, maxiters = 1_000_000,
    verbose = PySciML.Silent(), more...,
)

# SciMLSensitivity's own takes the quadrature from one saved time to the next. Where a problem is stiff, the adjoint
# jumps there and relaxes in a moment, between two nodes of the quadrature, which never sees it: on Robertson's problem
# the gradient was wrong by 80 % at all tolerances. The steps of the adjoint know where it moves.
@noinline function along_steps(sol, sensealg, alg, asked, reltol, abstol, more)
    problem, corrections = ODEAdjointProblem(sol, sensealg, alg, asked.ts, asked, nothing, nothing, nothing, nothing,
        Val(true))
    λ = PySciML.SciMLBase.solve(problem, alg; reltol, abstol, save_everystep = true, save_start = true,
        maxiters = 1_000_000, verbose = PySciML.Silent(), more...)
    isempty(sol.prob.p) && return λ.u[end], nothing
    integrand, gradient = AdjointSensitivityIntegrand(sol, λ, sensealg, nothing), zero(sol.prob.p)
    for (later, t) in zip(λ.t, Iterators.drop(λ.t, 1))
        later == t || (gradient .+= vec(quadgk(integrand, t, later; atol = abstol, rtol = reltol)[1]))
    end
    corrections === nothing || correct!(gradient, corrections, sol, integrand)
    return λ.u[end], gradient
end

"""What the jumps of a DAE's algebraic adjoint variables add, as SciMLSensitivity has it."""
function correct!(gradient, corrections, sol, integrand)
    λ, state, out = zero(corrections.λ), zero(corrections.y), zero(gradient)
    for (jump, t) in corrections.Δλas
        fill!(λ, false)
        λ[corrections.diffcache.algevar_idxs] .= jump
        sol(state, t)
        vec_pjac!(out, λ, state, t, integrand)
        gradient .+= out
    end
    return nothing
end

include("sources.jl")
include("workload.jl")

end
