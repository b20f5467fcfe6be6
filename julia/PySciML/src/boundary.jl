# Boundary value problems by BoundaryValueDiffEq.jl, of which what is needed is loaded when first asked for.

"""f of a model along a time that rises: `way` is -1 where the span goes backwards."""
struct Along{F, T}
    f::F
    way::T
end
function (a::Along)(du, u, p, t)
    a.f(du, u, p, a.way * t)
    a.way < 0 && (du .*= a.way)
    return nothing
end

"""Conditions as a model of the states at some times, one after another, whose first results they are."""
struct Bounds{F, T}
    f::F
    times::Vector{T}
    p::Vector{T}
    states::Vector{T}
    out::Vector{T}
end
function (b::Bounds)(residual, sol, p, t)
    n = length(residual)
    for (i, time) in enumerate(b.times)
        copyto!(view(b.states, ((i - 1) * n + 1):(i * n)), sol(time))
    end
    b.f(b.out, b.states, b.p, zero(eltype(b.out)))
    copyto!(residual, view(b.out, 1:n))
    return nothing
end

"""
    collocate(model, p, conditions, q, times, alg, ts, us, abstol, maxiters)

A solution of a boundary value problem near states `us` (n, k) at equal steps from `ts[1]` to `ts[2]`, or `nothing` and
what Julia says of it. `conditions` is a model of the states at `times`, with parameters `q`.
"""
function collocate(model, p, conditions, q, times, alg, ts, us, abstol, maxiters)
    mirk()
    F = Vector{Float64}
    return Base.invokelatest(mesh, model, F(p), conditions, F(q), F(times), alg, F(ts), Matrix{Float64}(us),
        Float64(abstol), Int(maxiters))
end

function mesh(model, p, conditions, q, times, alg, ts, us, abstol, maxiters)
    way = ts[2] > ts[1] ? 1.0 : -1.0
    n = size(us, 1)
    f = Along(ode_function(model, Float64[]).f, way)
    size_of = max(n * length(times), n)
    bounds = Bounds(ode_function(conditions, Float64[]).f, way .* times, q, zeros(size_of), zeros(size_of))
    guess = [us[:, k] for k in axes(us, 2)]
    prob = SciMLBase.BVProblem(SciMLBase.BVPFunction{true, SciMLBase.FullSpecialize}(f, bounds; bcresid_prototype = zeros(n)),
        guess, (way * ts[1], way * ts[2]), p)
    sol = SciMLBase.solve(prob, alg; abstol, dt = abs(ts[2] - ts[1]) / (size(us, 2) - 1))
    successful_retcode(sol) || return (string(sol.retcode), zeros(0), zeros(n, 0))
    return ("", way .* Vector{Float64}(sol.t), reduce(hcat, sol.u))
end

mesh_size(found) = length(found[2])
mesh_said(found) = found[1]
mesh!(ts, us, found) = (copyto!(ts, found[2]); copyto!(us, found[3]); nothing)
