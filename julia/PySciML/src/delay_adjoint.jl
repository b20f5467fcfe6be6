# The gradient of a solution with delays. Its variation δu along a variation δp of the parameters obeys
#
#     δu' = A δu + sum_l B_l δv_l + C δp,    δv_l = δu(α_l) + u'(α_l) δα_l,    δα_l = α_u δu + α_p δp,
#
# where α_l is the l-th time asked for; before the start δv_l = h_t δα_l + h_p δp. This is discretised by collocation on
# the steps of the solution, whose polynomials give δu(α_l) in earlier steps, or in the same one. So it is a triangular
# system of small blocks, and the gradient is the solution of its transpose, by one sweep over the steps from the last to
# the first: of the cotangents of all states and slopes, those that a step's unknowns have by then are complete. It costs
# the same for any number of parameters, is stable where the problem is stiff, and no equation with advanced arguments
# comes up.
#
# Where the past jumps at a time σ, or from h(t0) to u0 at the start, u' jumps at the time ξ at which α_l passes it, and δu
# with it: by (f- - f+) δξ, and α_t δξ + α_u (δu + f- δξ) + α_p δp = δσ, which is δt0 at the start and else 0.
#
# References: Hairer, Norsett and Wanner, "Solving Ordinary Differential Equations I", II.17; Calver and Enright,
# "Numerical methods for computing sensitivities for ODEs and DDEs", Numer. Algorithms 74 (2017); Baker and Rihan,
# "Sensitivity analysis of parameters in modelling with delay-differential equations", MCCM report 349 (1999).

using LinearAlgebra: dot, ldiv!, lu!

"""What is known at the nodes of a step, the last index: z and times as of `Delayed`, the matrices A and B (a block of
columns for each time), the slopes u'(α), and the gradients of α in u in columns."""
struct Nodes{T}
    t::Vector{T}
    z::Matrix{T}
    times::Matrix{T}
    A::Array{T, 3}
    B::Array{T, 3}
    slopes::Array{T, 3}
    turns::Array{T, 3}
end

Nodes{T}(n, k, s) where {T} = Nodes{T}(zeros(T, s), zeros(T, n * (1 + k), s), zeros(T, k, s), zeros(T, n, n, s),
    zeros(T, n, n * k, s), zeros(T, n, k, s), zeros(T, n, k, s))

"""One of the three functions of a model, as the gradient asks for it: how it changes with its parameters."""
struct Pull{T}
    piece::Piece{Part{T, :vjp_p}, T}
    place::Vector{Int}
    v::Vector{T}
    out::Vector{T}
end

Pull(model::Model{T}, p, place) where {T} =
    Pull{T}(Piece(:vjp_p, model, p), place, zeros(T, model.n), zeros(T, length(place)))

"""Adds v times the derivative in the parameters; v may be shorter than what the function returns."""
function pull!(gradient, pull::Pull, v, x, t, factor = true)
    isempty(pull.place) && return nothing
    fill!(pull.v, 0)
    copyto!(pull.v, v)
    pull.piece(pull.out, pull.v, x, t)
    for i in eachindex(pull.place)
        gradient[pull.place[i]] += factor * pull.out[i]
    end
    return nothing
end

"""
The sweep: of the states at the `mesh` the cotangents `y`, of the slopes at the nodes of its steps the cotangents `K`, and
the gradient so far. `moving` says whether times depend on states or parameters, `jumps` where the past does.
"""
struct Sweep{T}
    n::Int
    k::Int
    method::Collocation
    track::Track{T}
    d::Delayed{T}
    other::Delayed{T}  # for slopes at other times
    pulls::NTuple{3, Pull{T}}
    lag_jac::Piece{Part{T, :jac}, T}
    lag_slope::Piece{Part{T, :tgrad}, T}
    past_slope::Piece{Part{T, :tgrad}, T}
    mesh::Vector{T}
    y::Matrix{T}
    K::Array{T, 3}
    gradient::Vector{T}
    start::Base.RefValue{T}  # the gradient in t0
    nodes::Nodes{T}
    w::Vector{T}
    c::Vector{T}
    turns::Matrix{T}
    turned::Vector{T}
    M::Matrix{T}
    μ::Vector{T}
    moving::Bool
    jumps::Vector{Jump{T}}
end

function Sweep(run::DelayRun{S, T}, stages, moving, jumpy) where {S, T}
    d, track, p = copy(run.d), Track(run), run.sol.prob.p
    n, k, method = d.n, d.k, collocation(stages)
    jumps = jumps_at_start(run.past, run.sol.prob.u0, run.sol.prob.tspan...)
    jumpy && append!(jumps, jumps_before(track, d, run.sol.t))
    mesh = sweep_mesh(track, d, run.sol.t, jumps, stages)
    own, (slope, lags, past) = map(place -> p[place], run.places), run.models
    return Sweep{T}(n, k, method, track, d, copy(d), map(Pull, run.models, own, run.places),
        Piece(:jac, lags, own[2]), Piece(:tgrad, lags, own[2]), Piece(:tgrad, past, own[3]), mesh,
        zeros(T, n, length(mesh)), zeros(T, n, stages, length(mesh) - 1), zeros(T, length(p)), Ref(zero(T)),
        Nodes{T}(n, k, stages), zeros(T, stages), zeros(T, n), zeros(T, lags.n, lags.n), zeros(T, k),
        zeros(T, n * stages, n * stages), zeros(T, n * stages), moving, jumps)
end

"""The step in which a time lies: that which it begins, or where it is `last`, that which it ends."""
function step_of(s::Sweep, t; last = false)
    back = s.track.sign < 0
    j = last ? searchsortedfirst(s.mesh, t; rev = back) - 1 : searchsortedlast(s.mesh, t; rev = back)
    return clamp(j, 1, length(s.mesh) - 1)
end

"""Adds a cotangent of the state at a time."""
function spread!(s::Sweep, t, c; last = false)
    j = step_of(s, t; last)
    h = s.mesh[j + 1] - s.mesh[j]
    weights!(s.w, s.method, (t - s.mesh[j]) / h)
    for a in 1:(s.n)
        s.y[a, j] += c[a]
        for i in eachindex(s.w)
            s.K[a, i, j] += h * s.w[i] * c[a]
        end
    end
    return nothing
end

"""u' on the solution."""
function slope!(out, s::Sweep, t)
    d = s.other
    s.track.state(s.c, t)
    d.slope(d.y, gather!(d, s.track, s.c, nothing, t), t)
    copyto!(out, view(d.y, 1:(s.n)))
    return nothing
end

"""The slope of the state before the start, or of the solution."""
function slope_of_past!(out, s::Sweep, t)
    later(s.track, s.track.t0, t) || return slope!(out, s, t)
    s.past_slope(s.c, s.track.past.x, t)
    copyto!(out, s.c)
    return nothing
end

"""Finds all there is to know at the i-th node, at the time t."""
function look!(s::Sweep, i, t)
    n, d, nodes = s.n, s.d, s.nodes
    s.track.state(s.c, t)
    nodes.t[i] = t
    copyto!(view(nodes.z, :, i), gather!(d, s.track, s.c, nothing, t))
    copyto!(view(nodes.times, :, i), view(d.times, 1:(s.k)))
    d.jac(d.square, d.z, t)
    for b in 1:(n * (1 + s.k)), a in 1:n
        b <= n ? (nodes.A[a, b, i] = d.square[a, b]) : (nodes.B[a, b - n, i] = d.square[a, b])
    end
    s.moving && turn!(s, i, t)
    return nothing
end

"""How the times move with the state, and with them the states there: adds to A."""
function turn!(s::Sweep, i, t)
    n, nodes = s.n, s.nodes
    s.lag_jac(s.turns, s.d.x, t)
    for l in 1:(s.k)
        slope_of_past!(view(nodes.slopes, :, l, i), s, nodes.times[l, i])
        copyto!(view(nodes.turns, :, l, i), view(s.turns, l, 1:n))
        for a in 1:n
            along = sum(nodes.B[a, n * (l - 1) + b, i] * nodes.slopes[b, l, i] for b in 1:n)
            for b in 1:n
                nodes.A[a, b, i] += along * nodes.turns[b, l, i]
            end
        end
    end
    return nothing
end

"""The matrix of a step from t on: what its slopes are, less what they make of each other."""
function matrix!(s::Sweep, t, h)
    n, M, stages, nodes = s.n, s.M, length(s.method.c), s.nodes
    for i in 1:stages
        for m in 1:stages, b in 1:n, a in 1:n
            M[n * (i - 1) + a, n * (m - 1) + b] = (i == m && a == b) - h * s.method.A[i, m] * nodes.A[a, b, i]
        end
        for l in 1:(s.k)
            later(s.track, nodes.times[l, i], t) || continue
            weights!(s.w, s.method, (nodes.times[l, i] - t) / h)
            for m in 1:stages, b in 1:n, a in 1:n
                M[n * (i - 1) + a, n * (m - 1) + b] -= h * s.w[m] * nodes.B[a, n * (l - 1) + b, i]
            end
        end
    end
    return M
end

"""Takes the cotangents of a step's end and of its slopes to its start, to earlier steps and to the parameters."""
function step_back!(s::Sweep, j)
    n, t, h, stages = s.n, s.mesh[j], s.mesh[j + 1] - s.mesh[j], length(s.method.c)
    for i in 1:stages
        look!(s, i, t + s.method.c[i] * h)
        for a in 1:n
            s.μ[n * (i - 1) + a] = s.K[a, i, j] + h * s.method.b[i] * s.y[a, j + 1]
        end
    end
    for a in 1:n
        s.y[a, j] += s.y[a, j + 1]
    end
    ldiv!(transpose(lu!(matrix!(s, t, h))), s.μ)
    foreach(i -> distribute!(s, i, j), 1:stages)
    return nothing
end

"""out = the columns of `from` on, of a matrix at the i-th node, each times the cotangent μ of the slope there."""
function times_matrix!(out, s::Sweep, matrix, from, i)
    for b in 1:(s.n)
        out[b] = 0
        for a in 1:(s.n)
            out[b] += matrix[a, from + b, i] * s.μ[s.n * (i - 1) + a]
        end
    end
    return out
end

"""Distributes the cotangent of the slope at the i-th node of a step."""
function distribute!(s::Sweep, i, j)
    n, nodes, c = s.n, s.nodes, s.c
    times_matrix!(c, s, nodes.A, 0, i)
    add_to_state!(s, j, c)
    copyto!(s.d.z, view(nodes.z, :, i))
    pull!(s.gradient, s.pulls[1], view(s.μ, (n * (i - 1) + 1):(n * i)), s.d.z, nodes.t[i])
    for l in 1:(s.k)
        times_matrix!(c, s, nodes.B, n * (l - 1), i)
        s.turned[l] = s.moving ? dot(view(nodes.slopes, :, l, i), c) : zero(eltype(c))
        to_past!(s, j, nodes.times[l, i], c)
    end
    if s.moving
        copyto!(s.d.x, 1, s.d.z, 1, n)
        pull!(s.gradient, s.pulls[2], s.turned, s.d.x, nodes.t[i])
    end
    return nothing
end

function add_to_state!(s::Sweep, j, c)
    for a in 1:(s.n)
        s.y[a, j] += c[a]
    end
    return nothing
end

"""Adds the cotangent of a state that the j-th step asks for: it is before the start, in the step, or in one before."""
function to_past!(s::Sweep, j, time, c)
    if later(s.track, s.track.t0, time)
        pull!(s.gradient, s.pulls[3], c, s.track.past.x, time)
    elseif later(s.track, time, s.mesh[j])
        add_to_state!(s, j, c)  # the rest is in the step's own matrix
    else
        spread!(s, time, c)
    end
    return nothing
end

"""What a jump of u' at the start of the j-th step makes of the cotangent there."""
function jump!(s::Sweep, j)
    ξ, shortest = s.mesh[j], least(s.mesh[1], s.mesh[end])
    before = copy(asked(s.track, s.d, ξ - beside(ξ - s.mesh[j - 1], shortest)))
    after = copy(asked(s.track, s.d, ξ + beside(s.mesh[j + 1] - ξ, shortest)))
    for jump in s.jumps, l in 1:(s.k)
        (before[l] - jump.t) * (after[l] - jump.t) < 0 || continue
        later(s.track, jump.t, before[l]) ? cross_jump!(s, j, l, jump.before, jump.after, jump.t) :
            cross_jump!(s, j, l, jump.after, jump.before, jump.t)
    end
    return nothing
end

"""The l-th time passes a jump at σ, where the state goes from one to another."""
function cross_jump!(s::Sweep{T}, j, l, from, to, σ) where {T}
    n, d, ξ = s.n, s.d, s.mesh[j]
    u = zeros(T, n)
    s.track.state(u, ξ)
    gather!(d, s.track, u, nothing, ξ)
    slope(v) = (copyto!(d.z, l * n + 1, v, 1, n); d.slope(d.y, d.z, ξ); d.y[1:n])
    less, more = slope(from), slope(to)
    s.lag_jac(s.turns, d.x, ξ)
    s.lag_slope(d.times, d.x, ξ)
    turn = s.turns[l, 1:n]
    moved = dot(less .- more, view(s.y, :, j)) / (d.times[l] + dot(turn, less))
    view(s.y, :, j) .-= moved .* turn
    σ == s.track.t0 && (s.start[] += moved)
    unit = zeros(T, s.k)
    unit[l] = 1
    pull!(s.gradient, s.pulls[2], unit, d.x, ξ, -moved)
    return nothing
end

"""As many nodes that states inside a step are as good as those of a solver of that order, whose steps are taken."""
stages_for(order) = clamp(order + 1, 4, 10)

"""
    adjoint_delay!(du0, dp, dt0, run, stages, moving, jumpy, ts, cotangents)

The gradients of sum(cotangents .* states at ts) in u0, p and t0, with `stages` nodes in a step; 0 for as many as the
solver's order asks for. Where times are `moving`, a past that is `jumpy` is searched for jumps. Returns the number of
steps of the sweep.
"""
function adjoint_delay!(du0, dp, dt0, run::DelayRun{S, T}, stages, moving, jumpy, ts, cotangents) where {S, T}
    s = Sweep(run, stages == 0 ? stages_for(run.order) : stages, moving, moving && jumpy)
    foreach((t, c) -> spread!(s, t, c; last = true), ts, eachcol(cotangents))
    sweep!(s)
    slope!(view(s.nodes.slopes, :, 1, 1), s, s.track.t0)
    copyto!(du0, view(s.y, :, 1))
    copyto!(dp, s.gradient)
    dt0[1] = s.start[] - dot(view(s.y, :, 1), view(s.nodes.slopes, :, 1, 1))
    return length(s.mesh) - 1
end

function sweep!(s::Sweep)
    for j in (length(s.mesh) - 1):-1:1
        !isempty(s.jumps) && j < length(s.mesh) - 1 && jump!(s, j + 1)
        step_back!(s, j)
        poll()
    end
    return nothing
end

"""
    slopes_delay!(out, run, ts)

u' at times of the span, in the columns of `out`.
"""
function slopes_delay!(out, run::DelayRun, ts)
    track, d = Track(run), copy(run.d)
    for (i, t) in enumerate(ts)
        u = zeros(eltype(d.z), d.n)
        track.state(u, t)
        d.slope(d.y, gather!(d, track, u, nothing, t), t)
        copyto!(view(out, :, i), view(d.y, 1:(d.n)))
    end
    return nothing
end
