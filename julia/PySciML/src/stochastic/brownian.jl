# Brownian motion that remembers where it was looked at: what is asked for later is drawn given all that is known, between
# two times as a Brownian bridge. So a solver may take a step back and look again, and the path stays one of Brownian
# motion; what DiffEqNoiseProcess itself draws after a step taken back had another law until version 5.36.
#
# Reference: Li, Wong, Chen and Duvenaud, "Scalable gradients for stochastic differential equations", AISTATS 2020.

using Random: Xoshiro, randn!

"""Brownian motions (in `W` those at each of the times `t`, which increase), zero at the first; `z` is for what is drawn."""
mutable struct Brownian{T}
    const random::Xoshiro
    const t::Vector{T}
    const W::Vector{Vector{T}}
    const z::Vector{T}
end
Brownian{T}(seed, t0, motions) where {T} = Brownian{T}(Xoshiro(seed), T[t0], [zeros(T, motions)], zeros(T, motions))

Base.getindex(b::Brownian, i::Int) = b.W[i]  # of the first one SciML takes how many there are

# Times that a solver adds up differ by rounding from those that it stops at.
same_time(s, t, span) = abs(s - t) <= 4096 * eps(max(abs(s), abs(t), span))

function (b::Brownian)(out, u, p, t)
    ts, span = b.t, b.t[end] - b.t[1]
    i = searchsortedlast(ts, t)
    for j in (i, i + 1)
        checkbounds(Bool, ts, j) && same_time(ts[j], t, span) && return copyto!(out, b.W[j])
    end
    copyto!(out, between!(b, i, t))
    insert!(ts, i + 1, t)
    insert!(b.W, i + 1, copy(out))
    return out
end

"""Draws the motions at t, which lies after the i-th time."""
function between!(b::Brownian, i, t)
    randn!(b.random, b.z)
    h = t - b.t[i]
    i == length(b.t) && return b.z .= b.W[i] .+ sqrt(h) .* b.z
    whole = b.t[i + 1] - b.t[i]
    share = h / whole
    return b.z .= (1 - share) .* b.W[i] .+ share .* b.W[i + 1] .+ sqrt(h * (1 - share)) .* b.z
end

"""The noise of a path as SciML's solvers take it, by what makes one of functions; Z is another one, where it is asked for."""
function remembered(make, ::Type{T}, seed, t0, motions, second) where {T}
    W = Brownian{T}(seed, t0, motions)
    second || return make{true}(T(t0), W; noise_prototype = zeros(T, motions))
    return make{true}(T(t0), W, Brownian{T}(hash(seed), t0, motions); noise_prototype = zeros(T, motions))
end
