# Right-hand sides in two parts, for solvers that take them apart: symplectic ones and Nyström's, implicit-explicit and
# exponential ones.

"""One half of a right-hand side of (v, u), as solvers of problems in halves call it: `(out, v, u, p, t)`."""
struct Half{T, F}
    f::F
    first::Bool
    state::Vector{T}
    slope::Vector{T}
end

function (half::Half)(out, v, u, p, t)
    n = length(v)
    copyto!(half.state, 1, v, 1, n)
    copyto!(half.state, n + 1, u, 1, n)
    half.f(half.slope, half.state, p, t)
    copyto!(out, 1, half.slope, half.first ? 1 : n + 1, n)
    return nothing
end

"""The second half of a problem of second order, du/dt = v."""
struct Velocity end
(::Velocity)(out, v, u, p, t) = (copyto!(out, v); nothing)

"""A part of a sum, with parameters of its own in the place of those of the whole."""
struct Own{F, T}
    f::F
    p::Vector{T}
end
(own::Own)(out, u, p, t) = own.f(out, u, own.p, t)

SciMLBase.isinplace(::Union{Half, Velocity, Own}, ::Int, ::AbstractString, ::Bool; options...) = true

"""
    halve!(model, second_order)

From here on solvers for problems in halves can solve the model; of second order, its second half is not computed.
"""
halve!(model::Model, second_order::Bool) = (model.parts[] = second_order; nothing)

"""
    split!(model, first, places, second, others, linear)

From here on solvers for split problems find in the model the two that it is the sum of, and where among its parameters
those of each are, from 0 on. `linear` for solvers that take the first as a matrix.
"""
split!(model::Model, first, places, second, others, linear) =
    (model.parts[] = ((first, places .+ 1), (second, others .+ 1), linear); nothing)

"""
    whole!(model)

From here on the model is solved as a whole.
"""
whole!(model::Model) = (model.parts[] = nothing; nothing)

"""The problem that a solver takes apart: by halves, or a sum."""
function apart(prob, second_order::Bool)
    T, n = eltype(prob.u0), div(length(prob.u0), 2)
    half(first) = Half{T, typeof(prob.f.f)}(prob.f.f, first, zeros(T, 2n), zeros(T, 2n))
    return SciMLBase.DynamicalODEProblem{true}(half(true), second_order ? Velocity() : half(false), prob.u0[1:n],
        prob.u0[(n + 1):(2n)], prob.tspan, prob.p)
end

function apart(prob, (first, second, linear)::Tuple)
    T = eltype(prob.u0)
    f, g = ode_function(first[1], T[]), ode_function(second[1], T[])
    p, q = prob.p[first[2]], prob.p[second[2]]
    stiff = linear ? matrix_operator(f, prob.u0, p, prob.tspan[1]) :
        ODEFunction{true, SciMLBase.FullSpecialize}(Own(f.f, p); jac = Own(f.jac, p), tgrad = Own(f.tgrad, p),
        f.jac_prototype)
    other = ODEFunction{true, SciMLBase.FullSpecialize}(Own(g.f, q))
    sum = SciMLBase.SplitFunction{true, SciMLBase.FullSpecialize}(stiff, other; _func_cache = zero(prob.u0))
    return SciMLBase.SplitODEProblem(sum, prob.u0, prob.tspan, prob.p)
end

function matrix_operator(f, u, p, t)
    A = copy(f.jac_prototype)
    f.jac(A, u, p, t)
    return ODEFunction{true, SciMLBase.FullSpecialize}(Base.invokelatest(operators().MatrixOperator, A))
end

"""
What is kept of a solve of parts: its steps, each with its state and the slope there, as a cubic solution of the whole. A
solver that chooses its steps stops at `ts`; the others keep their step, to stay what they are.
"""
function forward_apart(prob, alg, reltol, abstol, ts, parts, options)
    problem = apart(prob, parts)
    stopping = SciMLBase.isadaptive(alg) ? (; tstops = [ts; get(options, :tstops, eltype(ts)[])]) : (;)
    each = map(tolerance -> like_state(tolerance, problem.u0), (reltol, abstol))
    sol = check_end(solved(problem, alg, each..., options; stopping..., dense = false, save_everystep = true), "forward")
    t, u = sol.t, [collect(x) for x in sol.u]
    interp = cubic(t, u, [slope(prob, x, s) for (x, s) in zip(u, t)])
    kept = SciMLBase.build_solution(prob, alg, t, u; interp, dense = true, sol.retcode, sol.stats)
    return Run(kept, alg, options, reltol, abstol, t), states(kept, ts), count_work(sol)
end

like_state(one::Number, state) = one
like_state(each::Vector, state) = copyto!(similar(state), each)

function slope(prob, u, t)
    du = similar(u)
    prob.f(du, u, prob.p, t)
    return du
end

"""
Whether a solution is too coarse between its steps for an adjoint: a cubic between the long ones of a high order, and what
fully implicit Runge-Kutta methods keep of algebraic variables.
"""
too_coarse(run::Run) = too_coarse(run.alg, nameof(parentmodule(typeof(run.alg))), run.sol.prob.f.mass_matrix)
too_coarse(alg, package, mass) = (package === :OrdinaryDiffEqRKN && SciMLBase.alg_order(alg) > 6) ||
    (package === :OrdinaryDiffEqFIRK && is_dae(mass))

"""The run of the whole problem, at the same tolerances, by a solver with a fine solution between its steps."""
function finer(run::Run)
    prob = run.sol.prob
    alg = is_dae(prob.f.mass_matrix) ? OrdinaryDiffEqRosenbrock.Rodas5P(autodiff = AutoFiniteDiff()) :
        OrdinaryDiffEqVerner.Vern9()
    return forward(prob, alg, run.reltol, run.abstol, [prob.tspan[2]], 0, run.options)[1]
end
