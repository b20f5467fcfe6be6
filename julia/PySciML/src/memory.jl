# The calls of every solve and every gradient, for Python, as C functions. Arrays come as addresses and Julia's own values
# as numbers: what PythonCall does for a call is general, and takes as long as a small solve.

"""
    Table(address)

Reads a table of (address, length) pairs of 64-bit integers, one an array. What they show must stay where it is during
the call, and be contiguous. (0, 0) is an array of nothing.
"""
struct Table
    entries::Ptr{Int}
end
Table(address::Integer) = Table(Ptr{Int}(UInt(address)))

at(table::Table, ::Type{T}, i) where {T} =
    unsafe_wrap(Array, Ptr{T}(unsafe_load(table.entries, 2i - 1)), unsafe_load(table.entries, 2i))
columns(x::Vector, n) = reshape(x, n, :)
# A table of no columns cannot tell how many it has.
columns(x::Vector, n, k) = reshape(x, n, n == 0 ? k : :)

# What Python holds on to, by number. One thread at a time is in here: the one that holds Python's lock on Julia.
const KEPT, FREE = Any[], Int[]

"""A number for `x`, which stays until it is let go."""
function keep(x)
    isempty(FREE) && return length(push!(KEPT, x))
    number = pop!(FREE)
    KEPT[number] = x
    return number
end
kept(number) = KEPT[number]
let_go(number::Int) = (KEPT[number] = nothing; push!(FREE, number); nothing)

# Numbers are positive. A negative one is of what was thrown, and where.
function guarded(f::F, args...) where {F}
    try
        return f(args...)::Int
    catch error
        return -keep((error, catch_backtrace()))
    end
end

# Julia lets 45 MB of garbage come together before it first looks for some. Small solves would take minutes to fill that,
# and a user would see memory grow; a look at what is young takes half a millisecond.
const GARBAGE = 12_000_000  # bytes
const LOOKED = Ref(0)

function collect_some()
    allocated = Base.gc_bytes()
    allocated - LOOKED[] < GARBAGE && return nothing
    GC.gc(false)
    LOOKED[] = allocated
    return nothing
end

function solve_at(table::Int, model::Int, alg::Int)
    collect_some()
    return guarded(solve_at!, Table(table), kept(model), kept(alg))
end
adjoint_at(table::Int, run::Int, sensealg::Int, alg::Int) =
    guarded(adjoint_at!, Table(table), kept(run), kept(sensealg), kept(alg))

function solve_delay_at(table::Int, n::Int, k::Int, alg::Int, slope::Int, lags::Int, past::Int)
    collect_some()
    return guarded(solve_delay_at!, Table(table), n, k, kept(alg), kept(slope), kept(lags), kept(past))
end
adjoint_delay_at(table::Int, run::Int, stages::Int, moving::Int, jumpy::Int) =
    guarded(adjoint_delay_at!, Table(table), kept(run), stages, moving != 0, jumpy != 0)

function solve_paths_at(table::Int, N::Int, n::Int, m::Int, equation::Int, alg::Int)
    collect_some()
    return guarded(solve_paths_at!, Table(table), N, n, m, kept(equation), kept(alg))
end
adjoint_paths_at(table::Int, N::Int, n::Int, m::Int, paths::Int) =
    guarded(adjoint_paths_at!, Table(table), N, n, m, kept(paths))

"""The addresses of the C functions, of integers: those of these names, and `let_go`."""
addresses() = Int[
    Int(@cfunction(solve_at, Int, (Int, Int, Int))), Int(@cfunction(adjoint_at, Int, (Int, Int, Int, Int))),
    Int(@cfunction(solve_delay_at, Int, (Int, Int, Int, Int, Int, Int, Int))),
    Int(@cfunction(adjoint_delay_at, Int, (Int, Int, Int, Int, Int))),
    Int(@cfunction(solve_paths_at, Int, (Int, Int, Int, Int, Int, Int))),
    Int(@cfunction(adjoint_paths_at, Int, (Int, Int, Int, Int, Int))),
    Int(@cfunction(let_go, Cvoid, (Int,))),
]

"""
    solve_at!(table, model, alg)

`solve!` with the arrays out, numbers, u0, p, mass, ts, abstols, reltols and tstops in a table. The numbers are four places for the counts,
then t0, t1, reltol and abstol (for all states, where there are not one each), checkpoints, dt, dtmax and maxiters, NaN for
what is not given. Returns the number of the `Run`.
"""
function solve_at!(all::Table, model, alg)
    out, numbers, u0, p, mass, ts, abstols, reltols, tstops = ntuple(i -> at(all, Float64, i), 9)
    t0, t1, reltol, abstol, checkpoints, dt, dtmax, maxiters = view(numbers, 5:12)
    return keep(solve!(columns(out, length(u0)), view(numbers, 1:4), model, alg, u0, p, mass, t0, t1, ts,
        isempty(reltols) ? reltol : reltols, isempty(abstols) ? abstol : abstols, Int(checkpoints),
        steps(dt, dtmax, maxiters, tstops)))
end

"""The options of a solve that restrict its steps; NaN stands for none."""
function steps(dt, dtmax, maxiters, tstops)
    isnan(dt) && isnan(dtmax) && isnan(maxiters) && isempty(tstops) && return ()
    given = ("dt" => dt, "dtmax" => dtmax, "maxiters" => isnan(maxiters) ? maxiters : Int(maxiters))
    options = Pair{String, Any}[option for option in given if !isnan(last(option))]
    isempty(tstops) || push!(options, "tstops" => copy(tstops))
    return options
end

"""Options as keywords."""
named(options) = (; (Symbol(name) => value for (name, value) in options)...)

"""
    adjoint_at!(table, run, sensealg, alg)

`adjoint!` with the arrays du0 and dp as one, numbers, ts and cotangents in a table. The numbers are four places for the
counts, then reltol and abstol.
"""
function adjoint_at!(all::Table, run, sensealg, alg)
    gradient, numbers, ts, cotangents = ntuple(i -> at(all, Float64, i), 4)
    n = length(run.sol.prob.u0)
    adjoint!(view(gradient, 1:n), view(gradient, (n + 1):length(gradient)), view(numbers, 1:4), run, sensealg, alg, ts,
        columns(cotangents, n), numbers[5], numbers[6])
    return 1
end

"""
    solve_many_at!(table, N, n, m, model, alg, t0, t1, reltol, checkpoints, options, keep)

`solve_many!` with the arrays out, counts, u0, p, mass, ts, abstol and stopped in a table. `stopped` (N,) gets the time
where a trajectory failed, and NaN where it did not.
"""
function solve_many_at!(table::Int, N, n, m, model, alg, t0, t1, reltol, checkpoints, options, keep)
    all, F = Table(table), Float64
    ts, stopped = at(all, F, 6), at(all, F, 8)
    runs = solve_many!(reshape(at(all, F, 1), n, length(ts), N), columns(at(all, Int, 2), 4), model, alg,
        columns(at(all, F, 3), n), columns(at(all, F, 4), m, 1), at(all, F, 5), t0, t1, ts, reltol, at(all, F, 7),
        checkpoints, options, keep)
    map!(run -> run isa Failure ? run.t : NaN, stopped, runs)
    return runs
end

"""
    adjoint_many_at!(table, N, n, m, runs, sensealg, alg, reltol, abstol)

`adjoint_many!` with the arrays du0, dp, counts, ts and cotangents in a table.
"""
function adjoint_many_at!(table::Int, N, n, m, runs, sensealg, alg, reltol, abstol)
    all, F = Table(table), Float64
    ts = at(all, F, 4)
    return adjoint_many!(columns(at(all, F, 1), n), reshape(at(all, F, 2), m, N), columns(at(all, Int, 3), 4), runs,
        sensealg, alg, ts, reshape(at(all, F, 5), n, length(ts), N), reltol, abstol)
end

"""
    adjoint_anew_at!(table, N, n, m, runs, model, alg, t0, t1, reltol, checkpoints, options, sensealg, backward, tolerances...)

`adjoint_anew!` with the arrays du0, dp, counts, u0, p, mass, ts, abstol and cotangents in a table.
"""
function adjoint_anew_at!(table::Int, N, n, m, runs, model, alg, t0, t1, reltol, checkpoints, options, sensealg, backward, tolerances...)
    all, F = Table(table), Float64
    ts = at(all, F, 7)
    solved = model, alg, columns(at(all, F, 4), n), columns(at(all, F, 5), m, 1), at(all, F, 6), t0, t1, ts, reltol,
        at(all, F, 8), checkpoints, options
    return adjoint_anew!(columns(at(all, F, 1), n), reshape(at(all, F, 2), m, N), columns(at(all, Int, 3), 4), runs, solved,
        (sensealg, backward, ts, reshape(at(all, F, 9), n, length(ts), N), tolerances...))
end

"""
    adjoint_again_at!(table, N, n, m, runs, model, alg, t0, t1, reltol, options)

`adjoint_again!` with the arrays du0, dp, counts, u0, p, ts, abstol and cotangents in a table.
"""
function adjoint_again_at!(table::Int, N, n, m, runs, model, alg, t0, t1, reltol, options)
    all, F = Table(table), Float64
    ts = at(all, F, 6)
    return adjoint_again!(columns(at(all, F, 1), n), reshape(at(all, F, 2), m, N), columns(at(all, Int, 3), 4), runs, model,
        alg, columns(at(all, F, 4), n), columns(at(all, F, 5), m, 1), t0, t1, ts, reshape(at(all, F, 8), n, length(ts), N),
        reltol, at(all, F, 7), options)
end

"""
    solve_delay_at!(table, n, k, alg, models...)

`solve_delay!` with the arrays out, numbers, u0, p, ts, abstols, reltols and the places of the three models' parameters,
from 0 on, in a table. The numbers are as of `solve_at!`. Returns the number of the `DelayRun`.
"""
function solve_delay_at!(all::Table, n, k, alg, models...)
    out, numbers, u0, p, ts, abstols, reltols = ntuple(i -> at(all, Float64, i), 7)
    places = ntuple(i -> at(all, Int, 7 + i) .+ 1, 3)
    t0, t1, reltol, abstol, _, dt, dtmax, maxiters = view(numbers, 5:12)
    return keep(solve_delay!(columns(out, n), view(numbers, 1:4), models, places, n, k, alg, copy(u0), copy(p), t0, t1,
        copy(ts), isempty(reltols) ? reltol : copy(reltols), isempty(abstols) ? abstol : copy(abstols),
        named(steps(dt, dtmax, maxiters, Float64[]))))
end

"""
    adjoint_delay_at!(table, run, stages, moving, jumpy)

`adjoint_delay!` with the arrays du0 and dp as one, dt0, ts and cotangents in a table.
"""
function adjoint_delay_at!(all::Table, run, stages, moving, jumpy)
    gradient, dt0, ts, cotangents = ntuple(i -> at(all, Float64, i), 4)
    n = run.d.n
    return adjoint_delay!(view(gradient, 1:n), view(gradient, (n + 1):length(gradient)), dt0, run, stages, moving, jumpy, ts,
        columns(cotangents, n))
end
