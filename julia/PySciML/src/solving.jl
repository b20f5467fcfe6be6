# The forward solve and its dense output.

"""A forward solve that can be interpolated and differentiated: its solution, and how to solve once more."""
struct Run{S, A, O, T}
    sol::S
    alg::A
    options::O
    reltol::Union{T, Vector{T}}
    abstol::Union{T, Vector{T}}
    steps::Vector{T}  # the times the solver stepped on
end

"""A solve that did not reach its end; the text is for people, the fields for `pysciml`."""
struct Stopped <: Exception
    retcode::String
    t::Float64
    direction::String
end
Base.showerror(io::IO, e::Stopped) = print(io, "PySciML.Stopped: ", e.direction, " ", e.retcode, " ", e.t)

function check_end(sol, direction)
    check_end(sol.retcode, Float64(sol.t[end]), sol.prob.tspan, direction)
    return sol
end

function check_end(retcode, t::Float64, (start, stop), direction)
    reached = abs(t - stop) <= 1e-9 * abs(stop) + 1e-12 * abs(stop - start)
    # SUNDIALS in Julia reports Success for a solve that a NaN ended; the time tells.
    (successful_retcode(retcode) && reached) || throw(Stopped(string(retcode), t, direction))
    return nothing
end

"""
    solve!(out, counts, model, alg, u0, p, mass, t0, t1, ts, reltol, abstol, checkpoints, options)

Solves a model and writes the states at `ts` to the columns of `out` (n, k) and what the solver counted to `counts`.

`reltol` and `abstol` are one for all states, or a vector. `checkpoints` is the number of steps between the states that are kept for a
gradient; 0 keeps a dense solution. Returns a `Run`. Throws `Stopped` if the end was not reached.
"""
function solve!(out, counts, model::AbstractModel, alg, u0, p, mass, t0, t1, ts, reltol, abstol, checkpoints, options)
    # What comes from Python is copied to plain vectors first, so that the solve is the one that was compiled already.
    T = number(model)
    prob = ODEProblem(ode_function(model, Vector{T}(mass)), Vector{T}(u0), (T(t0), T(t1)), Vector{T}(p))
    tolerances = tolerance(T, reltol), tolerance(T, abstol)
    steps = (; (Symbol(k) => v for (k, v) in options)..., consistent(prob.f.mass_matrix)...)
    run, states, work = has_parts(model) ?
        Base.inferencebarrier(forward_apart)(prob, alg, tolerances..., Vector{T}(ts), model.parts[], steps) :
        forward(prob, alg, tolerances..., Vector{T}(ts), Int(checkpoints), steps)
    copyto!(out, states)
    copyto!(counts, work)
    return run
end

has_parts(model) = false
has_parts(model::Model) = model.parts[] !== nothing

tolerance(::Type{T}, one::Number) where {T} = T(one)
tolerance(::Type{T}, each) where {T} = length(each) == 1 ? T(only(each)) : Vector{T}(each)
of_state(one::Number, i) = one
of_state(each::Vector, i) = each[i]

"""Whether a mass matrix has zeros."""
is_dae(mass) = mass isa Diagonal && any(iszero, mass.diag)

"""The option that finds the algebraic variables of a DAE at the start."""
consistent(mass) = is_dae(mass) ? (; initializealg = BrownFullBasicInit()) : (;)

"""Loads what `consistent` needs: a package that explicit solvers do without."""
load_initialization() = (package("OrdinaryDiffEqNonlinearSolve"); nothing)

"""The run, the states at `ts` in columns, and the counts of one solve."""
function forward(prob, alg, reltol, abstol, ts, checkpoints, options)
    if checkpoints == 0 && has_dense_output(alg)
        sol = check_end(solved(prob, alg, reltol, abstol, options; dense = true, save_everystep = true), "forward")
        return Run(sol, alg, options, reltol, abstol, sol.t), states(sol, ts), count_work(sol)
    end
    problem = stated(prob, alg)
    recorder = Recorder(problem, ts, checkpoints, reltol, abstol)
    sol = solved(problem, alg, reltol, abstol, options; dense = false, save_everystep = false, callback = callback(recorder))
    check_end(sol, "forward")
    kept = recorded(recorder, prob, alg, sol)
    return Run(kept, alg, options, reltol, abstol, recorder.steps), recorder.out, count_work(sol)
end

solved(prob, alg, reltol, abstol, options; more...) = SciMLBase.solve(
    prob, alg; reltol, abstol, verbose = Silent(), maxiters = 100_000, first_step(prob, alg)..., options..., more...,
    start(prob)...,
)

"""The states at `ts` by dense output, one a column."""
function states(sol, ts::Vector{T}) where {T}
    out, state = Matrix{T}(undef, length(sol.prob.u0), length(ts)), similar(sol.prob.u0)
    for (i, t) in enumerate(ts)
        sol(state, t)
        copyto!(view(out, :, i), state)
    end
    return out
end

count_work(sol) = sol.stats === nothing ? zeros(Int, 4) :
    Int[sol.stats.nf, sol.stats.njacs, sol.stats.naccept, sol.stats.nreject]

"""
    interpolate!(out, run, ts)

The states at other times of the span, in the columns of `out`. A run that kept checkpoints alone is solved again.
"""
function interpolate!(out, run::Run, ts)
    times = Vector{eltype(run.sol.prob.tspan)}(ts)
    if run.sol.dense
        copyto!(out, states(run.sol, times))
    else
        _, found, _ = forward(run.sol.prob, run.alg, run.reltol, run.abstol, times, 1_000_000, run.options)
        copyto!(out, found)
    end
    return nothing
end

"""
    step_count(run)

How many times the solver stepped on, its start among them; `steps!(out, run)` gives them.
"""
step_count(run::Run) = length(run.steps)
steps!(out, run::Run) = (copyto!(out, run.steps); nothing)

"""The times a solve was told to step on, as its backward solve must."""
stops(run::Run) = get(run.options, :tstops, eltype(run.sol.prob.u0)[])

"""
    evaluate!(out, model, kind, v, u, p, t)

One part of a model at one point, for tests and for du/dt of a solution.
"""
function evaluate!(out, model::Model{T}, kind, v, u, p, t) where {T}
    part = Part{T, :f}(getfield(model, Symbol(kind)), T[zero(T)], Ref(0))
    result = zeros(T, length(out))
    run!(part, result, Vector{T}(v), Vector{T}(u), Vector{T}(p), t)
    copyto!(out, result)
    return nothing
end
