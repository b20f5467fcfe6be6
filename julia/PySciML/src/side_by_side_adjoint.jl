# The derivative of the steps that trajectories took side by side, of all lanes at once: as in direct_adjoint.jl, but that each try
# is read back in all lanes, and counts in those that accepted it.

"""What the tries of all lanes have computed, one try after another, in memory that is used again: see `record!`."""
struct Tries{T}
    n::Int
    memory::Vector{T}
end
Tries(side::SideBySide{T}) where {T} = Tries{T}(size(side.u, 2), T[])
Base.length(tape::Tries) = div(length(tape.memory), LANES * (7tape.n + 3))

function record!(tape::Tries, side)
    at = length(tape.memory)
    resize!(tape.memory, at + LANES * (7tape.n + 3))
    for x in (side.u, side.new, side.k[1], side.k[2], side.k[3], side.k[4], side.k[5])
        copyto!(tape.memory, at + 1, x, 1, length(x))
        at += length(x)
    end
    for x in (side.before, side.t, side.stays)
        copyto!(tape.memory, at + 1, x, 1, LANES)
        at += LANES
    end
    return nothing
end

"""Of one try: the states at its start and its end, the slopes, the times of start and end, and 1 where it was not accepted."""
function computed(tape::Tries, j)
    n, size = tape.n, LANES * (7tape.n + 3)
    part(i, k) = view(tape.memory, (size * (j - 1) + LANES * i + 1):(size * (j - 1) + LANES * (i + k)))
    return part(0, n), part(n, n), ntuple(i -> part((i + 1) * n, n), Val(5)), part(7n, 1), part(7n + 1, 1), part(7n + 2, 1)
end

"""As `Reader`, of all lanes."""
struct ReaderAbreast{T}
    both::Code{T}
    work::Vector{T}
    tableau::Tableau{T}
    λ::Matrix{T}
    start::Matrix{T}
    carry::Matrix{T}
    slopes::NTuple{STAGES, Matrix{T}}
    stage::Matrix{T}
    pulled::Matrix{T}
    of_step::Matrix{T}
    dp::Matrix{T}
    time::Vector{T}
    dt::Vector{T}
    stays::Vector{T}
    next::Vector{Int}
end

function ReaderAbreast(model::Model{T}, shared) where {T}
    n, m, lanes, both = model.n, model.m, k -> zeros(T, LANES, k), abreast(model.both, shared)
    return ReaderAbreast{T}(both, scratch(both), tableau(T), lanes(n), lanes(n), lanes(n),
        ntuple(_ -> lanes(n), STAGES), lanes(n), lanes(n + m), lanes(m), lanes(m), zeros(T, LANES), zeros(T, LANES), zeros(T, LANES),
        zeros(Int, LANES))
end

# Gradients in the parameters are each lane's own, even where the parameters are not.
const MOST_GRADIENTS = 64
# Of more numbers kept (64 MB), trajectories are left to be solved one by one.
const MOST_KEPT = 8_000_000

"""Whether the steps of a model's trajectories are read back side by side; arguments as of `goes_abreast`."""
reads_abreast(model, shared, options) = goes_abreast(model, shared, options) && !isempty(model.both.source) &&
    model.m <= MOST_GRADIENTS && isnothing(waiting(model.vjp_p))

"""
    read_back!(reader, tape, side, cotangents)

The gradients of sum(cotangents .* states at the times saved), (n, k, N), of the lanes' trajectories: in u0 in `reader.λ`, in p
in `reader.dp`.
"""
function read_back!(r::ReaderAbreast, tape::Tries, side, cotangents)
    foreach(x -> fill!(x, 0), (r.λ, r.carry, r.dp))
    fill!(r.next, size(cotangents, 2))
    for j in length(tape):-1:1
        poll()
        read_try!(r, computed(tape, j), side, cotangents)
    end
    u, _, _, t, _, _ = computed(tape, 1)
    for l in 1:LANES, next in 1:(side.trajectory[l] == 0 ? 0 : r.next[l])  # at the start of the span
        r.λ[l, :] .+= view(cotangents, :, next, side.trajectory[l])
    end
    pull!(r, r.carry, u, t, side.p)
    r.λ .+= view(r.pulled, :, axes(r.λ, 2))
    r.dp .+= view(r.pulled, :, size(r.λ, 2) .+ axes(r.dp, 2))
    return nothing
end

function read_try!(r::ReaderAbreast, (u, new, k, t, stop, rejected), side, cotangents)
    (; λ, start, carry, slopes, stage, dt, stays, of_step, pulled), n, A, c = r, size(r.λ, 2), r.tableau.A, r.tableau.c
    copyto!(stays, rejected)
    foreach(x -> fill!(x, 0), (start, of_step, slopes...))
    for l in 1:LANES
        dt[l] = stop[l] - t[l]
        stays[l] == 1 || side.trajectory[l] == 0 || spread!(r, l, t[l], stop[l], side, cotangents)
    end
    last = slopes[STAGES]
    last .+= carry
    pull!(r, last, new, stop, side.p)
    @inbounds @lanes n begin
        pulled[j] += λ[j]
        start[j] += pulled[j]
    end
    pass_on!(r, STAGES, of_step)
    for i in (STAGES - 1):-1:2
        copyto!(stage, u)
        for q in 1:(i - 1)
            a, slope = A[i, q], k[q]
            @inbounds @lanes n stage[j] = muladd(dt[l] * a, slope[j], stage[j])
        end
        stage_times!(r.time, c[i], dt, t)
        pull!(r, slopes[i], stage, r.time, side.p)
        @inbounds @lanes n start[j] += pulled[j]
        pass_on!(r, i, of_step)
    end
    first, dp = slopes[1], r.dp
    @inbounds begin  # what was computed in the other lanes may be anything
        @lanes n begin
            λ[j] = ifelse(stays[l] == 1, λ[j], start[j])
            carry[j] = ifelse(stays[l] == 1, carry[j], first[j])
        end
        @lanes size(dp, 2) dp[j] += ifelse(stays[l] == 1, zero(eltype(dp)), of_step[j])
    end
    return nothing
end

"""(vᵀ df/du, vᵀ df/dp) of each lane, in `pulled`."""
pull!(r::ReaderAbreast, v, u, t, p) = run_abreast!(r.both, r.work, r.pulled, v, u, p, t)

"""Hands what was pulled at stage `i` to the slopes that it was made of, and to the parameters."""
function pass_on!(r::ReaderAbreast, i, of_step)
    (; dt, pulled, slopes), n, A = r, size(r.λ, 2), r.tableau.A
    for q in 1:(i - 1)
        a, slope = A[i, q], slopes[q]
        @inbounds @lanes n slope[j] = muladd(dt[l] * a, pulled[j], slope[j])
    end
    from = LANES * n
    @inbounds @lanes size(of_step, 2) of_step[j] += pulled[from + j]
    return nothing
end

"""As for one trajectory, of those of a lane's times that lie in its step."""
function spread!(r::ReaderAbreast, l, t, stop, side, cotangents)
    ts, i = side.again.follower.ts, side.trajectory[l]
    while r.next[l] > 0 && (ts[r.next[l]] - t) * sign(stop - t) > 0
        θ = (ts[r.next[l]] - t) / (stop - t)
        g = view(cotangents, :, r.next[l], i)
        if θ == 1
            r.λ[l, :] .+= g
        else
            r.start[l, :] .+= g
            for q in 1:STAGES
                r.slopes[q][l, :] .+= ((stop - t) * weight(r.tableau, q, θ)) .* g
            end
        end
        r.next[l] -= 1
    end
    return nothing
end

"""
    gradients!(side, reader, alone, du0, dp, counts, cotangents, u0, p, take, ways)

The gradients of trajectories from `take()`, as `adjoint_again!` has them, `ways` of them at a time. `alone(i)` is for one that does
not go side by side.
"""
function gradients!(side::SideBySide, reader, alone::F, du0, dp, counts, cotangents, u0, p, take::G, ways) where {F, G}
    tape = Tries(side)
    while true
        empty!(tape.memory)
        fill!(side.trajectory, 0)
        foreach(l -> begin!(side, l, u0, p, take, alone), 1:ways)
        any(side.under_way) || return nothing
        while any(side.under_way)
            advance!(side, nothing, tape)
            for l in 1:ways
                side.under_way[l] || continue
                length(tape.memory) < MOST_KEPT ? goes_on!(side, l, alone) : leave!(side, l, alone)
            end
        end
        read_back!(reader, tape, side, cotangents)
        for l in 1:ways
            i = side.trajectory[l]
            i == 0 && continue
            du0[:, i] .= view(reader.λ, l, :)
            dp[:, i] .= view(reader.dp, l, :)
            counts[:, i] .= (6 * side.accepted[l] + 1, 0, side.accepted[l], 0)
        end
    end
end
