# Many trajectories by Tsit5, `LANES` of them side by side: one instruction computes a stage of all of them, while each has
# step sizes and an end of its own. The steps are OrdinaryDiffEq's: it starts each trajectory, what is accepted and how long
# the next step is goes by its rules, and a trajectory that is not plain sailing is left to it from its start.
#
# References: Tsitouras, "Runge-Kutta pairs of order 5(4) satisfying only the first column simplifying assumption", Comput.
# Math. Appl. 62 (2011); Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, 2nd ed., II.4, and II by Hairer
# and Wanner, IV.2, for the control of steps.

using OrdinaryDiffEqTsit5: OrdinaryDiffEqCore, @muladd

const TSIT5 = OrdinaryDiffEqTsit5.Tsit5ConstantCacheActual(Float64, Float64)

"""The numbers of OrdinaryDiffEq's PI controller for Tsit5."""
struct Control
    beta1::Float64
    beta2::Float64
    gamma::Float64
    qmin::Float64
    qmax::Float64
    qmax_first_step::Float64
    errold::Float64
end

function Control()
    alg, core = OrdinaryDiffEqTsit5.Tsit5(), OrdinaryDiffEqCore
    beta2 = core.beta2_default(alg)
    return Control(core.beta1_default(alg, beta2), beta2, core.gamma_default(alg), core.qmin_default(alg), core.qmax_default(alg),
        core.qmax_first_step_default(alg), 1 // 10^4)
end

"""
`LANES` trajectories under way. Matrices are (`LANES`, n), with what all lanes have of a state next to each other; `p` has one
row if it is everyone's.

`again` starts them. `trajectory` has the number of each lane's, or 0; `tries`, `accepted` and `rejected` count its steps,
`next` is the place in `ts` of what it saves next, `last` is whether its step goes to the end, and `under_way` whether there is
a next step.
"""
struct SideBySide{T, I}
    again::Again{T, I}
    control::Control
    f::Code{T}
    work::Vector{T}
    abstol::Vector{T}
    reltol::Vector{T}
    u::Matrix{T}
    new::Matrix{T}
    stage::Matrix{T}
    k::NTuple{STAGES, Matrix{T}}
    p::Matrix{T}
    before::Vector{T}
    t::Vector{T}
    dt::Vector{T}
    time::Vector{T}  # of a stage
    error::Vector{T}
    errold::Vector{T}
    stays::Vector{T}  # 1 where the step is not accepted
    trajectory::Vector{Int}
    tries::Vector{Int}
    accepted::Vector{Int}
    rejected::Vector{Int}
    next::Vector{Int}
    last::Vector{Bool}
    under_way::Vector{Bool}
end

# Of longer states a step has work for whole vectors anyway; more parameters of all lanes than these leave the nearest cache.
const MOST_STATES, MOST_PARAMETERS = 16, 256

"""Whether trajectories of a model go side by side. `shared`: whether all have the same parameters."""
goes_abreast(model::Model{Float64}, shared, options) = !isempty(model.f.source) && model.n <= MOST_STATES &&
    (shared || model.m <= MOST_PARAMETERS) && all(in((:dtmax, :maxiters)) ∘ Symbol ∘ first, options)
goes_abreast(model, shared, options) = false

# How many of n go at a time on each thread: what are few is for all threads.
ways_of(n) = min(LANES, cld(n, Threads.nthreads()))
are_shared(p) = size(p, 2) == 1

function SideBySide(again::Again{T}, model::Model{T}, p, abstol, reltol) where {T}
    n, shared = model.n, are_shared(p)
    code, lanes, numbers = abreast(model.f, shared), k -> zeros(T, LANES, k), (x = zero(T)) -> fill(x, LANES)
    return SideBySide{T, typeof(again.integrator)}(again, Control(), code, scratch(code),
        T[of_state(tolerance(T, abstol), i) for i in 1:n], T[of_state(tolerance(T, reltol), i) for i in 1:n],
        lanes(n), lanes(n), lanes(n), ntuple(_ -> lanes(n), STAGES), shared ? Matrix{T}(p') : lanes(model.m),
        ntuple(_ -> numbers(), 7)..., ntuple(_ -> numbers(0), 5)..., fill(false, LANES), fill(false, LANES))
end

"""
    solve!(side, out, counts, runs, u0, p, take, ways)

Solves trajectories, whose numbers come from `take()`, 0 for no more, until there are none: as `solve_many!`. At most `ways` of
them go at a time.
"""
function solve!(side::SideBySide, out, counts, runs, u0, p, take::F, ways) where {F}
    alone(i) = solve_alone!(side.again, out, counts, runs, u0, p, i)
    start(l) = begin!(side, l, u0, p, take, alone) && save_start!(side, l, out)
    foreach(start, 1:ways)
    while any(side.under_way)
        advance!(side, out, nothing)
        for l in 1:ways
            side.under_way[l] || continue
            goes_on!(side, l, alone) && continue
            i = side.trajectory[l]
            i == 0 || (counts[:, i] .= (6 * side.tries[l] + 3, 0, side.accepted[l], side.rejected[l]))
            start(l)
        end
    end
    return nothing
end

"""
Puts the next trajectory into a lane that is free. Returns whether there was one; such as do not go side by side are left
to `alone`.
"""
function begin!(side, l, u0, p, take::F, alone::G) where {F, G}
    while (i = side.trajectory[l] = take()) != 0
        load!(side, l, its_own(u0, i), its_own(p, i))
        side.under_way[l] = true
        goes_on!(side, l, alone) && return true
    end
    return false
end

"""Whether a lane is under way yet. One that cannot go on is left to `alone`, and has no trajectory then."""
function goes_on!(side, l, alone::F) where {F}
    if side.t[l] == end_of(side)
        side.under_way[l] = false
    elseif !plain_sailing!(side, l)
        leave!(side, l, alone)
    end
    return side.under_way[l]
end

function leave!(side, l, alone::F) where {F}
    side.under_way[l] = false
    alone(side.trajectory[l])
    side.trajectory[l] = 0
    return nothing
end

function save_start!(side, l, out)
    follower, side.next[l] = side.again.follower, 1
    fill!(view(out, :, :, side.trajectory[l]), NaN)  # so that what is not written is seen
    while side.next[l] <= length(follower.ts) && follower.ts[side.next[l]] == side.t[l]
        copyto!(view(out, :, side.next[l], side.trajectory[l]), view(side.u, l, :))
        side.next[l] += 1
    end
    return nothing
end

"""Tries a step in all lanes, and goes on in those where it was accepted. What it computed goes to the tape, if there is one."""
function advance!(side, out, tape)
    poll()
    copyto!(side.before, side.t)
    step!(side)
    fill!(side.stays, 1)
    for l in 1:LANES
        side.under_way[l] && judge!(side, l, out)
    end
    record!(tape, side)
    settle!(side)
    return nothing
end

record!(::Nothing, side) = nothing

end_of(side) = side.again.integrator.sol.prob.tspan[2]

"""The start of a trajectory: its first step size, and the slope there, are OrdinaryDiffEq's."""
function load!(side, l, u0, p)
    integrator = side.again.integrator
    copyto!(side.again.follower.state, u0)
    copyto!(integrator.p, p)
    SciMLBase.reinit!(integrator, side.again.follower.state)
    side.u[l, :] .= u0
    size(side.p, 1) == LANES && (side.p[l, :] .= p)
    side.k[1][l, :] .= integrator.fsalfirst
    side.t[l], side.dt[l], side.errold[l] = integrator.t, integrator.dt, side.control.errold
    side.tries[l] = side.accepted[l] = side.rejected[l] = 0
    return nothing
end

"""
Cuts a lane's next step where the span ends. Whether it is one that needs no more thought: it is finite, and so is the state,
it is well above the resolution of time, and not one too many.
"""
function plain_sailing!(side, l)
    options, t, stop = side.again.integrator.opts, side.t[l], end_of(side)
    dt, distance = min(abs(side.dt[l]), abs(options.dtmax)), abs(stop - t)
    side.tries[l] += 1
    side.last[l] = !(dt + 100 * eps(max(abs(t), abs(stop))) < distance)
    side.dt[l] = sign(stop - t) * min(dt, distance)
    return min(dt, distance) > 8 * eps(t) && isfinite(dt) && side.tries[l] <= options.maxiters && all(isfinite, view(side.u, l, :))
end

"""`body` for each number of a matrix (`LANES`, n), by its place `j`, the number `i` of its state, and its lane `l`."""
macro lanes(n, body)
    return esc(quote
        for i in 1:($n)
            @simd ivdep for l in 1:LANES
                j = LANES * (i - 1) + l
                $body
            end
        end
    end)
end

stage_times!(time, c, dt, t) = @inbounds @simd ivdep for l in 1:LANES
    time[l] = muladd(c, dt[l], t[l])
end

function slope!(side, i, u, c)
    stage_times!(side.time, c, side.dt, side.t)
    return run_abreast!(side.f, side.work, side.k[i], u, u, side.p, side.time)
end

"""Tries a step in all lanes: the state at its end, the slopes of its stages, and its error over the tolerance."""
@muladd function step!(side::SideBySide{T}) where {T}
    (; a21, a31, a32, a41, a42, a43, a51, a52, a53, a54, a61, a62, a63, a64, a65, a71, a72, a73, a74, a75, a76) = TSIT5
    (; c1, c2, c3, c4, btilde1, btilde2, btilde3, btilde4, btilde5, btilde6, btilde7) = TSIT5
    (; u, new, stage, dt, error, abstol, reltol) = side
    (k1, k2, k3, k4, k5, k6, k7), n = side.k, size(u, 2)
    @inbounds begin
        @lanes n stage[j] = u[j] + (dt[l] * a21) * k1[j]
        slope!(side, 2, stage, c1)
        @lanes n stage[j] = u[j] + dt[l] * (a31 * k1[j] + a32 * k2[j])
        slope!(side, 3, stage, c2)
        @lanes n stage[j] = u[j] + dt[l] * (a41 * k1[j] + a42 * k2[j] + a43 * k3[j])
        slope!(side, 4, stage, c3)
        @lanes n stage[j] = u[j] + dt[l] * (a51 * k1[j] + a52 * k2[j] + a53 * k3[j] + a54 * k4[j])
        slope!(side, 5, stage, c4)
        @lanes n stage[j] = u[j] + dt[l] * (a61 * k1[j] + a62 * k2[j] + a63 * k3[j] + a64 * k4[j] + a65 * k5[j])
        slope!(side, 6, stage, one(T))
        @lanes n new[j] = u[j] + dt[l] * (a71 * k1[j] + a72 * k2[j] + a73 * k3[j] + a74 * k4[j] + a75 * k5[j] + a76 * k6[j])
        slope!(side, 7, new, one(T))
        fill!(error, zero(T))
        @lanes n begin
            wrong = dt[l] * (btilde1 * k1[j] + btilde2 * k2[j] + btilde3 * k3[j] + btilde4 * k4[j] + btilde5 * k5[j] +
                btilde6 * k6[j] + btilde7 * k7[j])
            scale = @fastmath max(abs(u[j]), abs(new[j]))
            part = wrong / (abstol[i] + scale * reltol[i])
            error[l] = error[l] + part * part
        end
        @simd for l in 1:LANES
            error[l] = sqrt(error[l] / n)
        end
    end
    return nothing
end

"""Accepts a lane's step or not, saves what it passed, and sets its next step size."""
function judge!(side, l, out)
    (; beta1, beta2, gamma, qmin, errold) = side.control
    e, qmax = side.error[l], side.accepted[l] == 0 ? side.control.qmax_first_step : side.control.qmax
    q11 = OrdinaryDiffEqCore.fastpower(e, beta1)
    if !(e <= 1)
        side.rejected[l] += 1
        side.dt[l] /= min(inv(qmin), q11 / gamma)
        return nothing
    end
    q = q11 / OrdinaryDiffEqCore.fastpower(side.errold[l], beta2)
    q = iszero(e) ? inv(qmax) : @fastmath clamp(q / gamma, inv(qmax), inv(qmin))  # as it is there, so that it is rounded alike
    side.stays[l] = 0
    side.accepted[l] += 1
    side.errold[l] = max(e, errold)
    side.t[l] = side.last[l] ? end_of(side) : side.t[l] + side.dt[l]
    out === nothing || save!(side, l, out)
    side.dt[l] /= q
    return nothing
end

"""Goes on to the end of the step where it was accepted."""
function settle!(side)
    (; u, new, stays) = side
    first, end_ = side.k[1], side.k[STAGES]
    @inbounds @lanes size(u, 2) begin
        u[j] = ifelse(stays[l] == 1, u[j], new[j])
        first[j] = ifelse(stays[l] == 1, first[j], end_[j])
    end
    return nothing
end

"""Writes the states at those of the times that a lane's accepted step has passed."""
function save!(side, l, out)
    ts, before, t, i = side.again.follower.ts, side.before[l], side.t[l], side.trajectory[l]
    towards = sign(t - before)
    while side.next[l] <= length(ts) && (t - ts[side.next[l]]) * towards >= 0
        dt = t - before
        interpolate!(view(out, :, side.next[l], i), side, l, (ts[side.next[l]] - before) / dt, dt)
        side.next[l] += 1
    end
    return nothing
end

interpolate!(to, side, l, Θ, dt) = interpolate!(to, Θ, dt, view(side.u, l, :), view(side.new, l, :),
    map(k -> view(k, l, :), side.k), side.again.integrator)
