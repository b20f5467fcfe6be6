# The calls of every solve and every gradient, for Python: arrays come as addresses. An array of numpy as PythonCall
# shows it costs microseconds to make and is slow to read; a dozen of them are a third of a small solve.

"""
    Table(address)

Reads a table of (address, length) pairs of 64-bit integers, one an array. What they show must stay where it is during
the call, and be contiguous.
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

"""
    solve_at!(table, model, alg, t0, t1, reltol, checkpoints, options)

`solve!` with the arrays out, counts, u0, p, mass, ts and abstol in a table.
"""
function solve_at!(table::Int, model, alg, t0, t1, reltol, checkpoints, options)
    all, F = Table(table), Float64
    out, counts, u0 = at(all, F, 1), at(all, Int, 2), at(all, F, 3)
    return solve!(columns(out, length(u0)), counts, model, alg, u0, at(all, F, 4), at(all, F, 5), t0, t1, at(all, F, 6),
        reltol, at(all, F, 7), checkpoints, options)
end

"""
    adjoint_at!(table, run, sensealg, alg, reltol, abstol)

`adjoint!` with the arrays du0, dp, counts, ts and cotangents in a table.
"""
function adjoint_at!(table::Int, run, sensealg, alg, reltol, abstol)
    all, F = Table(table), Float64
    du0, dp, counts, ts = at(all, F, 1), at(all, F, 2), at(all, Int, 3), at(all, F, 4)
    cotangents = columns(at(all, F, 5), length(du0))
    return adjoint!(du0, dp, counts, run, sensealg, alg, ts, cotangents, reltol, abstol)
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
