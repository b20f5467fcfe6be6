# Pathwise gradients of stochastic equations: the derivative of the steps that the solver took, along the Brownian motion
# that it took them with. It is the exact gradient of the numbers that came out; that of the exact solution it is up to the
# error of the solver. See Giles and Glasserman, "Smoking adjoints: fast Monte Carlo Greeks", Risk (2006).

"""
One side of an equation while its steps are read backwards: how to evaluate it, its products in u and p as one vector
`pulled`, and what comes of those in p.
"""
struct Side{T, F, P}
    f::F
    pull::P
    pulled::Vector{T}
    gradient::Vector{T}
end
Side(model::Model{T}, p, f) where {T} = Side(f, Own(Products(model), p), zeros(T, model.n + length(p)), zeros(T, length(p)))

"""Memory for reading the steps of a path backwards."""
struct Reading{T, F, G, J}
    scheme::Scheme
    blocks::Blocks
    f::F
    g::G
    jac::J
    used::NTuple{6, Bool}
    basis::Matrix{T}
    weights::Vector{T}
    increments::NTuple{2, Vector{T}}
    states::Vector{Vector{T}}    # where each evaluation is made
    values::Vector{Vector{T}}    # what it gives
    cotangents::Vector{Vector{T}}
    factors::Vector{Any}         # of I - γ dt J, where it is implicit
    state::Vector{T}
end

function Reading(path::Path{T}, steps::Scheme) where {T}
    eq = path.equation
    p, q = path.p[eq.f_places], path.p[eq.g_places]
    size_of(e) = e.drift ? eq.f.n : eq.g.n
    sized() = [zeros(T, size_of(e)) for e in steps.evaluations]
    k = motions(eq.blocks)
    return Reading(steps, eq.blocks, Side(eq.f, p, part(eq.f, :f, p)), Side(eq.g, q, part(eq.g, :f, q)), part(eq.f, :jac, p),
        weights_used(steps), zeros(T, k, 6), zeros(T, k), (zeros(T, k), zeros(T, second_motions(path))), sized(), sized(), sized(),
        Vector{Any}(nothing, length(steps.evaluations)), zeros(T, eq.f.n))
end

"""What a diffusion is multiplied with, for each motion."""
function weights!(r::Reading{T}, w::Weights) where {T}
    fill!(r.weights, 0)
    for k in eachindex(w)
        iszero(w[k]) || LinearAlgebra.axpy!(T(w[k]), view(r.basis, :, k), r.weights)
    end
    return r.weights
end

"""Makes ready for the step from the i-th state of a path on, whose length is returned."""
function turn!(r::Reading, path::Path, i)
    dt = path.t[i + 1] - path.t[i]
    for (d, all) in zip(r.increments, (path.W, path.Z))
        isempty(d) || (d .= all[i + 1] .- all[i])
    end
    weigh!(r.basis, r.used, r.increments..., dt)
    return dt
end

"""y += the combination of the evaluations."""
function combine!(y, r::Reading, c::Combination, dt)
    for (j, a) in c.drifts
        LinearAlgebra.axpy!(oftype(dt, a) * dt, r.values[j], y)
    end
    for (j, w) in c.noises
        contract!(y, r.values[j], weights!(r, w), r.blocks, one(dt))
    end
    return y
end

"""What a cotangent v of a combination is to the evaluations in it."""
function hand_back!(r::Reading, c::Combination, v, dt)
    for (j, a) in c.drifts
        LinearAlgebra.axpy!(oftype(dt, a) * dt, v, r.cotangents[j])
    end
    for (j, w) in c.noises
        spread!(r.cotangents[j], v, weights!(r, w), r.blocks)
    end
    return nothing
end

"""All evaluations of the step from u at t; `r.state` is the next state."""
function retake!(r::Reading, u, t, dt)
    for (i, e) in enumerate(r.scheme.evaluations)
        at, side = r.states[i], e.drift ? r.f : r.g
        fill!(at, 0)
        copyto!(at, u)
        combine!(view(at, 1:length(u)), r, e.at, dt)
        e.implicit == 0 || (r.factors[i] = inside!(at, r, e, t, dt))
        side.f(r.values[i], at, nothing, t + oftype(t, e.c) * dt)
    end
    return combine!(copyto!(r.state, u), r, r.scheme.next, dt)
end

"""
What `retake!` leaves behind where all evaluations are made at the start of the step: their values are for its end alone,
which is known. To see that it is what the scheme says, every sixteenth step is retaken all the same.
"""
function start!(r::Reading, u)
    for at in r.states
        length(at) == length(u) || fill!(at, 0)
        copyto!(at, u)
    end
    return nothing
end
has_turn(i) = (i - 1) % 16 == 0

"""
Newton's method for the state x = at + γ dt f(x) of an implicit evaluation, in the place of `at`. Returns the factors of
I - γ dt J there.
"""
function inside!(at::Vector{T}, r::Reading, e::Evaluation, t, dt) where {T}
    start, n, γ, s = copy(at), length(at), T(e.implicit) * dt, t + T(e.c) * dt
    slope, J = similar(at), zeros(T, n, n)
    for _ in 1:30
        r.f.f(slope, at, nothing, s)
        r.jac(J, at, nothing, s)
        factors = LinearAlgebra.lu!(LinearAlgebra.I - γ .* J)
        step = factors \ (start .+ γ .* slope .- at)
        at .+= step
        maximum(abs, step) <= 100 * eps(T) * (1 + maximum(abs, at)) && return factors
    end
    error("an implicit step was not found again")
end

"""Reads one step backwards: `λ` is the cotangent of the state after it, and then of the one before."""
function read_back!(λ, r::Reading, t, dt)
    foreach(x -> fill!(x, 0), r.cotangents)
    hand_back!(r, r.scheme.next, λ, dt)
    for i in length(r.scheme.evaluations):-1:1
        e = r.scheme.evaluations[i]
        side, v = e.drift ? r.f : r.g, r.cotangents[i]
        all(iszero, v) && continue
        s = t + oftype(t, e.c) * dt
        e.implicit == 0 || LinearAlgebra.ldiv!(r.factors[i]', v)
        side.pull(side.pulled, v, r.states[i], nothing, s)
        here = view(side.pulled, 1:length(λ))
        λ .+= here
        hand_back!(r, e.at, here, dt)
        side.gradient .+= view(side.pulled, (length(v) + 1):length(side.pulled))
    end
    return nothing
end

# Products take their own parameters, as evaluations do.
(own::Own)(out, v, u, p, t) = own.f(out, v, u, own.p, t)

"""
    read_path!(du0, dp, path, equation, steps, ts, cotangents)

The gradient of sum(cotangents .* states at ts) in u0 and in the parameters of one path, by the `known_steps` of all.
"""
function read_path!(du0, dp, path::Path{T}, eq::Equation, steps, ts, cotangents) where {T}
    r, λ = Reading(path, steps), zeros(T, length(first(path.u)))
    saved, is_known = Saved(path, ts, cotangents), at_start(steps)
    for i in (length(path.t) - 1):-1:1
        add_saved!(λ, saved, i + 1)
        all(iszero, λ) && continue
        t, dt, u = path.t[i], turn!(r, path, i), path.u[i]
        if is_known && !has_turn(i)
            start!(r, u)
        else
            check_step(retake!(r, u, t, dt), path.u[i + 1], r.scheme, path.alg)
        end
        read_back!(λ, r, t, dt)
    end
    copyto!(du0, add_saved!(λ, saved, 1))
    fill!(dp, 0)
    view(dp, eq.f_places) .+= r.f.gradient
    view(dp, eq.g_places) .+= r.g.gradient
    return nothing
end

"""
Cotangents of the states at times that increase, which are linear between the steps: the step that each time lies in and
how far into it, and how many times are not past yet for one who comes from the end.
"""
mutable struct Saved{T, C}
    const places::Vector{Tuple{Int, T}}
    const cotangents::C
    left::Int
end
Saved(path::Path{T}, ts, cotangents) where {T} = Saved([placed(path, T(t)) for t in ts], cotangents, length(ts))

"""λ += what the saved states are to the i-th one of the path. To be asked for all i, from the last one to the first."""
function add_saved!(λ, saved::Saved, i)
    k = saved.left
    while k >= 1 && saved.places[k][1] >= i - 1
        step, θ = saved.places[k]
        λ .+= (step == i ? 1 - θ : θ) .* view(saved.cotangents, :, k)
        step == i && (saved.left = k - 1)
        k -= 1
    end
    return λ
end

"""What there is to know of the steps of an algorithm, the same for all paths."""
known_steps(::Equation, alg) = scheme(alg)
known_steps(::AbstractEquation, alg) = nothing

# An implicit solver stops its iteration before rounding does.
function check_step(ours, theirs, steps, alg)
    scale = 1 + maximum(abs, theirs)
    allowed = implicit(steps) ? 0.01 : 1e4 * eps(eltype(ours))
    maximum(abs, ours .- theirs) <= allowed * scale && return nothing
    error("a step of $(nameof(typeof(alg))) is not the one that is known here, so there is no gradient through it")
end

"""
    adjoint_paths!(du0, dp, paths, ts, cotangents)

`read_path!` for every path: `du0` (n, N), `dp` (m, N), `cotangents` (n, k, N). What failed has a gradient of NaN, or
of zero where nothing was asked of it.
"""
function adjoint_paths!(du0, dp, paths, ts, cotangents)
    one = findfirst(path -> path isa Path, paths)
    steps = one === nothing ? nothing : known_steps(paths[one].equation, paths[one].alg)
    gradients!(du0, dp, cotangents, paths) do i, here, g
        read_path!(here..., paths[i], paths[i].equation, steps, ts, g)
    end
    return nothing
end

"""
    adjoint_paths_at!(table, N, n, m, paths)

`adjoint_paths!` with the arrays du0, dp, ts and cotangents in a table.
"""
function adjoint_paths_at!(all::Table, N, n, m, paths)
    F = Float64
    ts = at(all, F, 3)
    Base.invokelatest(adjoint_paths!, columns(at(all, F, 1), n), reshape(at(all, F, 2), m, N), paths, ts,
        reshape(at(all, F, 4), n, length(ts), N))
    return 1
end
