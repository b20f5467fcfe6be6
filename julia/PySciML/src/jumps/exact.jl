# Paths of jump processes, every event of them drawn by JumpProcesses.

"""
Follows a path from event to event: counts them, looks in on Python, and, with `keep`, writes down when each was and of
which channel.
"""
mutable struct Log
    const keep::Bool
    const most::Int
    const stop::Float64
    const t::Vector{Float64}
    const channel::Vector{Int}
    count::Int
end
Log(keep, most, stop) = Log(keep, most, stop, Float64[], Int[], 0)

(log::Log)(integrator) = nothing
function (log::Log)(u, t, integrator)
    t < log.stop || return false  # it is called at the end once more, where there is no event
    log.count += 1
    log.count % 64 == 0 && poll(t)
    log.count > log.most && throw(Stopped("MaxIters", t, "forward"))
    log.keep || return false
    push!(log.t, t)
    push!(log.channel, integrator.cb.condition.prev_jump)
    return false
end
callback(log::Log) = DiscreteCallback(log, log; save_positions = (false, false))

"""
    exact_path!(out, counts, network, aggregator, u0, p, t0, t1, ts, seed, maxiters, keep)

One path of the process itself. Writes the states at `ts` to the columns of `out` (n, k) and returns its `Log`. Throws
`Stopped` where it did not come to its end.
"""
function exact_path!(out, counts, net::Network, aggregator, u0, p, t0, t1, ts, seed, maxiters, keep)
    home = net.home
    jumps, calls = jump_set(net, p, t0)
    problem = SciMLBase.DiscreteProblem(u0, (t0, t1), Float64[])
    jump_problem = home.JumpProblem(problem, aggregator, jumps; rng = home.Random.Xoshiro(seed),
        save_positions = (false, false), net.dep_graph, net.vartojumps_map, net.jumptovars_map)
    log = Log(keep, maxiters, t1)
    sol = SciMLBase.solve(jump_problem, home.SSAStepper(); saveat = ts, save_start = ts[1] == t0, save_end = ts[end] == t1,
        callback = callback(log), alias_jump = true)
    write_states!(out, sol.u)
    copyto!(counts, (calls[], 0, log.count, 0))
    return log
end

function write_states!(out, states)
    length(states) == size(out, 2) || error("there are $(length(states)) states for $(size(out, 2)) times")
    for (k, u) in enumerate(states)
        copyto!(view(out, :, k), u)
    end
    return nothing
end
