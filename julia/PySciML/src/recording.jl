# What is kept of a solve that keeps nothing itself: the states asked for, and either checkpoints or a dense solution.

# Solvers of SUNDIALS interpolate within their last step to full order, but what Sundials.jl keeps of a whole solve is a
# cubic through the steps: too coarse for their order, and for an adjoint. Solvers that take the residual keep a solution
# of that, which no adjoint knows.
has_dense_output(alg) = nameof(parentmodule(typeof(alg))) !== :Sundials && !is_default(alg) && !takes_residual(alg)
# SciML's default algorithm keeps a solution that cannot be interpolated in place, as adjoints do.
is_default(alg) = nameof(typeof(alg)) === :CompositeAlgorithm && length(alg.algs) == 6

"""
    Recorder(prob, ts, every, reltol, abstol)

Follows a solve step by step. Writes the states at `ts` to `out`; keeps every `every`-th step, or with `every` 0 as many
points of each step as it takes for a cubic between them to agree with the solver's own interpolation.
"""
mutable struct Recorder{T}
    ts::Vector{T}
    out::Matrix{T}
    next::Int
    every::Int
    steps::Vector{T}
    reltol::Union{T, Vector{T}}
    abstol::Union{T, Vector{T}}
    t::Vector{T}
    u::Vector{Vector{T}}
    du::Vector{Vector{T}}
end

function Recorder(prob, ts::Vector{T}, every, reltol, abstol) where {T}
    u0, t0, du0 = prob.u0, prob.tspan[1], first_slope(prob)
    out = fill(T(NaN), length(u0), length(ts))  # so that what is not written is seen
    recorder = Recorder{T}(ts, out, 1, every, [t0], reltol, abstol, [t0], [copy(u0)], [du0])
    while recorder.next <= length(ts) && ts[recorder.next] == t0
        save!(recorder, u0)
    end
    return recorder
end

"""Writes the next of the states asked for; `r` is whoever follows a solve."""
function save!(r, u)
    copyto!(view(r.out, :, r.next), u)
    r.next += 1
    return nothing
end

"""The callback through which a solve tells a recorder of every step."""
callback(r::Recorder) = DiscreteCallback(r, r; save_positions = (false, false))

(r::Recorder)(integrator) = nothing
function (r::Recorder)(u, t, integrator)
    forwards = integrator.sol.prob.tspan[2] > integrator.sol.prob.tspan[1]
    while r.next <= length(r.ts) && (forwards ? r.ts[r.next] <= t : r.ts[r.next] >= t)
        save!(r, r.ts[r.next] == t ? u : integrator(r.ts[r.next]))
    end
    push!(r.steps, t)
    if r.every == 0
        refine!(r, integrator, r.t[end], r.u[end], r.du[end], t, copy(u), integrator(t, Val{1}), 7)
    elseif (length(r.steps) - 1) % r.every == 0
        keep!(r, t, copy(u), r.du[end])
    end
    return false
end

function keep!(r::Recorder, t, u, du)
    push!(r.t, t)
    push!(r.u, u)
    push!(r.du, du)
    return nothing
end

"""Keeps the right end of a piece of a step, after as many points inside as a cubic needs."""
function refine!(r::Recorder{T}, integrator, t1, u1, du1, t2, u2, du2, depth) where {T}
    h, t = t2 - t1, (t1 + t2) / 2
    u = integrator(t)
    cubic(i) = (u1[i] + u2[i]) / 2 + h / 8 * (du1[i] - du2[i])
    allowed(i) = (of_state(r.reltol, i) * abs(u[i]) + of_state(r.abstol, i)) / 10
    if depth > 0 && any(i -> abs(cubic(i) - u[i]) > allowed(i), eachindex(u))
        du = integrator(t, Val{1})
        refine!(r, integrator, t1, u1, du1, t, u, du, depth - 1)
        refine!(r, integrator, t, u, du, t2, u2, du2, depth - 1)
    else
        keep!(r, t2, u2, du2)
    end
    return nothing
end

"""
A cubic through states and slopes at times. Solvers that differentiate in time by differences ask for a hair more than its
span; beyond its ends it goes on straight.
"""
struct Cubic{T, I} <: SciMLBase.AbstractDiffEqInterpolation
    low::T
    high::T
    inside::I
end

cubic(t, u, du) = Cubic(minmax(t[1], t[end])..., SciMLBase.HermiteInterpolation(t, u, du))

(c::Cubic)(t, idxs, deriv::D, p, continuity::Symbol = :left) where {D} = c.inside(t, idxs, deriv, p, continuity)
function (c::Cubic)(out, t, idxs, deriv::D, p, continuity::Symbol = :left) where {D}
    c.low <= t <= c.high && return c.inside(out, t, idxs, deriv, p, continuity)
    at = clamp(t, c.low, c.high)
    c.inside(out, at, idxs, deriv, p, continuity)
    deriv === Val{0} && idxs === nothing && (out .+= (t - at) .* c.inside.du[at == c.inside.t[1] ? 1 : end])
    return out
end

"""The recorded solve as a solution of SciML's; `from` says what the solver itself returned."""
function recorded(r::Recorder, prob, alg, from)
    if r.every == 0
        interp = cubic(r.t, r.u, r.du)
        return SciMLBase.build_solution(prob, alg, r.t, r.u; interp, dense = true, from.retcode, from.stats)
    end
    r.t[end] == from.t[end] || keep!(r, from.t[end], copy(from.u[end]), r.du[end])
    # Between checkpoints an adjoint solves again with the solution's algorithm, and needs dense output there.
    again = has_dense_output(alg) ? alg : resolver(alg)
    return SciMLBase.build_solution(prob, again, r.t, r.u; dense = false, from.retcode, from.stats)
end

resolver(alg) = nameof(typeof(alg)) === :CVODE_Adams ? OrdinaryDiffEqTsit5.Tsit5() :
    OrdinaryDiffEqRosenbrock.Rodas5P(autodiff = AutoFiniteDiff())
