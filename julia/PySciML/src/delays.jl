# Delay differential equations. A model f(t, u, h) comes as three: the times that f asks h for, what it does with the
# states there, and the state before t0. What is a model of other sizes is padded with zeros to one that is square.

"""A part of a model with its own parameters, called by the state alone."""
struct Piece{P, T}
    part::P
    p::Vector{T}
end

(piece::Piece)(out, x, t) = (run!(piece.part, out, x, x, piece.p, t); nothing)
(piece::Piece)(out, v, x, t) = (run!(piece.part, out, v, x, piece.p, t); nothing)

Piece(kind::Symbol, model::Model{T}, p) where {T} = Piece(Part{T, kind}(model, T[]), p)

"""
The past and the present of a right-hand side: `n` states, `k` times that it asks for. `z` is (u, v_1, ..., v_k), with the
state at each of these times. Mutable, that it is passed on by its address.
"""
mutable struct Delayed{T}
    const n::Int
    const k::Int
    const slope::Piece{Part{T, :f}, T}
    const jac::Piece{Part{T, :jac}, T}
    const lags::Piece{Part{T, :f}, T}
    const x::Vector{T}
    const times::Vector{T}
    const z::Vector{T}
    const y::Vector{T}
    const v::Vector{T}
    const square::Matrix{T}
end

function Delayed(n, k, slope::Model{T}, p, lags::Model{T}, q) where {T}
    N = slope.n
    return Delayed{T}(n, k, Piece(:f, slope, p), Piece(:jac, slope, p), Piece(:f, lags, q), zeros(T, lags.n),
        zeros(T, lags.n), zeros(T, N), zeros(T, N), zeros(T, n), zeros(T, N, N))
end

"""Another one with memory of its own."""
Base.copy(d::Delayed{T}) where {T} = Delayed{T}(d.n, d.k, again(d.slope), again(d.jac), again(d.lags), copy(d.x),
    copy(d.times), copy(d.z), copy(d.y), copy(d.v), copy(d.square))
again(piece::Piece) = Piece(again(piece.part), piece.p)
again(part::P) where {P <: Part} = P(part.code, copy(part.work), part.calls)

"""Finds the times asked for at a state."""
function ask!(d::Delayed, u, t)
    copyto!(d.x, 1, u, 1, d.n)
    d.lags(d.times, d.x, t)
    return d.times
end

"""Puts down a state and those at the times it asks for, by `h(v, p, time)`."""
function gather!(d::Delayed, h::H, u, p, t) where {H}
    ask!(d, u, t)
    copyto!(d.z, 1, u, 1, d.n)
    for l in 1:(d.k)
        h(d.v, p, d.times[l])
        copyto!(d.z, l * d.n + 1, d.v, 1, d.n)
    end
    return d.z
end

# As SciML calls it. With the type of h named: what is only handed on is else not compiled for.
function (d::Delayed)(du, u, h::H, p, t) where {H}
    d.slope(d.y, gather!(d, h, u, p, t), t)
    copyto!(du, 1, d.y, 1, d.n)
    return nothing
end

"""The Jacobian in the present state, of which solvers make no use but to find their stages."""
struct Present{T}
    d::Delayed{T}
end

function (present::Present)(J, u, h::H, p, t) where {H}
    d = present.d
    d.jac(d.square, gather!(d, h, u, p, t), t)
    copyto!(J, view(d.square, 1:(d.n), 1:(d.n)))
    return nothing
end

"""The state before the start."""
struct Past{T}
    piece::Piece{Part{T, :f}, T}
    x::Vector{T}
end

Past(model::Model{T}, p) where {T} = Past{T}(Piece(:f, model, p), zeros(T, model.n))
(past::Past)(v, p, t) = (past.piece(v, past.x, t); nothing)
(past::Past)(p, t) = (v = similar(past.x); past(v, p, t); v)

"""The l-th lag, as solvers track what it brings up from the past."""
struct Lag{T}
    d::Delayed{T}
    l::Int
end
(lag::Lag)(u, p, t) = t - ask!(lag.d, u, t)[lag.l]

SciMLBase.isinplace(::Union{Delayed, Present}, ::Int, ::AbstractString, ::Bool; options...) = true

"""
The lags that are constant, and those that are not as functions. They are looked at in three points: what is told wrong
by them is tracked less well, and no worse.
"""
function told_apart(d::Delayed{T}, u0, t0, t1) where {T}
    lags(share, by) = (t = t0 + T(share) * (t1 - t0); t .- ask!(d, u0 .+ T(by) .* (1 .+ abs.(u0)), t)[1:(d.k)])
    first, others = lags(0, 0), (lags(0.618, 0.01), lags(0.271, -0.013))
    slack = 16 * eps(max(abs(t0), abs(t1)))
    same(l) = all(other -> abs(other[l] - first[l]) <= slack, others)
    constant = [first[l] for l in 1:(d.k) if same(l) && first[l] * sign(t1 - t0) > 0]
    return unique(constant), [Lag(d, l) for l in 1:(d.k) if !same(l)]
end

"""A right-hand side asked for a state that is not there yet."""
struct Future <: Exception
    t::Float64
    asked::Float64
end
Base.showerror(io::IO, e::Future) = print(io, "PySciML.Future: ", e.t, " ", e.asked)

"""Throws if the times asked for at a step are later than it."""
function check_past(d::Delayed, ts, us, t0, t1)
    for (t, u) in zip(ts, us), asked in view(ask!(d, u, t), 1:(d.k))
        # A time that is no number comes of a state that is none, of which the solver tells.
        (asked - t) * sign(t1 - t0) > 1e-9 * abs(t1 - t0) && throw(Future(t, asked))
    end
    return nothing
end

"""A solve of a problem with delays: its solution, and what a gradient needs."""
struct DelayRun{S, T}
    sol::S
    d::Delayed{T}
    past::Past{T}
    models::NTuple{3, Model{T}}
    places::NTuple{3, Vector{Int}}
    order::Int
end

"""
    solve_delay!(out, counts, models, places, n, k, alg, u0, p, t0, t1, ts, reltol, abstol, options)

Solves u' = slope(u, states at the times that lags gives), with the past before t0: these are the three `models`, whose
parameters are those of `p` at `places`. Writes the states at `ts` to the columns of `out`. Returns a `DelayRun`.
"""
function solve_delay!(out, counts, models, places, n, k, alg, u0, p, t0, t1, ts, reltol, abstol, options)
    T = Float64
    slope, lags, before = models
    own = map(place -> p[place], places)
    d, past = Delayed(n, k, slope, own[1], lags, own[2]), Past(before, own[3])
    constant, dependent = told_apart(d, u0, t0, t1)
    f = SciMLBase.DDEFunction{true, SciMLBase.FullSpecialize}(d; jac = Present(d), jac_prototype = zeros(T, n, n))
    prob = SciMLBase.DDEProblem{true}(f, copy(u0), past, (t0, t1), p; constant_lags = constant,
        dependent_lags = dependent, order_discontinuity_t0 = isempty(jumps_at_start(past, u0, t0, t1)) ? 1 : 0, neutral = false)
    check_past(d, (t0,), (u0,), t0, t1)  # such a solve would come to a halt
    sol = solved(prob, alg, reltol, abstol, options; dense = true, save_everystep = true)
    check_past(d, sol.t, sol.u, t0, t1)
    check_end(sol, "forward")
    copyto!(out, states(sol, ts))
    copyto!(counts, count_work(sol))
    return DelayRun(sol, copy(d), past, models, places, Int(SciMLBase.alg_order(alg)))
end

"""
    interpolate_delay!(out, run, ts)

The states at other times of the span, in the columns of `out`.
"""
interpolate_delay!(out, run::DelayRun, ts) = (copyto!(out, states(run.sol, Vector{Float64}(ts))); nothing)
