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

`adjoint!`, or with "ForwardSensitivity" `sensitivities!`, with the arrays du0, dp, counts, ts and cotangents in a table.
"""
function adjoint_at!(table::Int, run, sensealg, alg, reltol, abstol)
    all, F = Table(table), Float64
    du0, dp, counts, ts = at(all, F, 1), at(all, F, 2), at(all, Int, 3), at(all, F, 4)
    cotangents = columns(at(all, F, 5), length(du0))
    sensealg == "ForwardSensitivity" && return sensitivities!(du0, dp, counts, run, alg, ts, cotangents, reltol, abstol)
    return adjoint!(du0, dp, counts, run, sensealg, alg, ts, cotangents, reltol, abstol)
end
