# Where a solution meets a condition. Every step is looked at a number of times by its dense output; a change of sign is
# followed by bisection to the last bit, which costs less than one step. What happens there is Python's affair: it goes on
# with a new solve, so that gradients are those of the solves between events.

"""
Conditions along a solve: `part` computes them from `z`, which begins with the state. `sides` are the signs they have kept
so far, 0 where none is known; `bands` how large one that was just met may be and still count as zero, until it has been
larger; `kinds` says which crossings count (1 to positive, -1 to negative, 0 both), and 2 is a condition that shall be
positive at the end of a step.
"""
mutable struct Watch{T}
    part::Part{T, :f}
    p::Vector{T}
    z::Vector{T}
    y::Vector{T}
    values::Vector{T}
    sides::Vector{Int}
    bands::Vector{T}
    kinds::Vector{Int}
    largest::Vector{T}
    roots::Vector{T}
    fired::Vector{Bool}
    points::Int
    time::T
end

function Watch(model::Model{T}, p, n, sides, bands, kinds, points) where {T}
    k = length(sides)
    part = Part{T, :f}(model, T[])  # grows to what the conditions need when they are first looked at
    return Watch{T}(part, Vector{T}(p), zeros(T, model.n), zeros(T, n), zeros(T, model.n), Vector{Int}(sides),
        Vector{T}(bands), Vector{Int}(kinds), zeros(T, k), zeros(T, k), fill(false, k), Int(points), T(NaN))
end

"""The conditions at a state."""
function look!(w::Watch, u, t)
    copyto!(w.z, u)
    run!(w.part, w.values, w.z, w.z, w.p, t)
    return w.values
end

"""The conditions at a time of the last step."""
function look_at!(w::Watch, integrator, t)
    integrator(w.y, t)
    return look!(w, w.y, t)
end

# As the condition of a callback: is the solve over?
function (w::Watch)(u, t, integrator)
    a, start = integrator.tprev, integrator.tprev
    for i in 1:w.points
        b = i == w.points ? t : start + (t - start) * i / w.points
        i == w.points ? look!(w, u, t) : look_at!(w, integrator, b)
        crossed!(w, integrator, a, b) && return true
        a = b
    end
    return positive!(w, look!(w, u, t), t)
end

(w::Watch)(integrator) = SciMLBase.terminate!(integrator)

"""Whether conditions that are to be positive at the end of a step are."""
function positive!(w::Watch, values, t)
    for k in eachindex(w.kinds)
        w.fired[k] = w.kinds[k] == 2 && values[k] > 0
    end
    any(w.fired) && (w.time = t)
    return any(w.fired)
end

"""Whether one of the conditions, whose values at b are there, crossed zero between a and b; the first to do so counts."""
function crossed!(w::Watch{T}, integrator, a, b) where {T}
    fill!(w.roots, T(NaN))
    found = false
    for k in eachindex(w.kinds)
        w.kinds[k] == 2 && continue
        value = w.values[k]
        w.largest[k] = max(w.largest[k], abs(value))
        0 < w.bands[k] >= abs(value) && continue
        w.bands[k] = 0
        side, now = w.sides[k], Int(sign(value))
        if side == 0 || now == side
            side == 0 && (w.sides[k] = now)
        elseif w.kinds[k] == -side || w.kinds[k] == 0
            w.roots[k] = T(k)  # to be found below, which overwrites the values
            found = true
        elseif now != 0
            w.sides[k] = now
        end
    end
    return found && settle!(w, integrator, a, b)
end

function settle!(w::Watch{T}, integrator, a, b) where {T}
    first = T(NaN)
    for k in eachindex(w.roots)
        isnan(w.roots[k]) && continue
        w.roots[k] = root(w, integrator, k, a, b)
        isnan(w.roots[k]) && (w.sides[k] = -w.sides[k])  # it left its side at once: this was no crossing
        (isnan(first) || abs(w.roots[k] - a) < abs(first - a)) && (first = w.roots[k])
    end
    isnan(first) && return false
    near = 1e-10 * abs(integrator.t - integrator.tprev) + 8 * eps(abs(first))
    w.fired .= abs.(w.roots .- first) .<= near
    w.time = first
    return true
end

"""The last time at which condition k is still on its side, NaN if it never was."""
function root(w::Watch{T}, integrator, k, a, b) where {T}
    side = w.sides[k]
    same(t) = sign(look_at!(w, integrator, t)[k]) == side
    start, share = a, (b - a) / 2
    for _ in 1:60  # right after an event the condition is zero up to rounding, and its side begins a little later
        same(a) && break
        a, share = start + share, share / 2
    end
    same(a) || return T(NaN)
    while true
        middle = a + (b - a) / 2
        (middle == a || middle == b) && return a
        same(middle) ? (a = middle) : (b = middle)
    end
end

"""
    first_event!(time, fired, largest, counts, keep, model, alg, u0, p, mass, t0, t1, reltol, abstol, options, conditions, q, sides, bands, kinds, points)

Solves until a condition is met, or to t1: writes the time, which conditions it was, and the largest size of each that was
seen. `conditions` is a model of its own with parameters `q`. With `keep`, returns the `Run` up to there, where the
algorithm has dense output; else nothing.
"""
function first_event!(time, fired, largest, counts, keep, model::AbstractModel, alg, u0, p, mass, t0, t1, reltol, abstol,
        options, conditions, q, sides, bands, kinds, points)
    T = number(model)
    prob = ODEProblem(ode_function(model, Vector{T}(mass)), Vector{T}(u0), (T(t0), T(t1)), Vector{T}(p))
    steps = (; (Symbol(k) => v for (k, v) in options)..., consistent(prob.f.mass_matrix)...)
    w = Watch(conditions, q, length(u0), sides, bands, kinds, points)
    dense = keep && has_dense_output(alg)
    sol = solved(stated(prob, alg), alg, tolerance(T, reltol), tolerance(T, abstol), steps; dense, save_everystep = dense,
        callback = DiscreteCallback(w, w; save_positions = (false, false)))
    any(w.fired) || check_end(sol, "forward")
    time[1] = any(w.fired) ? w.time : t1
    copyto!(fired, w.fired)
    copyto!(largest, w.largest)
    copyto!(counts, count_work(sol))
    return dense ? Run(sol, alg, steps, tolerance(T, reltol), tolerance(T, abstol), sol.t) : nothing
end
