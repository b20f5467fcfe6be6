# Julia sources, and the holes in them, under the AD packages that SciMLSensitivity brings.

using SciMLSensitivity: EnzymeVJP, MooncakeVJP, ReverseDiff, ReverseDiffVJP, Tracker, TrackerVJP
using .ReverseDiff.ChainRulesCore: ChainRulesCore, @non_differentiable, NoTangent, unthunk
using .ReverseDiff: SpecialInstruction
using PySciML: Called, Hole, note

const VJPS = Dict{String, Function}(
    "ReverseDiffVJP()" => () -> ReverseDiffVJP(), "ReverseDiffVJP(false)" => () -> ReverseDiffVJP(false),
    "ReverseDiffVJP(true)" => () -> ReverseDiffVJP(true), "ZygoteVJP()" => () -> ZygoteVJP(),
    "TrackerVJP()" => () -> TrackerVJP(), "EnzymeVJP()" => () -> EnzymeVJP(), "MooncakeVJP()" => () -> MooncakeVJP(),
)
autojacvec(f::Called) = VJPS[f.autojacvec]()
calls(f, called::Called) = called.calls[]

# What follows is for holes: each AD sees one function, and asks the model for its products.

# ChainRules, which Zygote follows.

@non_differentiable note(::Any, ::Any)

function ChainRulesCore.rrule(hole::Hole, x::AbstractVector{<:Real}, p::AbstractVector{<:Real})
    pullback(cotangent) = (NoTangent(), PySciML.pull(hole, unthunk(cotangent), x, p)...)
    return hole(x, p), pullback
end

# ReverseDiff: one instruction on the tape. Its derivative is taken where the tape is replayed, so that a compiled tape
# is right at other points than the one it was recorded at.

const Recorded = AbstractVector{<:ReverseDiff.TrackedReal}

(hole::Hole)(x::Recorded, p::AbstractVector{<:Real}) = record(hole, x, p)
(hole::Hole)(x::AbstractVector{<:Real}, p::Recorded) = record(hole, x, p)
(hole::Hole)(x::Recorded, p::Recorded) = record(hole, x, p)

values(x, p) = (ReverseDiff.value(x), ReverseDiff.value(p))

function record(hole, x, p)
    tape = ReverseDiff.tape(x, p)
    y = ReverseDiff.track(hole(values(x, p)...), tape)
    ReverseDiff.record!(tape, SpecialInstruction, hole, (x, p), y)
    return y
end

@noinline function ReverseDiff.special_forward_exec!(step::SpecialInstruction{<:Hole})
    foreach(ReverseDiff.pull_value!, step.input)
    ReverseDiff.value!(step.output, step.func(values(step.input...)...))
    return nothing
end

@noinline function ReverseDiff.special_reverse_exec!(step::SpecialInstruction{<:Hole})
    found = PySciML.pull(step.func, ReverseDiff.deriv(step.output), values(step.input...)...)
    for (x, d) in zip(step.input, found)
        eltype(x) <: ReverseDiff.TrackedReal && ReverseDiff.increment_deriv!(x, d)
    end
    ReverseDiff.unseed!(step.output)
    return nothing
end

# Tracker.

const Tracked = Union{Tracker.TrackedVector, AbstractVector{<:Tracker.TrackedReal}}

(hole::Hole)(x::Tracked, p::AbstractVector{<:Real}) = track(hole, x, p)
(hole::Hole)(x::AbstractVector{<:Real}, p::Tracked) = track(hole, x, p)
(hole::Hole)(x::Tracked, p::Tracked) = track(hole, x, p)

# Vectors of tracked numbers are collected to tracked vectors, which Tracker follows as one.
track(hole, x, p) = Tracker.track(hole, whole(x), whole(p))
whole(x::Tracker.TrackedVector) = x
whole(x) = Tracker.collect(x)

function Tracker._forward(hole::Hole, x, p)
    xs, ps = Tracker.data(x), Tracker.data(p)
    return hole(xs, ps), cotangent -> PySciML.pull(hole, Tracker.data(cotangent), xs, ps)
end
