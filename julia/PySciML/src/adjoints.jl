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
    adjoint!(du0, dp, counts, run, sensealg, alg, ts, cotangents, reltol, abstol)

The gradient of sum(cotangents .* states at ts) in u0 and p. `cotangents` is (n, k).
"""
function adjoint!(du0, dp, counts, run::Run, sensealg, alg, ts, cotangents, reltol, abstol)
    too_coarse(run.alg) && return Base.inferencebarrier(adjoint!)(du0, dp, counts, Base.inferencebarrier(finer)(run),
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
