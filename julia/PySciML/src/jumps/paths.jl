# Many paths of a jump process at once, on Julia's threads.

"""
    solve_jumps!(out, counts, network, alg, u0, p, t0, t1, ts, seeds, dt, maxiters, keep)

A path for every seed, with the columns of `u0` (n, N) and `p` (m, N), which may have a single one for all. Returns a
vector with a `Log` for each that came to its end (nothing of leaps), and a `Failure` for each that did not.
"""
function solve_jumps!(out, counts, net::Network, alg, u0, p, t0, t1, ts, seeds, dt, maxiters, keep)
    paths = Vector{Any}(nothing, length(seeds))
    exact = alg isa net.home.AbstractAggregatorAlgorithm
    each(length(paths)) do i
        states, work = view(out, :, :, i), view(counts, :, i)
        start, parameters = column(u0, i), column(p, i)
        try
            paths[i] = exact ?
                exact_path!(states, work, net, alg, start, parameters, t0, t1, ts, seeds[i], maxiters, keep) :
                leaping_path!(states, work, net, alg, start, parameters, t0, t1, ts, seeds[i], maxiters, dt)
        catch e
            e isa Stopped || rethrow()
            fill!(states, NaN)
            paths[i] = Failure(e.retcode, isnan(e.t) ? t0 : e.t)
        end
    end
    return paths
end

"""
    solve_jumps_at!(table, N, n, m, R, model, alg, t0, t1, dt, maxiters, keep)

`solve_jumps!` with the arrays out, counts, u0, p, ts, seeds, changes, depends, reactants (or nothing) and stopped in a
table. `stopped` (N,) gets the time where a path failed, and NaN where it did not.
"""
function solve_jumps_at!(table::Int, N, n, m, R, model, alg, t0, t1, dt, maxiters, keep)
    all, F = Table(table), Float64
    package("JumpProcesses")  # loaded here, not on the threads
    ts, changes = copy(at(all, F, 5)), reshape(at(all, F, 7), n, R)
    reactants = model === nothing ? reshape(at(all, Int, 9), n, R) : zeros(Int, 0, R)
    network = Network(model, reactants, changes, reshape(at(all, Int, 8), n, R))
    paths = Base.invokelatest(solve_jumps!, reshape(at(all, F, 1), n, length(ts), N), columns(at(all, Int, 2), 4), network,
        alg, columns(at(all, F, 3), n), columns(at(all, F, 4), m, 1), Float64(t0), Float64(t1), ts, at(all, UInt64, 6),
        Float64(dt), maxiters, keep)
    map!(path -> path isa Failure ? path.t : NaN, at(all, F, 10), paths)
    return paths
end

"""
    event_counts!(sizes, paths)

How many events each path has; `events!(t, channel, paths)` gives them, one path after the other, channels from 0 on.
"""
event_counts!(sizes, paths) = (copyto!(sizes, [path isa Log ? length(path.t) : 0 for path in paths]); nothing)
function events!(t, channel, paths)
    done = 0
    for log in paths
        log isa Log || continue
        k = length(log.t)
        t[(done + 1):(done + k)] .= log.t
        channel[(done + 1):(done + k)] .= log.channel .- 1
        done += k
    end
    return nothing
end
