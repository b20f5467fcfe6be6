# The derivative of the steps that an explicit Runge-Kutta method took, the last one first: of the stages
#
#     Y_i = u + h sum_j a_ij k_j,    k_i = f(Y_i),    and dense output u + h sum_j b_j(θ) k_j inside a step,
#
# each evaluation of f is differentiated once, in u and in p at once. It is the exact gradient of the numbers that the
# solver gave, with its steps as they are, and as good as these are a gradient of the solution. The slopes k are those that
# the solver kept, so f itself is not called again.
#
# References: Hager, "Runge-Kutta methods in optimal control and the transformed adjoint system", Numer. Math. 87 (2000);
# Walther, "Automatic differentiation of explicit Runge-Kutta methods for optimal control", Comput. Optim. Appl. 36 (2007);
# Tsitouras, "Runge-Kutta pairs of order 5(4) satisfying only the first column simplifying assumption", Comput. Math. Appl.
# 62 (2011).

const STAGES = 7

"""
Tsit5: `A` of the stages 2 to 7, of which the last is the end of a step and the first of the next; their times `c`; and in
`dense` the weights of dense output, a column for each slope, of θ, θ², θ³ and θ⁴.
"""
struct Tableau{T}
    A::Matrix{T}
    c::Vector{T}
    dense::Matrix{T}
end

function Tableau{T}() where {T}
    known, r = OrdinaryDiffEqTsit5.Tsit5ConstantCacheActual(T, T), OrdinaryDiffEqTsit5.Tsit5Interp(T)
    A = [j < i ? T(getfield(known, Symbol(:a, i, j))) : zero(T) for i in 1:STAGES, j in 1:STAGES]
    dense = zeros(T, 4, STAGES)
    dense[:, 1] .= r[1:4]
    foreach(j -> dense[2:4, j] .= r[(3j - 1):(3j + 1)], 2:STAGES)
    return Tableau{T}(A, T[0, known.c1, known.c2, known.c3, known.c4, 1, 1], dense)
end

const TABLEAU, TABLEAU32 = Tableau{Float64}(), Tableau{Float32}()
tableau(::Type{Float64}) = TABLEAU
tableau(::Type{Float32}) = TABLEAU32

weight(tableau::Tableau, j, θ) = (d = tableau.dense; θ * (d[1, j] + θ * (d[2, j] + θ * (d[3, j] + θ * d[4, j]))))

"""What a solver kept of its steps: the times, the states there, and of each step the slopes of its stages."""
struct KeptSteps{T}
    t::Vector{T}
    u::Vector{Vector{T}}
    k::Vector{Vector{Vector{T}}}
end
state(steps::KeptSteps, j) = steps.u[j]
slope(steps::KeptSteps, j, i) = steps.k[j + 1][i]

"""The same in memory that is used again, for many solves one after another."""
struct Tape{T}
    n::Int
    t::Vector{T}
    u::Vector{T}
    k::Vector{T}
end
Tape{T}(n::Int) where {T} = Tape{T}(n, T[], T[], T[])
state(tape::Tape, j) = view(tape.u, (tape.n * (j - 1) + 1):(tape.n * j))
slope(tape::Tape, j, i) = (at = tape.n * (STAGES * (j - 1) + i); view(tape.k, (at - tape.n + 1):at))

function rewind!(tape::Tape, t, u)
    foreach(empty!, (tape.t, tape.u, tape.k))
    push!(tape.t, t)
    append!(tape.u, u)
    return nothing
end

function record!(tape::Tape, integrator)
    push!(tape.t, integrator.t)
    append!(tape.u, integrator.u)
    for i in 1:STAGES
        append!(tape.k, integrator.k[i])
    end
    return nothing
end

"""(vᵀ df/du, vᵀ df/dp) as one vector: of a model in one pass where that is compiled, else one after the other."""
struct Products{T}
    both::Part{T, :both}
    vjp::Part{T, :vjp}
    vjp_p::Part{T, :vjp_p}
    n::Int
end
Products(model::Model{T}) where {T} = (work = T[zero(T)];
    Products{T}(Part{T, :both}(model, work), Part{T, :vjp}(model, work), Part{T, :vjp_p}(model, work), model.n))

function (pull::Products)(out, v, u, p, t)
    pull.both.code.run == C_NULL || return run!(pull.both, out, v, u, p, t)
    pull.vjp(view(out, 1:pull.n), v, u, p, t)
    length(out) == pull.n || pull.vjp_p(view(out, (pull.n + 1):length(out)), v, u, p, t)
    return nothing
end

"""
Memory for reading steps backwards: the cotangents `λ` of the state at the end of a step and `start` of that at its start,
`slopes` of its slopes, and `carry` of the slope at its end, which is the first of the step after it.
"""
struct Reader{T}
    pull::Products{T}
    tableau::Tableau{T}
    λ::Vector{T}
    start::Vector{T}
    carry::Vector{T}
    slopes::Matrix{T}
    stage::Vector{T}
    pulled::Matrix{T}  # what each evaluation gave, in columns
    dp::Vector{T}
    waiting::Union{Nothing, Waiting{T}}  # of a gradient by factors, in the place of `pulled`
end

function Reader(model::Model{T}) where {T}
    n, m, factors = model.n, model.m, waiting(model.vjp_p)
    return Reader{T}(Products(model), tableau(T), zeros(T, n), zeros(T, n), zeros(T, n), zeros(T, n, STAGES), zeros(T, n),
        zeros(T, isnothing(factors) ? n + m : 0, STAGES - 1), zeros(T, m), factors)
end

"""
    read_back!(reader, steps, p, ts, cotangents)

The gradient of sum(cotangents .* states at ts), that in u0 in `reader.λ` and that in p in `reader.dp`.
"""
function read_back!(r::Reader{T}, steps, p, ts, cotangents) where {T}
    foreach(x -> fill!(x, 0), (r.λ, r.carry, r.dp))
    isnothing(r.waiting) || clear!(r.waiting)
    t, next = steps.t, length(ts)
    for j in (length(t) - 1):-1:1
        h = t[j + 1] - t[j]
        fill!(r.slopes, 0)
        fill!(r.start, 0)
        while next > 0 && (ts[next] - t[j]) * sign(h) > 0
            spread!(r, view(cotangents, :, next), h, (ts[next] - t[j]) / h)
            next -= 1
        end
        read_step!(r, steps, j, p, t[j], h)
    end
    next > 0 && (r.λ .+= view(cotangents, :, next))  # at the start of the span
    pull!(r, 1, r.carry, state(steps, 1), p, t[1], r.λ)
    isnothing(r.waiting) ? add_column!(r.dp, r.pulled, 1, length(r.λ)) : add_waiting!(r.dp, r.waiting)
    return nothing
end

"""Hands the cotangent of a state inside a step, or at its end, to what it was made of."""
function spread!(r::Reader, g, h, θ)
    θ == 1 && return (r.λ .+= g; nothing)
    r.start .+= g
    for i in 1:STAGES
        add_scaled!(view(r.slopes, :, i), h * weight(r.tableau, i, θ), g)
    end
    return nothing
end

function read_step!(r::Reader, steps, j, p, t, h)
    A, c = r.tableau.A, r.tableau.c
    last = view(r.slopes, :, STAGES)
    last .+= r.carry
    pull!(r, STAGES - 1, last, state(steps, j + 1), p, t + h, r.λ)
    r.start .+= r.λ
    for i in 1:(STAGES - 1)
        add_scaled!(view(r.slopes, :, i), h * A[STAGES, i], r.λ)
    end
    for i in (STAGES - 1):-1:2
        copyto!(r.stage, state(steps, j))
        for l in 1:(i - 1)
            add_scaled!(r.stage, h * A[i, l], slope(steps, j, l))
        end
        fill!(r.λ, 0)
        pull!(r, i - 1, view(r.slopes, :, i), r.stage, p, t + c[i] * h, r.λ)
        r.start .+= r.λ
        for l in 1:(i - 1)
            add_scaled!(view(r.slopes, :, l), h * A[i, l], r.λ)
        end
    end
    copyto!(r.carry, view(r.slopes, :, 1))
    copyto!(r.λ, r.start)
    if isnothing(r.waiting)
        add_columns!(r.dp, r.pulled, length(r.λ))
    elseif room(r.waiting) < STAGES
        add_waiting!(r.dp, r.waiting)
    end
    return nothing
end

"""Adds vᵀ df/du to `λ`; vᵀ df/dp stays in column `i` of what was pulled, or waits."""
function pull!(r::Reader, i, v, u, p, t, λ)
    nothing_here = all(iszero, v)  # as at the end of the last step
    if isnothing(r.waiting)
        column = view(r.pulled, :, i)
        nothing_here && (fill!(column, 0); return nothing)
        r.pull(column, v, u, p, t)
    else
        nothing_here && return nothing
        column = pull!(r.waiting, v, u, p, t)
    end
    for l in eachindex(λ)
        λ[l] += column[l]
    end
    return nothing
end

function add_scaled!(y, a, x)
    @simd for l in eachindex(y, x)
        @inbounds y[l] = muladd(a, x[l], y[l])
    end
    return nothing
end

"""Adds to `dp` what all evaluations of a step gave below row n, at once: it is bound by memory."""
function add_columns!(dp, pulled, n)
    @simd for l in eachindex(dp)
        @inbounds dp[l] += ((pulled[n + l, 1] + pulled[n + l, 2]) + (pulled[n + l, 3] + pulled[n + l, 4])) +
            (pulled[n + l, 5] + pulled[n + l, 6])
    end
    return nothing
end
add_column!(dp, pulled, i, n) = (dp .+= view(pulled, (n + 1):(n + length(dp)), i); nothing)

"""The sensitivity algorithm that `adjoint!` takes for this, of a model that has its products."""
struct BySteps{T}
    model::Model{T}
end

"""Whether an algorithm's steps can be read backwards."""
reads_back(alg) = alg isa OrdinaryDiffEqTsit5.Tsit5

function adjoint!(du0, dp, counts, run::Run, by::BySteps{T}, alg, ts, cotangents, reltol, abstol) where {T}
    reads_back(run.sol.alg) && run.sol.dense || error("the steps of $(nameof(typeof(run.sol.alg))) are not known here")
    steps = KeptSteps{T}(run.sol.t, run.sol.u, run.sol.k)
    return read_all!(du0, dp, counts, Reader(by.model), steps, run.sol.prob.p, Vector{T}(ts), Matrix{T}(cotangents))
end

function read_all!(du0, dp, counts, r::Reader, steps, p, ts, cotangents)
    read_back!(r, steps, p, ts, cotangents)
    copyto!(du0, r.λ)
    copyto!(dp, r.dp)
    copyto!(counts, (length(steps.t) * (STAGES - 1), 0, length(steps.t) - 1, 0))
    return nothing
end
