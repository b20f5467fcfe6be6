# Jump processes: their channels, as JumpProcesses takes them.

"""
The channels of a jump process: rates from a model, or by mass action (`reactants`, with the constants as parameters); what
each changes; and which depend on which. `home` is JumpProcesses: to look for it takes longer than a short path.
"""
struct Network
    home::Module
    n::Int
    model::Union{Nothing, Model{Float64}}
    reactants::Vector{Vector{Pair{Int, Int}}}
    changes::Vector{Vector{Pair{Int, Float64}}}
    dep_graph::Vector{Vector{Int}}
    vartojumps_map::Vector{Vector{Int}}
    jumptovars_map::Vector{Vector{Int}}
end
channels(net::Network) = length(net.changes)

"""Of tables with a row for each state and a column for each channel; `depends` says which rates depend on a state."""
function Network(model, reactants, changes, depends)
    n, R = size(changes)
    places(x, T) = [Pair{Int, T}[i => x[i, j] for i in 1:size(x, 1) if x[i, j] != 0] for j in 1:size(x, 2)]
    changed = [findall(!iszero, view(changes, :, j)) for j in 1:R]
    on = [findall(!iszero, view(depends, i, :)) for i in 1:n]
    # With each channel itself, so that JumpProcesses has nothing to add to what threads share.
    others = [sort!(unique!(reduce(vcat, on[changed[j]]; init = [j]))) for j in 1:R]
    return Network(package("JumpProcesses"), n, model, places(reactants, Int), places(changes, Float64), others, on, changed)
end

"""All rates of a path, computed at once for a state and time and kept until another is asked for."""
mutable struct Rates{F}
    const f::F
    const n::Int
    const count::Int
    const state::Vector{Float64}
    const values::Vector{Float64}
    t::Float64
end
function Rates(net::Network, p)
    f = part(net.model, :f, p)
    return Rates(f, net.n, channels(net), zeros(net.model.n), zeros(net.model.n), NaN)
end

function rates!(r::Rates, u, t)
    t == r.t && all(i -> @inbounds(u[i] == r.state[i]), 1:r.n) && return r.values
    copyto!(r.state, 1, u, 1, r.n)
    r.f(r.values, r.state, nothing, t)
    check_rates(r.values, r.count, t)
    r.t = t
    return r.values
end

function check_rates(values, count, t)
    for j in 1:count
        @inbounds x = values[j]
        isfinite(x) || throw(Stopped("NoNumber", t, "forward"))
        x >= 0 || throw(Stopped("NegativeRate", t, "forward"))
    end
    return nothing
end

"""The rate of one channel. Rates of exact solves do not depend on time, so all are those at the start."""
struct Rate{R}
    all::R
    j::Int
    t::Float64
end
(r::Rate)(u, p, t) = @inbounds rates!(r.all, u, r.t)[r.j]

"""What a channel does when it fires."""
struct Change
    places::Vector{Pair{Int, Float64}}
end
function (c::Change)(integrator)
    for (i, x) in c.places
        @inbounds integrator.u[i] += x
    end
    return nothing
end

"""The channels of a path as a `JumpSet` of JumpProcesses, and what counts evaluations of the rates, if anything does."""
function jump_set(net::Network, p, t0)
    home = net.home
    net.model === nothing && return home.JumpSet(; massaction_jumps = mass_action(net, p)), Ref(0)
    all = Rates(net, p)
    jumps = [home.ConstantRateJump(Rate(all, j, Float64(t0)), Change(net.changes[j])) for j in 1:channels(net)]
    return home.JumpSet(; constant_jumps = jumps), all.f.f.calls
end

function mass_action(net::Network, p)
    isempty(p) || check_rates(p, length(p), NaN)
    return net.home.MassActionJump(copy(p), net.reactants, net.changes)
end
