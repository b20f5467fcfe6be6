# One concrete type for every compiled right-hand side: what differs between models sits behind C function pointers.

"""A part of a model could not be computed: whoever stands behind its C function knows why."""
struct CallbackFailed <: Exception
    status::Cint
end
Base.showerror(io::IO, e::CallbackFailed) = print(io, "PySciML.CallbackFailed: ", e.status)

"""
One generated function with the data it was generated with. Its pointer is null until its source has come.

It points to a C function `int (out, v, u, p, t, w, c, k)` that returns 0, or something else where it has failed.
"""
mutable struct Code{T}
    run::Ptr{Cvoid}
    source::String  # empty where there is none, but a function of Python's
    constants::Vector{T}
    tables::Vector{Int}
    work::Int
    factored::Any  # of a `vjp_p`, what gives the same by factors (see outer_products.jl), or nothing
    abreast::Dict{Bool, Code{T}}  # what computes it for several trajectories at once (see lanes.jl)
    Code{T}() where {T} = new{T}(C_NULL, "", T[], Int[], 0, nothing, Dict{Bool, Code{T}}())
end

"""What `solve!` takes: something with an `ode_function` and a type of `number`."""
abstract type AbstractModel end

"""
A right-hand side: du/dt, products with its Jacobians from the left, its Jacobian, and its time derivative. With a
`pattern` its Jacobian is sparse, and `nonzeros` computes it; `both` is `vjp` and `vjp_p` in one pass, and `factors` the
same by factors.
"""
struct Model{T} <: AbstractModel
    n::Int
    m::Int
    f::Code{T}
    vjp::Code{T}
    vjp_p::Code{T}
    jac::Code{T}
    tgrad::Code{T}
    nonzeros::Code{T}
    both::Code{T}
    factors::Code{T}
    pattern::Base.RefValue{Any}
    parts::Base.RefValue{Any}  # what solvers that take it apart find (see parts.jl), or nothing
end

"""
    Model(single, n, m)

An empty model of n states and m parameters, in Float32 if `single`.
"""
Model(single::Bool, n, m) = single ? Model{Float32}(n, m) : Model{Float64}(n, m)
number(::Model{T}) where {T} = T
is_single(model::Model) = number(model) === Float32
Model{T}(n::Integer, m::Integer) where {T} = Model{T}(n, m, ntuple(_ -> Code{T}(), 8)..., Ref{Any}(nothing), Ref{Any}(nothing))

"""
    define!(model, kind, source, constants, tables, work)

Gives a model one of its parts, by its name.
"""
function define!(model::Model{T}, kind, source, constants, tables, work) where {T}
    code = getfield(model, Symbol(kind))::Code{T}
    code.source = source
    empty!(code.abreast)
    code.run = compiled(Alone{T}, code.source)
    code.constants = Vector{T}(constants)
    code.tables = Vector{Int}(tables)
    code.work = work
    return nothing
end

"""
    sparse!(model, pointers, rows)

From here on the Jacobian is sparse: `pointers` (n + 1) and `rows` (nnz) are those of compressed columns, from 0 on.
"""
function sparse!(model::Model{T}, pointers, rows) where {T}
    pointers, rows = Vector{Int}(pointers) .+ 1, Vector{Int}(rows) .+ 1
    model.pattern[] = SparseMatrixCSC{T, Int}(model.n, model.n, pointers, rows, zeros(T, length(rows)))
    return nothing
end

"""
What a solver calls: one part of a model, with scratch memory and a count of calls of this solve alone, so that threads
can share models.
"""
struct Part{T, kind}
    code::Code{T}
    work::Vector{T}
    calls::Base.RefValue{Int}
end

# `ccall` wants the type of a number that goes by value in full.
for T in (Float64, Float32)
    @eval @inline call(f, out, v, u, p, t::$T, w, c, k) = ccall(
        f, Cint, (Ptr{$T}, Ptr{$T}, Ptr{$T}, Ptr{$T}, $T, Ptr{$T}, Ptr{$T}, Ptr{Int}), out, v, u, p, t, w, c, k,
    )
    @eval @inline call_abreast(f, out, v, u, p, t::Ptr{$T}, w, c, k) = ccall(
        f, Cint, (Ptr{$T}, Ptr{$T}, Ptr{$T}, Ptr{$T}, Ptr{$T}, Ptr{$T}, Ptr{$T}, Ptr{Int}), out, v, u, p, t, w, c, k,
    )
end

@inline function run!(part::Part{T}, out, v, u, p, t) where {T}
    code, work = part.code, part.work
    part.calls[] += 1
    part.calls[] % 16 == 0 && poll(t)
    length(work) < code.work && resize!(work, code.work)
    code.run == C_NULL && error("this part of the right-hand side was not compiled")
    status = GC.@preserve out v u p work code begin
        call(code.run, address(out), address(v), address(u), address(p), T(t), address(work), address(code.constants),
            address(code.tables))
    end
    status == 0 || throw(CallbackFailed(status))
    return nothing
end

(part::Part{T, :f})(out, u, p, t) where {T} = run!(part, out, u, u, p, t)
function (part::Part{T, :jac})(out, u, p, t) where {T}
    length(out) == length(u)^2 || throw(DimensionMismatch("a Jacobian of $(length(u)) states does not go into $(size(out))"))
    return run!(part, out, u, u, p, t)
end
(part::Part{T, :nonzeros})(J::SparseMatrixCSC, u, p, t) where {T} = run!(part, nonzeros(J), u, u, p, t)
(part::Part{T, :tgrad})(out, u, p, t) where {T} = run!(part, out, u, u, p, t)
(part::Part{T, :vjp})(out, v, u, p, t) where {T} = run!(part, out, v, u, p, t)
(part::Part{T, :vjp_p})(out, v, u, p, t) where {T} = run!(part, out, v, u, p, t)

Part{T, kind}(model::Model{T}, work) where {T, kind} = Part{T, kind}(getfield(model, kind), work, Ref(0))

"""The model as SciML knows it; `mass` is the diagonal of the mass matrix, empty for the identity."""
function ode_function(model::Model{T}, mass) where {T}
    work = Vector{T}(undef, max(model.f.work, 1))
    # What is not dense is for the few; the compiler shall not follow it wherever a model goes.
    model.pattern[] === nothing || return Base.inferencebarrier(sparse_function(model, mass, work))
    jac, jac_prototype = Part{T, :jac}(model, work), prototype(model)
    return with_parts(model, mass, work, (; jac, jac_prototype))
end

# Of 10,000 states a matrix fills the memory, and an explicit method has no use for it.
const LARGE = 500

"""A matrix for the Jacobian; one of nothing where the model is large and there is none yet."""
function prototype(model::Model{T}) where {T}
    n = model.n > LARGE && model.jac.run == C_NULL ? 0 : model.n
    return zeros(T, n, n)
end

"""That of a function that was made without, before there was a Jacobian."""
prototype(f, n) = size(f.jac_prototype, 1) == n || f.jac.code.run == C_NULL ? copy(f.jac_prototype) : zeros(eltype(f.jac_prototype), n, n)

sparse_function(model::Model{T}, mass, work) where {T} = with_parts(model, mass, work,
    (; jac = Part{T, :nonzeros}(model, work), jac_prototype = copy(model.pattern[]::SparseMatrixCSC{T, Int})))

function with_parts(model::Model{T}, mass, work, jacobian) where {T}
    parts = (; vjp = Part{T, :vjp}(model, work), vjp_p = Part{T, :vjp_p}(model, work),
        tgrad = Part{T, :tgrad}(model, work), jacobian...)
    f = Part{T, :f}(model, work)
    isempty(mass) && return ODEFunction{true, SciMLBase.FullSpecialize}(f; parts...)
    is_dae(Diagonal(mass)) && return Base.inferencebarrier(dae_function(f, mass, parts))
    return ODEFunction{true, SciMLBase.FullSpecialize}(f; mass_matrix = Diagonal(mass), parts...)
end

# Without a prototype of the Jacobian: one of memory that nobody has written to is what makes the start consistent, and
# each zero in it is taken for one of a sparse Jacobian.
dae_function(f, mass, parts) = ODEFunction{true, SciMLBase.FullSpecialize}(f; mass_matrix = Diagonal(mass),
    Base.structdiff(parts, NamedTuple{(:jac_prototype,)})...)

# All parts work in place. SciML would find that in the table of methods, which takes a tenth of a short solve's time.
SciMLBase.isinplace(::Part, ::Int, ::AbstractString, ::Bool; options...) = true
