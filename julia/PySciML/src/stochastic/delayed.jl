# Stochastic delay differential equations: paths by DelayDiffEq, of the steps of StochasticDiffEq's solvers.

"""
A stochastic equation with delays: drift and diffusion as `Delayed` takes them, each by a model of its values and one of the
times that it asks for, and the past; `places` says where each has its parameters, from 1 on.
"""
struct DelayedEquation{T} <: AbstractEquation{T}
    n::Int
    asked::NTuple{2, Int}
    models::NTuple{5, Model{T}}
    places::NTuple{5, Vector{Int}}
    home::Module  # DelayDiffEq
    f::Model{T}
    blocks::Blocks
end
function DelayedEquation(n::Integer, k, l, first::Model{T}, others...) where {T}
    models, places = (first, others[1:4]...), others[5:9]
    return DelayedEquation{T}(n, (k, l), models, Vector{Int}.(places) .|> x -> x .+ 1, package("DelayDiffEq"), first, Blocks(n, 1, 1))
end

function stochastic_problem(eq::DelayedEquation{T}, alg, u0, p, t0, t1, seed, noise) where {T}
    own = map(place -> p[place], eq.places)
    delayed(i, k) = Delayed(eq.n, k, eq.models[i], own[i], eq.models[i + 1], own[i + 1])
    f, g = delayed(1, eq.asked[1]), delayed(3, eq.asked[2])
    past = Past(eq.models[5], own[5])
    constant, dependent = map(vcat, told_apart(f, u0, t0, t1), told_apart(g, u0, t0, t1))
    functions = SciMLBase.SDDEFunction{true, SciMLBase.FullSpecialize}(f, g)
    return SciMLBase.SDDEProblem{true}(functions, g, u0, past, (t0, t1), p; constant_lags = unique(constant),
        dependent_lags = dependent, noise)
end

stepper(eq::DelayedEquation, alg) = eq.home.MethodOfSteps(alg)
own_options(::DelayedEquation, seed) = (; seed)

read_path!(du0, dp, ::Path, ::DelayedEquation, steps, ts, cotangents) = error("there are no gradients of equations with delays")
