# Many trajectories of one model at once, on Julia's threads. Each has steps, scratch memory and an end of its own, so
# the numbers are those that it has when it is solved alone.

"""What a trajectory that did not reach its end left behind; its states are NaN."""
struct Failure
    retcode::String
    t::Float64
end

"""
    each(f, n)

`f(i)` for i in 1:n on all of Julia's threads, each taking the next when it is done with one. This thread works too: it
alone may hold Python's lock, and looks in on Python for the others. What it or another throws stops all of them.
"""
function each(f, n)
    next, stopped = Threads.Atomic{Int}(1), STOPPED
    stopped[] = false
    function work()
        try
            while !stopped[] && (i = Threads.atomic_add!(next, 1)) <= n
                f(i)
            end
        catch
            stopped[] = true
            rethrow()
        end
    end
    others = [Threads.@spawn work() for _ in 2:min(Threads.nthreads(), n)]
    try
        work()
        while !all(istaskdone, others)
            poll()
            yield()
        end
    catch
        stopped[] = true
        foreach(t -> try wait(t) catch; end, others)  # they end first: what they write to may be gone afterwards
        rethrow()
    end
    failed = findfirst(istaskfailed, others)
    failed === nothing || throw(others[failed].result)
    return nothing
end

# A trajectory's own column where there is one each, else the one of all.
column(x, i) = size(x, 2) == 1 ? x[:, 1] : x[:, i]

"""
    solve_many!(out, counts, model, alg, u0, p, mass, t0, t1, ts, reltol, abstol, checkpoints, options, keep)

`solve!` for every column of `u0` (n, N) or `p` (m, N), of which one may have a single column for all. Writes the states
to `out` (n, k, N) and the counts to `counts` (4, N).

Returns a vector with a `Run` for each trajectory that reached its end (`nothing` unless `keep`), and a `Failure` for
each that did not.
"""
function solve_many!(out, counts, model::AbstractModel, alg, u0, p, mass, t0, t1, ts, reltol, abstol, checkpoints,
        options, keep)
    runs = Vector{Any}(nothing, size(out, 3))
    each(length(runs)) do i
        states = view(out, :, :, i)
        try
            run = solve!(states, view(counts, :, i), model, alg, column(u0, i), column(p, i), mass, t0, t1, ts, reltol,
                abstol, checkpoints, options)
            keep && (runs[i] = run)
        catch e
            e isa Stopped || rethrow()
            fill!(states, NaN)
            runs[i] = Failure(e.retcode, e.t)
        end
    end
    return runs
end

"""
    adjoint_many!(du0, dp, counts, runs, sensealg, alg, ts, cotangents, reltol, abstol)

`adjoint!` for every trajectory: `du0` (n, N), `dp` (m, N), `cotangents` (n, k, N). What failed has
a gradient of NaN, or of zero where nothing was asked of it.
"""
function adjoint_many!(du0, dp, counts, runs, sensealg, alg, ts, cotangents, reltol, abstol)
    # Packages are loaded here, not on the threads.
    all(run -> run isa Failure || sensealg == "ForwardSensitivity" || takes_gauss(run, sensealg, alg), runs) ||
        load_adjoints()
    each(length(runs)) do i
        here = view(du0, :, i), view(dp, :, i)
        g = view(cotangents, :, :, i)
        if runs[i] isa Failure
            foreach(x -> fill!(x, all(iszero, g) ? 0 : NaN), here)
        else
            adjoint!(here..., view(counts, :, i), runs[i], sensealg, alg, ts, g, reltol, abstol)
        end
    end
    return nothing
end

"""
    retcode(runs, i)

How the i-th trajectory ended, where it failed.
"""
retcode(runs, i) = String(last(split(runs[i].retcode, '.')))
