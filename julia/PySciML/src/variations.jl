# Forward sensitivity: the state and its derivatives in u0 and p, solved together.

"""
The right-hand side of (u, S), S = du/d(u0, p) as columns: S' = J S + [0 df/dp].

Reference: Hairer, Norsett and Wanner, "Solving Ordinary Differential Equations I", I.14.
"""
struct Variations{T, F}
    f::F
    n::Int
    m::Int
    square::Matrix{T}
    unit::Vector{T}
    row::Vector{T}
end

function Variations(f, prob)
    n, m, T = length(prob.u0), length(prob.p), eltype(prob.u0)
    return Variations(f, n, m, zeros(T, n, n), zeros(T, n), zeros(T, m))
end

function (v::Variations)(out, x, p, t)
    n, columns = v.n, v.n + v.m
    u, S = view(x, 1:n), reshape(view(x, (n + 1):length(x)), n, columns)
    du, dS = view(out, 1:n), reshape(view(out, (n + 1):length(out)), n, columns)
    v.f(du, u, p, t)
    v.f.jac(v.square, u, p, t)
    mul!(dS, v.square, S)
    add_parameters!(view(dS, :, (n + 1):columns), v, v.f.f, u, p, t)
    return nothing
end

"""Adds df/dp to `out`, row by row: a product with the i-th unit vector from the left is the i-th row."""
function add_parameters!(out, v::Variations, f, u, p, t)
    for i in 1:(v.n)
        v.unit[i] = 1
        v.f.vjp_p(v.row, v.unit, u, p, t)
        v.unit[i] = 0
        view(out, i, :) .+= v.row
    end
    return nothing
end

# Their right-hand side alone: a Jacobian of the whole is left to the solver.
function variational(f, v::Variations)
    f.mass_matrix isa Diagonal || return ODEFunction{true, SciMLBase.FullSpecialize}(v)
    mass_matrix = Diagonal(repeat(f.mass_matrix.diag, 1 + v.n + v.m))
    return ODEFunction{true, SciMLBase.FullSpecialize}(v; mass_matrix)
end

"""
    sensitivities!(du0, dp, counts, run, alg, ts, cotangents, reltol, abstol)

The gradient of sum(cotangents .* states at ts) in u0 and p, by forward sensitivity.
"""
function sensitivities!(du0, dp, counts, run::Run, alg, ts, cotangents, reltol, abstol)
    prob, T = run.sol.prob, eltype(run.sol.prob.u0)
    n, m = length(prob.u0), length(prob.p)
    mass = prob.f.mass_matrix
    # Algebraic variables start where the others put them, so they are no inputs, and their variations are found.
    inputs = mass isa Diagonal ? Diagonal(T.(mass.diag .!= 0)) : Matrix{T}(LinearAlgebra.I, n, n)
    start = [prob.u0; vec([inputs zeros(T, n, m)])]
    _, found, work = forward(ODEProblem(variational(prob.f, Variations(prob.f, prob)), start, prob.tspan, prob.p), alg,
        T(reltol), T(abstol), Vector{T}(ts), 1_000_000, run.options)
    gradient, g = zeros(T, n + m), Matrix{T}(cotangents)
    for i in eachindex(ts)
        gradient .+= reshape(view(found, (n + 1):size(found, 1), i), n, n + m)' * view(g, :, i)
    end
    copyto!(du0, view(gradient, 1:n))
    copyto!(dp, view(gradient, (n + 1):(n + m)))
    copyto!(counts, work)
    return nothing
end
