# The gradient of a solution by the transpose of a collocation of its variational equation on the steps of the solve:
#
#     δu' = J δu + C δp,    K_i = J_i (δu + h sum_m A_im K_m) + C_i δp at the nodes of a step, where u has the slopes K,
#
# with J and C at the states of the solution. The cotangents go from step to step, the last one first, each through one
# system of s n equations; those of states saved inside a step go to its slopes. Nothing is solved backwards, so nothing
# starts anew at each saved time, where in a stiff problem the fastest transient comes up again: it takes a fraction of
# the time of an adjoint that is solved. It has no tolerance of its own: it is as good as the steps are, which know all
# about u and nothing of C. Where f takes p times something that comes and goes within a step, and p is zero, C is missed:
# Legendre coefficients along each step tell (see gauss.jl), and then there is no gradient but an error.
#
# References: Hairer and Wanner, "Solving Ordinary Differential Equations II", IV.5; Sandu, "On the properties of
# Runge-Kutta discrete adjoints", ICCS 2006.

"""
The cotangents `y` of the states at the steps and `K` of the slopes at the nodes, the gradient `dp` so far, and what is
known at the nodes of one step.
"""
struct Transposed{T, F, J, S}
    f::F
    p::Vector{T}
    method::Collocation
    steps::Vector{T}
    mass::Vector{T}
    state::States{T}
    us::Vector{Vector{T}}
    Js::Vector{J}
    system::S
    μ::Vector{T}
    w::Vector{Float64}
    λ::Vector{T}
    y::Matrix{T}
    K::Array{T, 3}
    parts::Matrix{T}  # μᵀ C at the nodes, in columns
    piece::Vector{T}
    dp::Vector{T}
end

function Transposed(run::Run, stages, by)
    prob, T = run.sol.prob, eltype(run.sol.prob.u0)
    f, n, m, k = prob.f, length(prob.u0), length(prob.p), length(run.steps)
    mass = f.mass_matrix isa Diagonal ? Vector{T}(f.mass_matrix.diag) : ones(T, n)
    J = prototype(f, n)
    # Which of them it is, is known when there is a problem; the sweep is compiled for each.
    return Base.inferencebarrier(transposed)(run, stages, step_system(J, stages, by.below, by.above), J, mass)
end

function transposed(run, stages, system, J, mass)
    prob, T = run.sol.prob, eltype(run.sol.prob.u0)
    f, n, m, k = prob.f, length(prob.u0), length(prob.p), length(run.steps)
    return Transposed{T, typeof(f), typeof(J), typeof(system)}(f, prob.p, collocation(stages), run.steps, mass,
        States{T}(Interpolant(run.sol)), [zeros(T, n) for _ in 1:stages], [copy(J) for _ in 1:stages], system,
        zeros(T, n * stages), zeros(stages), zeros(T, n), zeros(T, n, k), zeros(T, n, stages, k - 1),
        zeros(T, m, stages), zeros(T, m), zeros(T, m))
end

"""Adds the cotangents of the states at `ts`, each to the step that it ends or lies in."""
function spread!(a::Transposed{T}, ts, cotangents) where {T}
    order = a.steps[end] < a.steps[1] ? Base.Order.Reverse : Base.Order.Forward
    for l in eachindex(ts)
        j = clamp(searchsortedfirst(a.steps, ts[l], order) - 1, 1, length(a.steps) - 1)
        h = a.steps[j + 1] - a.steps[j]
        weights!(a.w, a.method, (ts[l] - a.steps[j]) / h)
        for r in axes(a.y, 1)
            a.y[r, j] += cotangents[r, l]
            for i in eachindex(a.w)
                a.K[r, i, j] += h * T(a.w[i]) * cotangents[r, l]
            end
        end
    end
    return nothing
end

"""Takes the cotangents of a step's end and of its slopes to its start and to the parameters."""
function step_back!(a::Transposed{T}, j) where {T}
    n, t, h = length(a.mass), a.steps[j], a.steps[j + 1] - a.steps[j]
    nodes, y = eachindex(a.us), view(a.y, :, j)
    for i in nodes, r in 1:n
        a.μ[n * (i - 1) + r] = a.K[r, i, j] + h * T(a.method.b[i]) * a.y[r, j + 1]
    end
    y .+= view(a.y, :, j + 1)
    for i in nodes
        at = t + h * T(a.method.c[i])
        a.state(a.us[i], at)
        a.f.jac(a.Js[i], a.us[i], a.p, at)
    end
    to_slopes!(a, h)
    for i in nodes
        mul!(y, transpose(a.Js[i]), view(a.μ, (n * (i - 1) + 1):(n * i)), true, true)
    end
    isempty(a.dp) && return zero(T), zero(T)
    for i in nodes
        a.f.vjp_p(view(a.parts, :, i), view(a.μ, (n * (i - 1) + 1):(n * i)), a.us[i], a.p, t + h * T(a.method.c[i]))
    end
    size, last, _ = accumulate!(a.dp, a.piece, a.parts, a.method.ones, a.method.lasts, one(T))
    wrong = error_of(size, last, length(nodes))
    # A λ that is as smooth as C tells as much, at no further cost.
    return wrong <= ROUGH.least * size ? (size, wrong) : roughness(a, t, h)
end

"""
The size of the integral of λᵀ C over a step, and how wrong the nodes have it, with the mean of λ there: in what is stiff
λ itself comes and goes within a step, and the collocation has it right.
"""
function roughness(a::Transposed{T}, t, h) where {T}
    n, s, method = length(a.mass), length(a.us), a.method
    for r in 1:n
        a.λ[r] = sum(a.μ[n * (i - 1) + r] for i in 1:s)
    end
    for i in 1:s
        a.f.vjp_p(view(a.parts, :, i), a.λ, a.us[i], a.p, t + h * T(method.c[i]))
    end
    size, last, _ = accumulate!(zeros(T, length(a.piece)), a.piece, a.parts, method.b, method.roughness, one(T))
    return size, error_of(size, last, s)
end

"""From the cotangents of the slopes of a step to those of the right-hand sides at its nodes."""
to_slopes!(a::Transposed, h) = solve_transposed!(a.system, a.μ, a.Js, a.mass, a.method.A, h)

"""
The sensitivity algorithm that `adjoint!` takes for this, with so many nodes in a step; 0 leaves that to it. `below` and
`above` are the diagonals of a dense Jacobian that are not zero, or -1 where nobody knows.
"""
struct ByCollocation
    stages::Int
    below::Int
    above::Int
end
ByCollocation(stages) = ByCollocation(stages, -1, -1)

"""As many nodes as make states inside a step as good as those of a solver of that order."""
stages_of(by::ByCollocation, alg) = by.stages == 0 ? clamp(Int(SciMLBase.alg_order(alg)) - 1, 3, 8) : by.stages

function adjoint!(du0, dp, counts, run::Run, by::ByCollocation, alg, ts, cotangents, reltol, abstol)
    sweep!(du0, dp, counts, Transposed(run, stages_of(by, run.alg), by), run, ts, cotangents)
    return nothing
end

function sweep!(du0, dp, counts, a::Transposed, run, ts, cotangents)
    spread!(a, ts, cotangents)
    steps = length(a.steps) - 1
    found = [step_back!(a, j) for j in steps:-1:1]
    check_smooth(found, a.steps, run.reltol)
    copyto!(du0, view(a.y, :, 1))
    copyto!(dp, a.dp)
    copyto!(counts, Int[length(a.us) * steps, length(a.us) * steps, steps, 0])
    return nothing
end

# How wrong the quadrature may be, over its size, in tolerances, and how wrong at most. Measured: 5e-3 at most on stiff
# problems at a tolerance of 0.1, 5e-8 at 1e-6; 0.15 at least where an oscillation was missed.
const ROUGH = (; tolerances = 1000, least = 1.0e-6, most = 0.1)

"""Throws where the quadrature of λᵀ C is not what it should be, with the time of the step that is worst."""
function check_smooth(found, steps, reltol)
    all, wrong = sum(first, found), sum(last, found)
    wrong <= clamp(ROUGH.tolerances * minimum(reltol), ROUGH.least, ROUGH.most) * all && return nothing
    throw(Stopped("Rough", Float64(steps[length(steps) - argmax(last.(found))]), "backward"))
end
