# The adjoint of a compiled model: the backward solve of λ alone, and the gradient in p by Gauss quadrature along its
# steps. SciMLSensitivity's GaussAdjoint is the same method for any function of Julia's; this one knows what it has, a
# function with its own products and a dense solution, and asks nothing else at each step.
#
# The steps of λ know nothing of the integrand: where f does not depend on u they grow without bound, over any
# oscillation of df/dp. So a step is taken in pieces no longer than two steps of the forward solve, and a piece in which
# the integrand is rough in halves. How rough it is shows in its Legendre coefficients, which decay as powers of one ratio
# where it is smooth: the last that n nodes give foretells the error, of order 2n, at no further cost.
#
# References: Norcliffe and Deisenroth, "Faster training of neural ODEs using Gauss-Legendre quadrature", TMLR 2023;
# Golub and Welsch, "Calculation of Gauss quadrature rules", Math. Comp. 23 (1969);
# Laurie, "Practical error estimation in numerical integration", J. Comput. Appl. Math. 12 (1985), for null rules.

using FunctionWrappers: FunctionWrapper

"""A node in [-1, 1], its weight, and its weight in the last Legendre coefficient."""
struct Node
    x::Float64
    weight::Float64
    last::Float64
end

"""Gauss's quadrature of n nodes on [-1, 1]."""
function gauss_legendre(n)
    nodes, vectors = LinearAlgebra.eigen(LinearAlgebra.SymTridiagonal(zeros(n), [k / sqrt(4k^2 - 1) for k in 1:(n - 1)]))
    weights = 2 .* view(vectors, 1, :) .^ 2
    return [Node(x, w, (2n - 1) / 2 * w * legendre(n - 1, x)) for (x, w) in zip(nodes, weights)]
end

"""The Legendre polynomial of degree k at x, by its recurrence."""
function legendre(k, x)
    before, now = 0.0, 1.0
    for j in 1:k
        before, now = now, ((2j - 1) * x * now - (j - 1) * before) / j
    end
    return now
end

const GAUSS = map(gauss_legendre, 3:10)

"""The rule that is exact for polynomials of a solver's order; two nodes could not tell what is rough."""
rule(alg) = GAUSS[clamp(div(SciMLBase.alg_order(alg) + 1, 2), 3, 10) - 2]

"""A solution as a function `(y, t)`. Mutable: a wrapper would copy it at each call."""
mutable struct Interpolant{S}
    sol::S
end
# At the ends of the span a solver that differentiates in time by differences, or tries out a step, looks just outside.
(state::Interpolant)(y, t) = (state.sol(y, clamp(t, minmax(state.sol.prob.tspan...)...)); nothing)

"""
The forward solution as `state(y, t)`. Its type does not tell which solver it is from, so that one compiled backward
solve does for all of them.
"""
const States{T} = FunctionWrapper{Nothing, Tuple{Vector{T}, T}}

"""λ' = -Jᵀ λ."""
struct Costate{T, F}
    state::States{T}
    y::Vector{T}
    vjp::F
end

function (c::Costate)(out, λ, p, t)
    c.state(c.y, t)
    c.vjp(out, λ, c.y, p, t)
    @simd for i in eachindex(out)
        @inbounds out[i] = -out[i]
    end
    return nothing
end

"""-Jᵀ, which implicit solvers factorise. `order` says where the entries of a sparse J go."""
struct CostateJacobian{T, F, J}
    state::States{T}
    y::Vector{T}
    jac::F
    J::J
    order::Vector{Int}
end

function (c::CostateJacobian)(out, λ, p, t)
    c.state(c.y, t)
    c.jac(c.J, c.y, p, t)
    transposed!(out, c.J, c.order)
    return nothing
end

SciMLBase.isinplace(::CostateJacobian, ::Int, ::AbstractString, ::Bool; options...) = true

transposed!(out, J::Matrix, order) = (out .= .-transpose(J); nothing)
transposed!(out, J::SparseMatrixCSC, order) = (nonzeros(out) .= .-view(nonzeros(J), order); nothing)

transposition(J::Matrix) = (copy(J), Int[])
function transposition(J::SparseMatrixCSC{T}) where {T}
    order = SparseMatrixCSC(permutedims(SparseMatrixCSC(J.m, J.n, J.colptr, J.rowval, collect(1:length(J.rowval)))))
    return SparseMatrixCSC{T, Int}(order.m, order.n, order.colptr, order.rowval, zeros(T, length(order.rowval))),
        nonzeros(order)
end

function costate_function(f, state, T, n)
    J = prototype(f, n)
    jac_prototype, order = transposition(J)
    jac = CostateJacobian(state, zeros(T, n), f.jac, J, order)
    return ODEFunction{true, SciMLBase.FullSpecialize}(Costate(state, zeros(T, n), f.vjp); jac, jac_prototype)
end

"""
What happens at each step of the backward solve: the quadrature over the step that was made, and at the times where
states were saved the jump of λ by their cotangents.
"""
mutable struct Gauss{T, F}
    state::States{T}
    vjp_p::F
    rule::Vector{Node}
    weights::Vector{Float64}  # those of the rule, and its weights in the last Legendre coefficient on the same scale
    lasts::Vector{Float64}
    knots::Vector{T}  # the times of the forward steps
    knot::Int  # the last of them that the backward solve has not passed
    reltol::T
    abstol::T
    ts::Vector{T}
    cotangents::Matrix{T}
    next::Int  # the column of the next jump
    y::Vector{T}
    λ::Vector{T}
    parts::Matrix{T}  # λᵀ df/dp at the nodes, in columns
    piece::Vector{T}
    dp::Vector{T}
    size::T  # of dp
    waiting::Union{Nothing, Waiting{T}}  # of a gradient by factors, which needs no `parts`
end

function (g::Gauss{T})(λ, t, integrator) where {T}
    isempty(g.dp) || add_step!(g, integrator, integrator.tprev, t)
    return g.next > 0 && t == g.ts[g.next]
end

function (g::Gauss)(integrator)
    jump!(integrator.u, g)
    # A jump excites what is fast again. The step that was right before it is too long by orders of magnitude, and an
    # implicit method would be told so a dozen rejections later, each with a Jacobian.
    over = integrator.t == integrator.sol.prob.tspan[2]
    is_implicit(integrator.alg) && !over && SciMLBase.auto_dt_reset!(integrator)
    return nothing
end

"""Whether an algorithm, one that does not switch, differentiates f."""
is_implicit(alg) = hasfield(typeof(alg), :autodiff)

function jump!(λ, g::Gauss)
    λ .+= view(g.cotangents, :, g.next)
    g.next -= 1
    return nothing
end

"""Adds the integral of λᵀ df/dp over a step, which goes against the direction of the forward solve."""
function add_step!(g::Gauss, integrator, from, to)
    ahead, knots = sign(from - to), g.knots
    start = from
    while g.knot > 2 && ahead * (knots[g.knot] - to) > 0
        g.knot -= 1
        between = knots[g.knot]
        # Every second step of the forward solve that ends well inside this one.
        if ahead * (start - knots[g.knot + 1]) > 0 && ahead * (between - to) > 0
            add_piece!(g, integrator, start, between)
            start = between
        end
    end
    add_piece!(g, integrator, start, to)
    return nothing
end

"""
Adds the integral over a piece of a step. Where its last Legendre coefficient says that it is rough, that may come of any
oscillation, and only halves that agree with the whole are believed from there on.
"""
function add_piece!(g::Gauss{T}, integrator, from, to) where {T}
    isnothing(g.waiting) || return add_piece!(g, g.waiting, integrator, from, to)
    h = evaluate!(g, integrator, from, to)
    size, last, total = accumulate!(g.dp, g.piece, g.parts, g.weights, g.lasts, h)
    if error_of(size, last, length(g.rule)) > allowed(g, size)
        g.dp .-= g.piece
        add_halves!(g, integrator, from, to, copy(g.piece), 40)
    else
        g.size = total
    end
    return nothing
end

function add_piece!(g::Gauss{T}, w::Waiting{T}, integrator, from, to) where {T}
    n = length(g.rule)
    room(w) < n && settle!(g, w)
    size, last, total = evaluate!(w, g, integrator, from, to)
    if error_of(size, last, n) > allowed(g, size)
        whole = zeros(T, length(g.dp))
        add_columns!(whole, w, w.count - n + 1, n)
        w.count -= n
        settle!(g, w)
        add_halves!(g, integrator, from, to, whole, 40)
    else
        w.squared = total
        g.size = max(g.size, sqrt(total))
    end
    return nothing
end

function settle!(g::Gauss, w::Waiting)
    add_waiting!(g.dp, w)
    g.size = norm2(g.dp)
    return nothing
end

function add_piece!(g::Gauss, piece::Vector)
    add_to!(g.dp, piece)
    g.size = norm2(g.dp)
    return nothing
end

allowed(g::Gauss, size) = g.reltol * max(g.size, size) + g.abstol

"""Adds the integral over a piece where Gauss's rule gives `whole`, in halves until they agree with it."""
function add_halves!(g::Gauss, integrator, from, to, whole, depth)
    middle = (from + to) / 2
    first, second = similar(whole), similar(whole)
    sizes = integrate!(first, g, integrator, from, middle)[1], integrate!(second, g, integrator, middle, to)[1]
    @. whole -= first + second
    if depth > 0 && norm2(whole) > allowed(g, max(sizes...))
        add_halves!(g, integrator, from, middle, first, depth - 1)
        add_halves!(g, integrator, middle, to, second, depth - 1)
    else
        add_piece!(g, first)
        add_piece!(g, second)
    end
    return nothing
end

"""Gauss's rule from `from` to `to`, into `piece`. Returns the size of that and of its last Legendre coefficient."""
function integrate!(piece, g::Gauss{T}, integrator, from, to) where {T}
    isnothing(g.waiting) || return integrate!(piece, g, g.waiting, integrator, from, to)
    h, nothing_yet = evaluate!(g, integrator, from, to), zeros(T, length(piece))
    size, last, _ = accumulate!(nothing_yet, piece, g.parts, g.weights, g.lasts, h)
    return size, last
end

function integrate!(piece, g::Gauss{T}, w::Waiting{T}, integrator, from, to) where {T}
    fill!(piece, 0)
    size, last, _ = evaluate!(w, g, integrator, from, to)
    add_waiting!(piece, w)
    return size, last
end

"""Where a node of the rule from `from` to `to` is, with λ and the state there."""
function visit!(g::Gauss{T}, integrator, node, from, to) where {T}
    t = muladd((to - from) / 2, T(node.x), (to + from) / 2)
    integrator(g.λ, t)
    g.state(g.y, t)
    return t
end

"""The integrand at the nodes from `from` to `to`, into `g.parts`. Returns the weight of the rule's weights there."""
function evaluate!(g::Gauss, integrator, from, to)
    for (i, node) in enumerate(g.rule)
        t = visit!(g, integrator, node, from, to)
        g.vjp_p(view(g.parts, :, i), g.λ, g.y, integrator.p, t)
    end
    return (from - to) / 2
end

"""
The integrand at the nodes from `from` to `to`, with its weights, into columns that wait. Returns the sizes of their sum and
of its last Legendre coefficient, and the square of the size of all that waits.
"""
function evaluate!(w::Waiting{T}, g::Gauss{T}, integrator, from, to) where {T}
    h, before = (from - to) / 2, w.count
    for (i, node) in enumerate(g.rule)
        t = visit!(g, integrator, node, from, to)
        g.λ .*= h * T(g.weights[i])
        pull!(w, g.λ, g.y, integrator.p, t)
    end
    size = last = zero(T)
    across = w.squared
    for i in eachindex(g.rule)
        for j in 1:before
            across += 2 * scalar(w, before + i, j)
        end
        for j in 1:i
            product = (i == j ? 1 : 2) * scalar(w, before + i, before + j)
            size += product
            last += T(g.lasts[i] / g.weights[i] * (g.lasts[j] / g.weights[j])) * product
        end
    end
    return root(size), root(last), max(across + size, zero(T))
end

root(squared) = sqrt(max(squared, zero(squared)))

"""
    accumulate!(total, piece, parts, weights, lasts, h)

Writes the h `weights` of the columns of `parts` to `piece` and adds that to `total`. Returns the sizes of `piece`, of the
h `lasts` of the columns, and of `total`. With many parameters a gradient is bound by memory, so all is read but once.
"""
function accumulate!(total, piece, parts, weights, lasts, h)
    n = length(weights)
    n == 3 && return accumulate!(total, piece, parts, weights, lasts, h, Val(3))
    n == 4 && return accumulate!(total, piece, parts, weights, lasts, h, Val(4))
    return accumulate!(total, piece, parts, weights, lasts, h, Val(n))::NTuple{3, eltype(total)}
end

function accumulate!(total::Vector{T}, piece, parts::Matrix{T}, weights, lasts, h, ::Val{N}) where {T, N}
    w, l = ntuple(i -> T(h * weights[i]), Val(N)), ntuple(i -> T(h * lasts[i]), Val(N))
    size = last = whole = zero(T)
    @simd for k in eachindex(piece, total)
        values = ntuple(i -> @inbounds(parts[k, i]), Val(N))
        here, rough = sum(w .* values), sum(l .* values)
        @inbounds piece[k] = here
        @inbounds total[k] = all = total[k] + here
        size, last, whole = muladd(here, here, size), muladd(rough, rough, last), muladd(all, all, whole)
    end
    return sqrt(size), sqrt(last), sqrt(whole)
end
foreach(N -> precompile(accumulate!, (Vector{Float64}, Vector{Float64}, Matrix{Float64}, Vector{Float64}, Vector{Float64}, Float64, Val{N})), 3:5)

function add_to!(total, piece)
    @simd for i in eachindex(total, piece)
        @inbounds total[i] += piece[i]
    end
    return nothing
end

function norm2(x::Vector{T}) where {T}
    total = zero(T)
    @simd for i in eachindex(x)
        @inbounds total = muladd(x[i], x[i], total)
    end
    return sqrt(total)
end

"""
The error of n nodes, from the sizes of the integral (the first Legendre coefficient) and of the last coefficient, n - 1,
on the same scale: coefficient 2n is the first that the rule gets wrong.
"""
function error_of(size, last, n)
    first = max(size, last)
    return first == 0 ? first : first * (last / first)^(2n / (n - 1))
end

"""Whether `gauss!` can take the place of SciMLSensitivity."""
function takes_gauss(run::Run, sensealg, alg)
    f = run.sol.prob.f
    return sensealg == "GaussAdjoint" && f.f isa Part && run.sol.dense && !(f.mass_matrix isa Diagonal) &&
        has_dense_output(alg)
end

"""
    gauss!(du0, dp, counts, run, alg, ts, cotangents, reltol, abstol)

`adjoint!` for a compiled model, by Gauss's quadrature along the steps of the backward solve.
"""
gauss!(du0, dp, counts, run::Run, alg, ts, cotangents, reltol, abstol) =
    gauss!(du0, dp, counts, run.sol.prob, run.sol, alg, ts, cotangents, reltol, abstol, stops(run))

function gauss!(du0, dp, counts, prob, sol, alg, ts, cotangents, reltol, abstol, stops)
    T, f = eltype(prob.u0), prob.f
    n, m, before = length(prob.u0), length(dp), f.vjp.calls[]
    state = States{T}(Interpolant(sol))
    nodes = rule(alg)
    factors = waiting(f.vjp_p.code)
    k = isnothing(factors) ? m : 0
    g = Gauss{T, typeof(f.vjp_p)}(state, f.vjp_p, nodes, [x.weight for x in nodes], [2 * x.last for x in nodes], sol.t, length(sol.t), T(reltol), T(abstol), Vector{T}(ts),
        Matrix{T}(cotangents), length(ts), zeros(T, n), zeros(T, n), zeros(T, k, length(nodes)), zeros(T, k), zeros(T, m), zero(T), factors)
    λ = zeros(T, n)
    stop = g.ts[end]
    jump!(λ, g)
    stats = stop == prob.tspan[1] ? (0, 0, 0) : backward!(λ, costate_function(f, state, T, n), g, prob, stop, alg, T(reltol), T(abstol), stops)
    copyto!(du0, λ)
    isnothing(factors) || add_waiting!(g.dp, factors)
    isempty(dp) || copyto!(dp, g.dp)
    copyto!(counts, Int[f.vjp.calls[] - before, stats...])
    return nothing
end

function backward!(λ, f, g, prob, stop, alg, reltol, abstol, stops)
    callback = DiscreteCallback(g, g; save_positions = (false, false))
    integrator = SciMLBase.init(ODEProblem(f, λ, (stop, prob.tspan[1]), prob.p), alg; callback, reltol, abstol,
        tstops = isempty(stops) ? g.ts : [g.ts; stops], save_everystep = false, dense = false, maxiters = 1_000_000, verbose = Silent())
    sol = check_end(SciMLBase.solve!(integrator), "backward")
    copyto!(λ, integrator.u)
    return sol.stats.njacs, sol.stats.naccept, sol.stats.nreject
end
