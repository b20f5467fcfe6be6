# Roots of a right-hand side, by NonlinearSolve.jl, which is loaded when first asked for.

"""f or its Jacobian at time zero, as NonlinearSolve calls it."""
struct Still{F}
    f::F
end
(s::Still)(out, u, p) = s.f(out, u, p, zero(eltype(u)))

"""
    root!(out, numbers, model, alg, u0, p, abstol, maxiters)

Where the search for u with 0 = f(u) from `u0` ended, root or not, to `out`; and how often f and its Jacobian were
evaluated, to `numbers`.
"""
function root!(out, numbers, model::AbstractModel, alg, u0, p, abstol, maxiters)
    package("NonlinearSolve")
    nameof(typeof(alg)) === :SSRootfind && package("SteadyStateDiffEq")
    return Base.invokelatest(search!, out, numbers, model, alg, Vector{Float64}(u0), Vector{Float64}(p),
        Float64(abstol), Int(maxiters))
end

function search!(out, numbers, model, alg, u0, p, abstol, maxiters)
    whole = ode_function(model, Float64[])
    # Without its other parts: SciML finds fault with a vjp that has the arguments of one for ODEs.
    prob = nameof(typeof(alg)) === :SSRootfind ?
        SciMLBase.SteadyStateProblem(ODEFunction{true, SciMLBase.FullSpecialize}(whole.f; whole.jac), u0, p) :
        SciMLBase.NonlinearProblem(still(whole), u0, p)
    sol = SciMLBase.solve(prob, alg; abstol = 1e-4 * abstol, reltol = 0.0, maxiters, verbose = Silent())
    copyto!(out, sol.u)
    copyto!(numbers, sol.stats === nothing ? (0, 0) : (sol.stats.nf, sol.stats.njacs))
    return nothing
end

still(f) = f.jac === nothing ? SciMLBase.NonlinearFunction{true, SciMLBase.FullSpecialize}(Still(f.f)) :
    SciMLBase.NonlinearFunction{true, SciMLBase.FullSpecialize}(Still(f.f); jac = Still(f.jac))
