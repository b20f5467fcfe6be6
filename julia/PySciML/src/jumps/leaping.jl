# Paths of jump processes by leaps over many events.

"""Rates and changes of a leap, as a `RegularJump` calls them."""
mutable struct Leaps{R}
    const network::Network
    const rates::R  # `Rates`, or the `MassActionJump` whose they are
    const strict::Bool  # whether no leap may take a count of mass action below zero; else the solver draws again
    const most::Int
    count::Int
end

function (leaps::Leaps{<:Rates})(out, u, p, t)
    copyto!(out, 1, rates!(leaps.rates, u, t), 1, length(out))
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
    leaps.count += 1
    leaps.count > leaps.most && throw(Stopped("MaxIters", t, "forward"))
    fill!(du, 0)
    for (j, places) in enumerate(leaps.network.changes), (i, x) in places
        du[i] += x * counts[j]
    end
    leaps.strict && any(i -> u[i] + du[i] < 0, eachindex(u)) && throw(Stopped("NegativeCount", t, "forward"))
    return nothing
end

"""
    leaping_path!(out, counts, network, alg, u0, p, t0, t1, ts, seed, maxiters, dt)

One path by leaps that end at `ts`; of a fixed length they are no longer than `dt`. Arguments as of `exact_path!`.
"""
function leaping_path!(out, counts, net::Network, alg, u0, p, t0, t1, ts, seed, maxiters, dt)
    home, rng = net.home, net.home.Random.Xoshiro(seed)
    massive, fixed = net.model === nothing ? mass_action(net, p) : nothing, nameof(typeof(alg)) === :SimpleTauLeaping
    leaps = Leaps(net, massive === nothing ? Rates(net, p) : massive, fixed && massive !== nothing, maxiters, 0)
    regular = home.RegularJump{true}(leaps, leaps, channels(net))
    states = fixed ? fixed_leaps(home, alg, regular, u0, t0, ts, dt, rng) :
        chosen_leaps(home, alg, regular, net, massive, u0, t0, t1, ts, rng)
    write_states!(out, states)
    copyto!(counts, (leaps.count, 0, leaps.count, 0))
    return nothing
end

"""The states at `ts`, by equal leaps between each two, no longer than `dt`."""
function fixed_leaps(home, alg, regular, u, t, ts, dt, rng)
    states = Vector{Float64}[]
    for s in ts
        if s > t
            problem = SciMLBase.DiscreteProblem(u, (t, s), Float64[])
            jumps = home.JumpProblem(problem, home.PureLeaping(), home.JumpSet(; regular_jumps = regular); rng)
            u = SciMLBase.solve(jumps, alg; dt = whole_part(s - t, dt), saveat = [s]).u[end]
        end
        push!(states, u)
        t = s
    end
    return states
end

"""The longest step, up to `dt`, that a span is a whole number of: JumpProcesses wants their quotient to be exact."""
function whole_part(span, dt)
    count = max(ceil(span / dt * (1 - 1e-12)), 1.0)
    step = span / count
    while span / step != count
        step = span / step > count ? nextfloat(step) : prevfloat(step)
    end
    return step
end

function chosen_leaps(home, alg, regular, net, massive, u0, t0, t1, ts, rng)
    problem = SciMLBase.DiscreteProblem(u0, (t0, t1), Float64[])
    # Its own reactants are for the length of leaps alone; a source has none of them, but it wants to see a pair.
    orders = [isempty(r) ? [1 => 0] : r for r in net.reactants]
    known = home.MassActionJump(copy(massive.scaled_rates), orders, net.changes; scale_rates = false)
    jumps = home.JumpSet(; massaction_jumps = known, regular_jumps = regular)
    sol = SciMLBase.solve(home.JumpProblem(problem, home.PureLeaping(), jumps; rng), alg; saveat = ts)
    # Without a time between the ends it saves every leap.
    return [sol.u[searchsortedlast(sol.t, t + 1e-12 * (t1 - t0))] for t in ts]
end
