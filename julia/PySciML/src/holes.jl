# Holes in a Julia source: functions `nn(x, p)` that were written in torch.

"""
    Hole(model, inputs, outputs, offset, total)

A function from vectors of `inputs` to vectors of `outputs` numbers, computed by a model whose state is the longer of the
two, with zeros behind the shorter. Called as `hole(x, p)`, it finds its own parameters in p, which has `total` entries,
after the first `offset`.
"""
struct Hole{T}
    model::Model{T}
    inputs::Int
    outputs::Int
    offset::Int
    total::Int
end

function (hole::Hole{T})(x::AbstractVector{<:Real}, p::AbstractVector{<:Real}) where {T}
    check(hole, x, p)
    return evaluated(hole, :f, zeros(T, 0), x, p, T(0))[1:(hole.outputs)]
end

function check(hole::Hole, x, p)
    length(x) == hole.inputs ||
        throw(DimensionMismatch("the torch module takes $(hole.inputs) numbers, but got $(length(x))"))
    length(p) == hole.total || throw(DimensionMismatch(
        "a hole is called with all parameters, nn(x, p), as the right-hand side got them: $(hole.total) numbers, " *
        "but got $(length(p))"))
    return nothing
end

own(hole::Hole) = (hole.offset + 1):(hole.offset + hole.model.m)

"""One part of the model, with zeros behind what is too short for it."""
function evaluated(hole::Hole{T}, kind, v, x, p, t) where {T}
    code, n = getfield(hole.model, kind)::Code{T}, hole.model.n
    size = kind === :jac ? n * n : kind === :vjp_p ? hole.model.m : n
    out = zeros(T, size)
    run!(Part{T, :f}(code, Vector{T}(undef, max(code.work, 1)), Ref(0)), out, padded(T, v, n), padded(T, x, n),
        Vector{T}(view(p, own(hole))), t)
    return out
end

padded(::Type{T}, x, n) where {T} = (out = zeros(T, n); copyto!(out, x); out)

"""The products of a cotangent of the outputs with the Jacobians in x and in all of p."""
function pull(hole::Hole{T}, cotangent, x, p) where {T}
    dp = zeros(T, hole.total)
    dp[own(hole)] .= evaluated(hole, :vjp_p, cotangent, x, p, T(0))
    return evaluated(hole, :vjp, cotangent, x, p, T(0))[1:(hole.inputs)], dp
end

const Duals = AbstractVector{<:ForwardDiff.Dual}

(hole::Hole)(x::Duals, p::AbstractVector{<:Real}) = pushed(hole, x, p)
(hole::Hole)(x::AbstractVector{<:Real}, p::Duals) = pushed(hole, x, p)
(hole::Hole)(x::Duals, p::Duals) = pushed(hole, x, p)

"""Forward mode: the products of the Jacobians with the dual parts."""
function pushed(hole::Hole{T}, x, p) where {T}
    check(hole, x, p)
    D = x isa Duals ? eltype(x) : eltype(p)
    x isa Duals && p isa Duals && eltype(x) !== eltype(p) && throw(ArgumentError("mixed dual numbers: $D, $(eltype(p))"))
    ForwardDiff.valtype(D) <: AbstractFloat ||
        throw(ArgumentError("a torch module has first derivatives in Julia, and no second ones: $D"))
    xs, ps = ForwardDiff.value.(x), ForwardDiff.value.(p)
    y = evaluated(hole, :f, T[], xs, ps, T(0))
    parts = [zero(ForwardDiff.Partials{ForwardDiff.npartials(D), ForwardDiff.valtype(D)}) for _ in 1:(hole.outputs)]
    x isa Duals && push_by!(parts, jacobian(hole, xs, ps), x)
    p isa Duals && push_by!(parts, parameter_jacobian(hole, xs, ps), view(p, own(hole)))
    return [D(y[i], parts[i]) for i in eachindex(parts)]
end

function push_by!(parts, J, x)
    for j in eachindex(x), i in eachindex(parts)
        parts[i] += J[i, j] * ForwardDiff.partials(x[j])
    end
    return parts
end

jacobian(hole::Hole{T}, x, p) where {T} =
    reshape(evaluated(hole, :jac, T[], x, p, T(0)), hole.model.n, hole.model.n)[1:(hole.outputs), 1:(hole.inputs)]

function parameter_jacobian(hole::Hole{T}, x, p) where {T}
    J, unit = zeros(T, hole.outputs, hole.model.m), zeros(T, hole.outputs)
    for i in 1:(hole.outputs)
        unit[i] = 1
        J[i, :] = evaluated(hole, :vjp_p, unit, x, p, T(0))
        unit[i] = 0
    end
    return J
end
