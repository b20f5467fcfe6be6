# Many trajectories of one model at once, on Julia's threads. Each has steps, scratch memory and an end of its own, so
# the numbers are those that it has when it is solved alone.

"""What a trajectory that did not reach its end left behind; its states are NaN."""
struct Failure
    retcode::String
    t::Float64
end

"""
    together(work, n)

`work(take)` on all of Julia's threads, of which `take()` gives one number of 1:n after another, and 0 when there are no more.
This thread works too: it alone may hold Python's lock, and looks in on Python for the others. What it or another throws
stops all of them.
"""
function together(work, n)
    next, stopped = Threads.Atomic{Int}(1), STOPPED
    stopped[] = false
    take() = stopped[] ? 0 : (i = Threads.atomic_add!(next, 1)) <= n ? i : 0
    function guarded_work()
        try
            work(take)
        catch
            stopped[] = true
            rethrow()
        end
    end
    others = [Threads.@spawn guarded_work() for _ in 2:min(Threads.nthreads(), n)]
    try
        guarded_work()
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

"""
    each(f, n)

`f(i)` for i in 1:n on all threads, each taking the next when it is done with one.
"""
each(f, n) = together(n) do take
    while (i = take()) != 0
        f(i)
    end
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
    if !keep && can_start_again(model, alg, mass, options)
        return solve_again!(out, counts, model, alg, u0, p, t0, t1, ts, reltol, abstol, options)
    end
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
    any(run -> needs_sciml(run, sensealg, alg), runs) && load_adjoints()  # here, not on the threads
    gradients!(du0, dp, cotangents, runs) do i, here, g
        adjoint!(here..., view(counts, :, i), runs[i], sensealg, alg, ts, g, reltol, abstol)
    end
    return nothing
end

"""`f(i, (du0, dp), cotangents)` for every trajectory that reached its end, with its own of these."""
gradients!(f, du0, dp, cotangents, runs) = each(length(runs)) do i
    here, g = (view(du0, :, i), view(dp, :, i)), view(cotangents, :, :, i)
    runs[i] isa Failure ? without_end!(here..., g) : f(i, here, g)
end

"""The gradient of one that failed: NaN, or zero where nothing was asked of it."""
without_end!(du0, dp, cotangents) = foreach(x -> fill!(x, all(iszero, cotangents) ? 0 : NaN), (du0, dp))

needs_sciml(::Failure, sensealg, alg) = false
needs_sciml(run, sensealg, alg) = sensealg isa String && sensealg != "ForwardSensitivity" && !takes_gauss(run, sensealg, alg)

"""
    adjoint_anew!(du0, dp, counts, runs, solved, backward)

`adjoint_many!` of trajectories of which nothing was kept: each is solved once more. Thousands of kept solutions fill the
memory, and take Julia's collector longer than the solves. `solved` are the arguments of `solve_many!` from the model on, but
for `keep`; `backward` those of `adjoint_many!` after the runs. `runs` tells which have failed.
"""
function adjoint_anew!(du0, dp, counts, runs, solved, backward)
    model, alg, u0, p, mass, t0, t1, ts, reltol, abstol, checkpoints, options = solved
    sensealg, backward_alg, times, cotangents, tolerances... = backward
    run_of(i) = solve!(zeros(size(du0, 1), length(ts)), zeros(Int, 4), model, alg, column(u0, i), column(p, i), mass, t0, t1, ts,
        reltol, abstol, checkpoints, options)
    one = findfirst(run -> !(run isa Failure), runs)
    one === nothing || needs_sciml(run_of(one), sensealg, backward_alg) && load_adjoints()
    gradients!(du0, dp, cotangents, runs) do i, here, g
        adjoint!(here..., view(counts, :, i), run_of(i), sensealg, backward_alg, times, g, tolerances...)
    end
    return nothing
end

# One after another by the same integrator, whose memory is there already: to make one takes longer than a short solve.

"""Whether an algorithm's integrator can start again as if it were new, for an ordinary model and a first step of its own."""
can_start_again(model, alg, mass, options) = model isa Model && isempty(mass) && !has_parts(model) &&
    all(!=("dt") ∘ first, options) && reads_back(alg)

"""What follows an integrator: the states at `ts` go to `out`, and its steps to a tape, if it is `recording`."""
mutable struct Follower{T}
    ts::Vector{T}
    out::Matrix{T}
    next::Int
    recording::Bool
    state::Vector{T}
    tape::Tape{T}
end

(follower::Follower)(integrator) = nothing
function (follower::Follower)(u, t, integrator)
    ts = follower.ts
    while follower.next <= length(ts) && (t - ts[follower.next]) * integrator.tdir >= 0
        interpolate!(follower.state, ts[follower.next], integrator)
        save!(follower, follower.state)
    end
    follower.recording && record!(follower.tape, integrator)
    return false
end

# As a solution that is kept does it, to the last digit; an integrator's own way rounds differently.
function interpolate!(out, at, integrator)
    dt = integrator.t - integrator.tprev
    return interpolate!(out, (at - integrator.tprev) / dt, dt, integrator.uprev, integrator.u, integrator.k, integrator)
end

"""At the share Θ of a step by dt from u to `new` with these slopes, by the method of an integrator."""
function interpolate!(out, Θ, dt, u, new, k, integrator)
    OrdinaryDiffEqTsit5.OrdinaryDiffEqCore.ode_interpolant!(out, Θ, dt, u, new, k, integrator.cache, nothing, Val{0},
        integrator.differential_vars)
    return nothing
end

"""An integrator of a model, and who follows it."""
struct Again{T, I}
    integrator::I
    follower::Follower{T}
    counts::Vector{Int}
end

function Again(model::Model{T}, alg, u0, p, t0, t1, ts, reltol, abstol, options, recording) where {T}
    n = model.n
    follower = Follower{T}(Vector{T}(ts), zeros(T, n, length(ts)), 1, recording, zeros(T, n), Tape{T}(n))
    prob = ODEProblem(ode_function(model, T[]), Vector{T}(u0), (T(t0), T(t1)), Vector{T}(p))
    integrator = SciMLBase.init(prob, alg; reltol = tolerance(T, reltol), abstol = tolerance(T, abstol), verbose = Silent(),
        maxiters = 100_000, save_everystep = false, save_start = false, save_end = false, dense = false,
        callback = DiscreteCallback(follower, follower; save_positions = (false, false)),
        (; (Symbol(k) => v for (k, v) in options)...)...)
    return Again(integrator, follower, zeros(Int, 4))
end

"""Solves from another state, with other parameters; `again.follower.out` has the states asked for. Throws `Stopped`."""
function start!(again::Again, u0, p)
    integrator, follower = again.integrator, again.follower
    t0, t1 = integrator.sol.prob.tspan
    copyto!(follower.state, u0)
    copyto!(integrator.p, p)
    follower.next = 1
    fill!(follower.out, NaN)
    while follower.next <= length(follower.ts) && follower.ts[follower.next] == t0
        save!(follower, u0)
    end
    follower.recording && rewind!(follower.tape, t0, follower.state)
    before = work_of(integrator)
    SciMLBase.reinit!(integrator, follower.state)
    SciMLBase.solve!(integrator)
    again.counts .= work_of(integrator) .- before
    return check_end(integrator.sol.retcode, Float64(integrator.t), (t0, t1), "forward")
end

work_of(integrator) = (s = integrator.stats; (s.nf, s.njacs, s.naccept, s.nreject))

# A trajectory's own column, as it is in memory.
its_own(x, i) = view(x, :, size(x, 2) == 1 ? 1 : i)

function solve_again!(out, counts, model, alg, u0, p, t0, t1, ts, reltol, abstol, options)
    runs = Vector{Any}(nothing, size(out, 3))
    side_by_side, ways = goes_abreast(model, are_shared(p), options), ways_of(length(runs))
    side_by_side && abreast(model.f, are_shared(p))  # compiled here, not on the threads
    together(length(runs)) do take
        again = Again(model, alg, column(u0, 1), column(p, 1), t0, t1, ts, reltol, abstol, options, false)
        side_by_side && return solve!(SideBySide(again, model, p, abstol, reltol), out, counts, runs, u0, p, take, ways)
        while (i = take()) != 0
            solve_alone!(again, out, counts, runs, u0, p, i)
        end
    end
    return runs
end

function solve_alone!(again::Again, out, counts, runs, u0, p, i)
    states = view(out, :, :, i)
    try
        start!(again, its_own(u0, i), its_own(p, i))
        copyto!(states, again.follower.out)
        copyto!(view(counts, :, i), again.counts)
    catch e
        e isa Stopped || rethrow()
        fill!(states, NaN)
        runs[i] = Failure(e.retcode, e.t)
    end
    return nothing
end

"""
    adjoint_again!(du0, dp, counts, runs, model, alg, u0, p, t0, t1, ts, cotangents, reltol, abstol, options)

The gradients of all trajectories by `BySteps`, as `adjoint_many!` gives them. Each is solved once more, and its steps are
read backwards at once: to keep the steps of all would fill the memory. `runs` tells which have failed.
"""
function adjoint_again!(du0, dp, counts, runs, model::Model{T}, alg, u0, p, t0, t1, ts, cotangents, reltol, abstol, options) where {T}
    side_by_side, ways = reads_abreast(model, are_shared(p), options), ways_of(length(runs))
    side_by_side && foreach(code -> abreast(code, are_shared(p)), (model.f, model.both))
    together(length(runs)) do take
        again = Again(model, alg, column(u0, 1), column(p, 1), t0, t1, ts, reltol, abstol, options, true)
        reader = Reader(model)
        function alone(i)
            start!(again, its_own(u0, i), its_own(p, i))
            read_all!(view(du0, :, i), view(dp, :, i), view(counts, :, i), reader, again.follower.tape, again.integrator.p,
                again.follower.ts, view(cotangents, :, :, i))
        end
        next() = next_of(runs, take, du0, dp, cotangents)
        side_by_side && return gradients!(SideBySide(again, model, p, abstol, reltol), ReaderAbreast(model, are_shared(p)), alone,
            du0, dp, counts, cotangents, u0, p, next, ways)
        while (i = next()) != 0
            alone(i)
        end
    end
    return nothing
end

"""The next trajectory that reached its end; those before it, which failed, have the gradient that `without_end!` gives."""
function next_of(runs, take, du0, dp, cotangents)
    while (i = take()) != 0 && runs[i] isa Failure
        without_end!(view(du0, :, i), view(dp, :, i), view(cotangents, :, :, i))
    end
    return i
end

"""
    retcode(runs, i)

How the i-th trajectory ended, where it failed.
"""
retcode(runs, i) = String(last(split(runs[i].retcode, '.')))
