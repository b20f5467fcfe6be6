# Random ordinary differential equations, du/dt = f(t, u, W(t)): paths by StochasticDiffEq, and their gradients, which are
# those of its steps along the noise.

"""A right-hand side that noise is an argument of: a model whose state is the one of `n` numbers and then the noise."""
struct Driven{T} <: AbstractEquation{T}
    f::Model{T}
    f_places::Vector{Int}
    n::Int
    blocks::Blocks
end
Driven(f::Model{T}, places, n, m) where {T} = Driven{T}(f, Vector{Int}(places) .+ 1, n, Blocks(m, 1, 1))

"""One part of it while a path is solved or read backwards."""
struct Drive{T, F}
    f::F
    n::Int
    state::Vector{T}
    values::Vector{T}
end
Drive(eq::Driven{T}, kind, p) where {T} =
    Drive(part(eq.f, kind, p[eq.f_places]), eq.n, zeros(T, eq.f.n), zeros(T, max(eq.f.n, eq.f.m)))

function placed!(d::Drive, u, W)
    copyto!(d.state, 1, u, 1, d.n)
    copyto!(d.state, d.n + 1, W, 1, length(W))
    return d.state
end

(d::Drive)(du, u, p, t, W) = (d.f(d.values, placed!(d, u, W), nothing, t); copyto!(du, 1, d.values, 1, d.n); nothing)

function stochastic_problem(eq::Driven{T}, alg, u0, p, t0, t1, seed, noise) where {T}
    f = SciMLBase.RODEFunction{true, SciMLBase.FullSpecialize}(Drive(eq, :f, p))
    return SciMLBase.RODEProblem{true}(f, u0, (t0, t1), T[]; rand_prototype = zeros(T, motions(eq.blocks)), seed, noise)
end

"""Products with the Jacobians of a driven equation at (u, W): `pulled` and the growing `gradient`."""
struct DrivenPull{T, F, U, P}
    f::F
    vjp::U
    vjp_p::P
    cotangent::Vector{T}
    gradient::Vector{T}
end
DrivenPull(path::Path{T}) where {T} = (eq = path.equation; DrivenPull(Drive(eq, :f, path.p), Drive(eq, :vjp, path.p),
    Drive(eq, :vjp_p, path.p), zeros(T, eq.f.n), zeros(T, length(eq.f_places))))

"""v times the Jacobian in u at (t, u, W), (n,); that in the parameters is added to the gradient."""
function (pull::DrivenPull)(v, u, t, W)
    copyto!(pull.cotangent, 1, v, 1, pull.f.n)
    pull.vjp.f(pull.vjp.values, pull.cotangent, placed!(pull.vjp, u, W), nothing, t)
    if !isempty(pull.gradient)
        pull.vjp_p.f(pull.vjp_p.values, pull.cotangent, placed!(pull.vjp_p, u, W), nothing, t)
        pull.gradient .+= view(pull.vjp_p.values, 1:length(pull.gradient))
    end
    return pull.vjp.values[1:(pull.f.n)]
end

slope(pull::DrivenPull, u, t, W) = (du = similar(u); pull.f(du, u, nothing, t, W); du)

"""The cotangent before a step of length h, for that λ after it: u, W at its start, V at its end."""
function read_step(alg, pull::DrivenPull, λ, u, t, h, W, V)
    name = nameof(typeof(alg))
    name === :RandomEM && return λ .+ pull(h .* λ, u, t, W)
    if name === :RandomTamedEM  # each state by itself: upstream's norm stands in a broadcast
        f = slope(pull, u, t, W)
        return λ .+ pull(h .* λ ./ (1 .+ h .* abs.(f)) .^ 2, u, t, W)
    end
    name === :RandomHeun || error("there is no gradient through a step of $name")
    second = pull(h / 2 .* λ, u .+ h .* slope(pull, u, t, W), t + h, V)
    return λ .+ second .+ pull(h / 2 .* λ .+ h .* second, u, t, W)
end

function read_path!(du0, dp, path::Path{T}, eq::Driven, steps, ts, cotangents) where {T}
    pull, saved, λ = DrivenPull(path), Saved(path, ts, cotangents), zeros(T, eq.n)
    for i in (length(path.t) - 1):-1:1
        add_saved!(λ, saved, i + 1)
        all(iszero, λ) && continue
        λ = read_step(path.alg, pull, λ, path.u[i], path.t[i], path.t[i + 1] - path.t[i], path.W[i], path.W[i + 1])
    end
    copyto!(du0, add_saved!(λ, saved, 1))
    fill!(dp, 0)
    view(dp, eq.f_places) .+= pull.gradient
    return nothing
end
