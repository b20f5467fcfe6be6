# Breaking points: where a solution with delays is less smooth, since one of the times asked for passes the start, or a
# breaking point, or a time at which what is known of the past jumps. On each a step of the gradient's begins and ends.
# Solvers stop at those that constant lags make, and at others where they notice.
#
# Reference: Bellen and Zennaro, "Numerical Methods for Delay Differential Equations", Oxford (2003), 2.2.

"""A place where the solution's derivative of an order jumps."""
struct Break{T}
    t::T
    order::Int
end

"""The state before the start and from there on, `(v, p, t)`, and on which side of a time another is."""
struct Track{T}
    state::States{T}
    past::Past{T}
    t0::T
    sign::T
end

Track(run::DelayRun{S, T}) where {S, T} = Track{T}(States{T}(Interpolant(run.sol)), run.past, run.sol.prob.tspan[1],
    sign(run.sol.prob.tspan[2] - run.sol.prob.tspan[1]))

later(track::Track, a, b) = (a - b) * track.sign > 0
(track::Track)(v, p, t) = (later(track, track.t0, t) ? track.past(v, p, t) : track.state(v, t); nothing)

"""A time up to the start at which the state jumps, with the state on either side."""
struct Jump{T}
    t::T
    before::Vector{T}
    after::Vector{T}
end

"""The jump to u0 at the start; or none, where the past leads up to it."""
function jumps_at_start(past::Past{T}, u0, t0, t1) where {T}
    near, far = (past(nothing, t0 - share * sign(t1 - t0) * least(t0, t1)) for share in (1, 4))
    jumps = any(zip(u0, near, far)) do (u, v, w)
        # What is continuous changes with the distance.
        abs(u - v) > 64 * eps(max(abs(u), abs(v))) && abs(u - w) < 2 * abs(u - v)
    end
    return jumps ? [Jump{T}(t0, near, copy(u0))] : Jump{T}[]
end

"""In how many pieces of the past a jump is looked for, each: a pulse that is shorter is not seen."""
const PIECES = 256

"""The jumps of the past before the start, as far back as is asked for at any of `steps`."""
function jumps_before(track::Track{T}, d::Delayed{T}, steps) where {T}
    first = track.t0
    for t in steps, time in view(asked(track, d, t), 1:(d.k))
        later(track, first, time) && (first = time)
    end
    first == track.t0 && return Jump{T}[]
    ts = range(first, track.t0 - track.sign * least(track.t0, steps[end]); length = PIECES + 1)
    us = [track.past(nothing, t) for t in ts]
    smallest = 64 * eps(maximum(u -> maximum(abs, u), us))
    found = (jump_between(track.past, ts[i], ts[i + 1], us[i], us[i + 1], smallest) for i in 1:PIECES)
    return Jump{T}[jump for jump in found if jump !== nothing]
end

"""Halves a piece of the past, keeping the half with the larger change, until that is a jump or seen to be none."""
function jump_between(past::Past{T}, a, b, u, v, smallest) where {T}
    change(x, y) = maximum(i -> abs(x[i] - y[i]), eachindex(x))
    whole, halvings = change(u, v), 0
    while change(u, v) > smallest
        t = (a + b) / 2
        (t == a || t == b) && return Jump{T}(b, u, v)
        w = past(nothing, t)
        change(u, w) > change(w, v) ? ((b, v) = (t, w)) : ((a, u) = (t, w))
        (halvings += 1) == 8 && change(u, v) < whole / 100 && break
    end
    return nothing
end

"""The times asked for at a time."""
function asked(track::Track, d::Delayed, t)
    track.state(d.v, t)
    return ask!(d, d.v, t)
end

"""What the search for breaking points has found, and the times that were asked for where it looked."""
struct Search{T}
    track::Track{T}
    d::Delayed{T}
    found::Vector{Break{T}}
    mesh::Vector{T}
    looks::Vector{T}
    times::Matrix{T}
    highest::Int
    least::T
end

"""
The shortest step that a mesh shall have: solvers come up to a jump in steps down to rounding, which tell nothing. And how
far from a time is on one side of it for sure.
"""
least(t0, t1) = 1e-12 * abs(t1 - t0) + 64 * eps(max(abs(t0), abs(t1)))
beside(h, least) = sign(h) * max(INSIDE * abs(h), min(abs(h) / 4, least / 8))

"""
    sweep_mesh(track, d, steps, jumps, highest)

The times of the steps, with the breaking points up to an order among them.
"""
function sweep_mesh(track::Track{T}, d::Delayed{T}, steps, jumps, highest) where {T}
    breaks = [Break{T}(t, 0) for t in unique([track.t0; [jump.t for jump in jumps]])]
    s = Search{T}(track, d, breaks, [track.t0], zeros(T, 4), zeros(T, d.k, 4), highest,
        least(track.t0, steps[end]))
    s.looks[4] = track.t0
    copyto!(view(s.times, :, 4), view(asked(track, d, track.t0), 1:(d.k)))
    foreach(t -> abs(t - s.mesh[end]) > s.least && search!(s, s.mesh[end], t), steps)
    s.mesh[end] = steps[end]
    return s.mesh
end

"""Looks for breaking points in a step, and adds them and its end to the mesh."""
function search!(s::Search, a, b)
    h = b - a
    s.looks[1], s.times[:, 1] = s.looks[4], s.times[:, 4]  # the last look of the step before
    for (i, t) in enumerate((a + beside(h, s.least), a + h / 2, b - beside(h, s.least)))
        s.looks[i + 1] = t
        s.times[:, i + 1] .= view(asked(s.track, s.d, s.looks[i + 1]), 1:(s.d.k))
    end
    inside, i = typeof(a)[], 0
    while (i += 1) <= length(s.found)
        s.found[i].order < s.highest && foreach(l -> cross!(inside, s, a, l, s.found[i]), 1:(s.d.k))
    end
    sort!(inside; rev = s.track.sign < 0)
    for t in inside
        apart(t, s.mesh[end], h) && apart(t, b, h) && push!(s.mesh, t)
    end
    push!(s.mesh, b)
    return nothing
end

apart(s, t, h) = abs(s - t) > 1e-9 * abs(h) + 16 * eps(max(abs(s), abs(t)))

"""Notes where the l-th time passes a breaking point in the step from a on, or at a itself."""
function cross!(inside, s::Search, a, l, broken::Break)
    for i in 1:3
        x, y = s.times[l, i] - broken.t, s.times[l, i + 1] - broken.t
        x * y < 0 || continue
        t = i == 1 ? a : root(t -> asked(s.track, s.d, t)[l] - broken.t, s.looks[i], s.looks[i + 1], x)
        later(s.track, t, broken.t) || continue
        h = s.looks[4] - a
        any(other -> !apart(t, other.t, h) && other.order <= broken.order + 1, s.found) && continue
        push!(s.found, Break(t, broken.order + 1))
        i == 1 || push!(inside, t)
    end
    return nothing
end

"""A root of f between a and b by bisection, where f(a) is x."""
function root(f, a, b, x)
    while true
        t = (a + b) / 2
        (t == a || t == b) && return t
        f(t) * x > 0 ? (a = t) : (b = t)
    end
end
