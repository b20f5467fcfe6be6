# The backward solve. SciMLSensitivity takes seconds to load, so it comes as an extension, when it is first needed.

"""
    Cotangents(values, span)

The cotangents of the saved states as SciMLSensitivity asks for them, one column a time, and a witness of how far its
backward solve came: SciMLSensitivity returns what it had when that stops early, which is a wrong gradient.
"""
mutable struct Cotangents{T}
    values::Matrix{T}
    ts::Vector{T}
    reached::T
end

function (g::Cotangents)(out, u, p, t, i)
    g.reached = g.ts[i]
    copyto!(out, view(g.values, :, i))
    return nothing
end

# The first time is always the start of the span (see `with_start`): to be asked for it is to have reached the end.
function check_end(g::Cotangents)
    g.reached == g.ts[1] || throw(Stopped("Failure", Float64(g.reached), "backward"))
    return nothing
end

"""Times and cotangents with the start of the span among them, with a cotangent of zero if nobody asked for it."""
function with_start(ts::Vector{T}, values::Matrix{T}, t0::T) where {T}
    ts[1] == t0 && return Cotangents(values, ts, T(NaN))
    return Cotangents([zeros(T, size(values, 1)) values], [t0; ts], T(NaN))
end

"""Steps that a backward solve took: handed to the solver as its test for an unstable step, which it makes at each."""
mutable struct Steps
    count::Int
end
(steps::Steps)(dt, u, p, t) = (steps.count += 1; any(isnan, u))

"""
`Steps` of a `BacksolveAdjoint`, which solves the state once more, backwards. It starts from the solution at each of its
steps, but between two of them what decayed forwards grows, where an implicit method's step is long beyond all bounds:
the gradient is then that of somewhere else. `lost` is where the state was too far from the solution, or NaN.
"""
mutable struct Retraced{S, T}
    count::Int
    lost::Float64
    run::S
    reltol::T
    abstol::T
    state::Vector{T}
end
Retraced(run::Run, reltol, abstol) = Retraced(0, NaN, run, reltol, abstol, similar(run.sol.prob.u0))

# How much further than the tolerances allow, and how far in the size of the largest state: a solution by Kvaerno5 is a
# cubic between its steps. Measured at tolerances of 1e-10: 1e-8 at most where gradients are right, but for Kvaerno5;
# 3e-3 where they were wrong by 3e-5. A fixed step knows of no tolerance.
const LOST = (; tolerances = 1000, adaptive = 1e-5, fixed = 0.1)

function (r::Retraced)(dt, u, p, t)
    r.count += 1
    r.run.sol(r.state, t)
    offset = length(u) - length(r.state)
    near = maximum(abs, r.state) * (SciMLBase.isadaptive(r.run.alg) ? LOST.adaptive : LOST.fixed)
    for (i, x) in enumerate(r.state)
        allowed = max(r.abstol, of_state(r.run.abstol, i)) + max(r.reltol, of_state(r.run.reltol, i)) * abs(x)
        abs(u[offset + i] - x) <= max(LOST.tolerances * allowed, near) || (r.lost = t)
    end
    return !isnan(r.lost) || any(isnan, u)
end

check_end(::Steps, g) = check_end(g)
check_end(r::Retraced, g) = isnan(r.lost) ? check_end(g) : throw(Stopped("Lost", r.lost, "backward"))

"""
    adjoint!(du0, dp, counts, run, sensealg, alg, ts, cotangents, reltol, abstol)

The gradient of sum(cotangents .* states at ts) in u0 and p. `cotangents` is (n, k).
"""
function adjoint!(du0, dp, counts, run::Run, sensealg, alg, ts, cotangents, reltol, abstol)
    too_coarse(run) && return Base.inferencebarrier(adjoint!)(du0, dp, counts, Base.inferencebarrier(finer)(run),
        sensealg, alg, ts, cotangents, reltol, abstol)
    sensealg == "ForwardSensitivity" && return sensitivities!(du0, dp, counts, run, alg, ts, cotangents, reltol, abstol)
    takes_gauss(run, sensealg, alg) && return gauss!(du0, dp, counts, run, alg, ts, cotangents, reltol, abstol)
    load_adjoints()
    return Base.invokelatest(sciml_adjoint!, du0, dp, counts, run, sensealg, alg, ts, cotangents, reltol, abstol)
end

"""`adjoint!` by SciMLSensitivity; a method comes with its extension."""
function sciml_adjoint! end

"""Loads what most gradients need. True once it is there."""
function load_adjoints()
    isempty(methods(sciml_adjoint!)) && package("SciMLSensitivity")
    return !isempty(methods(sciml_adjoint!))
end
