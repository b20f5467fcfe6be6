# Right-hand sides in the user's own Julia. They are differentiated by SciMLSensitivity's AD, as Julia's users know it.

import ForwardDiff

"""
The user's function as solvers call it: in place, and counted. `autojacvec` names what differentiates it.
"""
struct Called{F}  # without a field `vjp`: SciML would take it for a function
    f::F
    autojacvec::String
    calls::Base.RefValue{Int}
end

function (c::Called)(du, u, p, t)
    note(c.calls, t)
    c.f(du, u, p, t)
    return nothing
end

# Reverse mode sees no mutation in this (see the extension for ChainRulesCore).
note(calls, t) = (calls[] += 1; calls[] % 16 == 0 && poll(t); nothing)

"""A function `(u, p, t)` in the in-place form that everything else here has."""
struct InPlace{F}
    f::F
end

function (g::InPlace)(du, u, p, t)
    x = g.f(u, p, t)
    length(x) == length(du) || throw(DimensionMismatch("f returned $(length(x)) derivatives of $(length(du)) states"))
    copyto!(du, x)
    return nothing
end

"""A right-hand side from source text, computed in `T`. `dual`: whether its Jacobians come from dual numbers."""
struct Source{T, F} <: AbstractModel
    f::F
    autojacvec::String
    dual::Bool
end
number(::Source{T}) where {T} = T

"""
    Source(from, autojacvec)

The same right-hand side, differentiated by another AD.
"""
Source(from::Source{T, F}, autojacvec) where {T, F} = Source{T, F}(from.f, String(autojacvec), from.dual)

"""
    load_source(text, file, single, dual, holes...)

The right-hand side that a text defines, evaluated in a module of its own where LinearAlgebra and the holes (name, `Hole`,
name, `Hole`, ...) can be used: the value of the last expression, or else what is called `f!` or `f`.

It takes `(du, u, p, t)`, or `(u, p, t)` and returns du. `file` names the text in error messages.
"""
function load_source(text, file, single, dual, holes...)
    from = Module(:JuliaSource)
    Core.eval(from, :(const LinearAlgebra = $LinearAlgebra))
    Core.eval(from, :(using .LinearAlgebra))
    for i in 1:2:length(holes)
        Core.eval(from, Expr(:const, Expr(:(=), Symbol(holes[i]), holes[i + 1])))
    end
    last = Base.include_string(from, String(text), String(file))
    f = in_place(right_hand_side(from, last))
    return Source{single ? Float32 : Float64, typeof(f)}(f, "ReverseDiffVJP()", dual)
end

function right_hand_side(from, last)
    last isa Function && return last
    for name in (:f!, :f)
        isdefined(from, name) && return getfield(from, name)
    end
    applicable(last, 1, 1, 1) || applicable(last, 1, 1, 1, 1) ||
        throw(ArgumentError("the source must end with a function, or define `f!(du, u, p, t)` or `f(u, p, t)`"))
    return last
end

function in_place(f)
    counts = [length(Base.unwrap_unionall(m.sig).parameters) - 1 for m in methods(f)]
    4 in counts && return f
    3 in counts && return InPlace(f)
    throw(ArgumentError("the right-hand side must take (du, u, p, t), or (u, p, t) and return du; it takes " *
                        join(sort(counts), " or ") * " arguments"))
end

"""The Jacobian in u, in p, or the derivative in t of a function `(du, u, p, t)`, by dual numbers, to `out`."""
struct DualJacobian{by, F}
    f::F
end
DualJacobian{by}(f::F) where {by, F} = DualJacobian{by, F}(f)

(j::DualJacobian{:u})(out, u, p, t) = (ForwardDiff.jacobian!(out, (du, x) -> j.f(du, x, p, t), similar(u), u); nothing)
(j::DualJacobian{:p})(out, u, p, t) = (ForwardDiff.jacobian!(out, (du, x) -> j.f(du, u, x, t), similar(u), p); nothing)
(j::DualJacobian{:t})(out, u, p, t) = (ForwardDiff.derivative!(out, (du, x) -> j.f(du, u, p, x), similar(u), t); nothing)

function ode_function(source::Source{T}, mass) where {T}
    f = Called(source.f, source.autojacvec, Ref(0))
    parts = source.dual ? (; jac = DualJacobian{:u}(f), tgrad = DualJacobian{:t}(f)) : (;)
    isempty(mass) || (parts = (; parts..., mass_matrix = Diagonal(mass)))
    return ODEFunction{true, SciMLBase.FullSpecialize}(f; parts...)
end

function add_parameters!(out, v::Variations, f::Called, u, p, t)
    J = similar(u, v.n, v.m)
    DualJacobian{:p}(f)(J, u, p, t)
    out .+= J
    return nothing
end

function evaluate!(out, source::Source{T}, kind, v, u, p, t) where {T}
    kind = String(kind)
    part = kind == "f" ? source.f : kind == "jac" ? DualJacobian{:u}(source.f) :
        kind == "jac_p" ? DualJacobian{:p}(source.f) : DualJacobian{:t}(source.f)
    columns = kind == "jac" ? length(u) : kind == "jac_p" ? length(p) : 0
    result = columns > 0 ? zeros(T, length(u), columns) : zeros(T, length(out))
    part(result, Vector{T}(u), Vector{T}(p), T(t))
    copyto!(out, result)
    return nothing
end

"""
    bind!(model, kind, address)

Gives a model one of its parts as the address of a C function `int (out, v, u, p, t, w, c, k)`, which must stay valid as
long as the model is used. It returns 0, or something else to make the solve end with `CallbackFailed`.
"""
function bind!(model::Model{T}, kind, address) where {T}
    code = getfield(model, Symbol(kind))::Code{T}
    code.run = Ptr{Cvoid}(UInt(address))
    return nothing
end
