# Paths of jump processes by leaps over many events.

"""Rates and changes of a leap, as a `RegularJump` calls them."""
struct Leaps{R}
    network::Network
    rates::R  # `Rates`, or the `MassActionJump` whose they are
end

function (leaps::Leaps{<:Rates})(out, u, p, t)
    # The solver asks once for the rates where all states are one, by u ./ u.
    at = any(isnan, u) ? map(x -> isnan(x) ? one(x) : x, u) : u
    copyto!(out, 1, rates!(leaps.rates, at, t), 1, length(out))
    return nothing
end
function (leaps::Leaps)(out, u, p, t)
    poll(t)
    for j in eachindex(out)
        out[j] = ways(u, leaps.network.reactants[j]) * leaps.rates.scaled_rates[j]
    end
    return nothing
end

"""u (u - 1) ... of the reactants, in how many ways they meet but for r!, which is in the scaled constants."""
function ways(u, reactants)
    product = one(eltype(u))
    for (i, r) in reactants, k in 0:(r - 1)
        product *= max(u[i] - k, zero(u[i]))
    end
    return product
end

"""du of so many events of each channel."""
function (leaps::Leaps)(du, u, p, t, counts, mark)
    fill!(du, 0)
    for (j, places) in enumerate(leaps.network.changes), (i, x) in places
        du[i] += x * counts[j]
    end
    return nothing
end

"""Looks at each step of a leaping solve: counts by mass action are none below zero."""
mutable struct Look
    const counts_only::Bool
    const most::Int
    steps::Int
end
(look::Look)(integrator) = nothing
function (look::Look)(u, t, integrator)
    poll(Float64(t))
    look.steps += 1
    look.steps > look.most && throw(Stopped("MaxIters", t, "forward"))
    look.counts_only && any(<(0), u) && throw(Stopped("NegativeCount", t, "forward"))
    return false
end
callback(look::Look) = DiscreteCallback(look, look; save_positions = (false, false))

"""
    leaping_path!(out, counts, network, alg, u0, p, t0, t1, ts, seed, maxiters, options)

One path by leaps, on steps that end at `ts`. Arguments as of `exact_path!`.
"""
function leaping_path!(out, counts, net::Network, alg, u0, p, t0, t1, ts, seed, maxiters, options)
    home = net.home
    massive = net.model === nothing ? mass_action(net, p) : nothing
    leaps = Leaps(net, massive === nothing ? Rates(net, p) : massive)
    regular = home.RegularJump{true}(leaps, leaps, channels(net))
    problem = SciMLBase.DiscreteProblem(u0, (t0, t1), Float64[])
    make(jumps; more...) = home.JumpProblem(problem, home.PureLeaping(), jumps; more...)
    if nameof(typeof(alg)) === :SimpleExplicitTauLeaping
        # Its own reactants are for the length of leaps alone; a source has none of them, but it wants to see a pair.
        orders = [isempty(r) ? [1 => 0] : r for r in net.reactants]
        known = home.MassActionJump(copy(massive.scaled_rates), orders, net.changes; scale_rates = false)
        jump_problem = make(home.JumpSet(; massaction_jumps = known, regular_jumps = regular);
            rng = home.Random.Xoshiro(seed))
        sol = SciMLBase.solve(jump_problem, alg; saveat = ts)
        # Without a time between the ends it saves every leap.
        states = [sol.u[searchsortedlast(sol.t, t + 1e-12 * (t1 - t0))] for t in ts]
        look = Look(true, maxiters, 0)
    else
        look = Look(massive !== nothing, maxiters, 0)
        sol = SciMLBase.solve(make(home.JumpSet(; regular_jumps = regular)), alg; saveat = ts, save_everystep = false,
            tstops = filter(t -> t0 < t < t1, ts), save_start = ts[1] == t0, save_end = ts[end] == t1, seed,
            callback = callback(look), maxiters = typemax(Int), verbose = Silent(), options...)
        states = sol.u
        successful_retcode(sol) || throw(Stopped(string(sol.retcode), sol.t[end], "forward"))
    end
    write_states!(out, states)
    copyto!(counts, (0, 0, look.steps, 0))
    return nothing
end
