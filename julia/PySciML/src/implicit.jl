# Solvers of fully implicit problems, 0 = F(du, u, p, t), which take a right-hand side by its residual f(u, p, t) - M du.

using SciMLBase: DAEFunction, DAEProblem, NoInit

"""0 = f(u, p, t) - M du."""
struct Residual{T, F}
    f::F
    mass::Vector{T}
end

function (r::Residual)(out, du, u, p, t)
    r.f(out, u, p, t)
    @. out -= r.mass * du
    return nothing
end

"""The residual's derivative in u, plus γ times that in du."""
struct ResidualJacobian{T, F}
    jac::F
    mass::Vector{T}
end

function (r::ResidualJacobian)(J, du, u, p, γ, t)
    r.jac(J, u, p, t)
    for i in eachindex(r.mass)
        J[i, i] -= γ * r.mass[i]
    end
    return nothing
end

SciMLBase.isinplace(::Union{Residual, ResidualJacobian}, ::Int, ::AbstractString, ::Bool; options...) = true

"""How a problem that is stated by its residual starts: with what `residual_problem` found."""
start(prob) = (;)
start(::DAEProblem) = (; initializealg = NoInit())

"""The first step of a solver that takes the residual, which OrdinaryDiffEq guesses with the wrong sign backwards in time."""
first_step(prob, alg) = (;)
first_step(prob::DAEProblem, alg) = nameof(parentmodule(typeof(alg))) === :Sundials ? (;) :
    (; dt = abs(prob.tspan[2] - prob.tspan[1]) / 1_000_000)

"""du/dt at the start."""
first_slope(prob) = (du = similar(prob.u0); prob.f(du, prob.u0, prob.p, prob.tspan[1]); du)
first_slope(prob::DAEProblem) = copy(prob.du0)

"""Whether a solver takes the residual."""
takes_residual(alg) = alg isa SciMLBase.AbstractDAEAlgorithm

"""A problem as its solver takes it."""
stated(prob, alg) = takes_residual(alg) ? Base.inferencebarrier(residual_problem)(prob) : prob

function residual_problem(prob)
    T, f = eltype(prob.u0), prob.f
    mass = f.mass_matrix isa Diagonal ? f.mass_matrix.diag : ones(T, length(prob.u0))
    u0 = consistent_state(prob)
    du0 = similar(u0)
    f(du0, u0, prob.p, prob.tspan[1])
    du0 .= ifelse.(mass .== 0, zero(T), du0 ./ mass)
    jacobian = f.jac === nothing ? (;) : (; jac = ResidualJacobian(f.jac, mass), jac_prototype = ones(T, length(u0), length(u0)))
    whole = DAEFunction{true, SciMLBase.FullSpecialize}(Residual(f, mass); jacobian...)
    return DAEProblem{true}(whole, du0, u0, prob.tspan, prob.p; differential_vars = mass .!= 0)
end

"""The state at the start, its algebraic variables such that their equations hold."""
function consistent_state(prob)
    is_dae(prob.f.mass_matrix) || return copy(prob.u0)
    solver = OrdinaryDiffEqRosenbrock.Rodas5P(autodiff = AutoFiniteDiff())
    integrator = SciMLBase.init(prob, solver; consistent(prob.f.mass_matrix)..., save_everystep = false, verbose = Silent())
    failed = integrator.sol.retcode == SciMLBase.ReturnCode.InitialFailure
    failed && throw(Stopped("InitialFailure", Float64(prob.tspan[1]), "forward"))
    return copy(integrator.u)
end
