# Generated code for several trajectories side by side. Its text is the same; each of its numbers becomes one of every
# lane, next to each other in memory, so that one instruction of the vector unit computes them all.

"""So many trajectories go side by side: as many Float64 as the widest vectors have."""
const LANES = div(BITS, 8 * sizeof(Float64))

"""
As `Alone`, of `LANES` trajectories: number i of lane l lies at (i - 1) `LANES` + l. `t` is a pointer to the times of all
lanes; constants and tables are those of one, and parameters too if they are `shared`. Names that are read outside of the run
of statements that they were given in have their place in `w`, after the scratch memory that the text asks for.
"""
struct Abreast{T, shared}
    names::Dict{Symbol, Int}
end
number(::Abreast{T}) where {T} = T
const LANE = :lane_

"""The code of all lanes for that of one, compiled the first time. `shared`: whether all have the same parameters."""
abreast(code::Code{T}, shared::Bool) where {T} = get!(() -> make_abreast(code, Abreast{T, shared}), code.abreast, shared)

function make_abreast(code::Code{T}, layout) where {T}
    body, many = Meta.parse(code.source).args[2], Code{T}()
    names = wanderers(body, code.work)
    many.run = compiled(() -> compile(lowered(body, layout(names)), T, Ptr{T}), layout, code.source)
    many.constants, many.tables, many.work = code.constants, code.tables, code.work + length(names)
    return many
end

"""Computes the code of all lanes. All but `code` are arrays in their layout; `work` is as long as `scratch` makes it."""
function run_abreast!(code::Code, work, out, v, u, p, t)
    status = GC.@preserve out v u p t work begin
        call_abreast(code.run, pointer(out), pointer(v), pointer(u), pointer(p), pointer(t), pointer(work), pointer(code.constants),
            pointer(code.tables))
    end
    status == 0 || throw(CallbackFailed(status))
    return nothing
end
scratch(code::Code{T}) where {T} = zeros(T, LANES * max(code.work, 1))

"""The names that statements give and other runs of statements read, each with a place of its own in `w` after `work`."""
function wanderers(body, work)
    runs, given = Dict{Symbol, Set{Int}}(), Set{Symbol}()
    number = Ref(0)
    function visit(x, run)
        x isa Symbol && return push!(get!(Set{Int}, runs, x), run)
        x isa Expr || return nothing
        if x.head === :block
            for part in parted(x.args)
                run = number[] += 1
                foreach(s -> visit(s, run), part)
            end
        elseif x.head === :for
            visit(x.args[2], run)
        else
            x.head === :(=) && x.args[1] isa Symbol && push!(given, x.args[1])
            foreach(a -> visit(a, run), x.args)
        end
        return nothing
    end
    visit(body, 0)
    return Dict{Symbol, Int}(name => work + i for (i, name) in enumerate(sort!([x for x in given if length(runs[x]) > 1])))
end

"""Statements, those that follow each other and give or store a number together: they go into one loop over the lanes."""
function parted(statements)
    parts = Vector{Any}[]
    for x in statements
        x isa LineNumberNode && continue
        numbers = x isa Expr && x.head === :(=)
        if numbers && !isempty(parts) && last(parts)[end].head === :(=)
            push!(last(parts), x)
        else
            push!(parts, Any[x])
        end
    end
    return parts
end

block(statements, layout::Abreast) = Expr(:block, (
    part[1].head === :(=) ? each_lane(part, layout) : lowered(only(part), layout) for part in parted(statements))...)
each_lane(part, layout) = counted(LANE, 1, LANES, Expr(:block, (lowered(x, layout) for x in part)...), simd(true, wide(part)...))

wide(part::Vector) = any(arithmetic, part) && all(smooth, part) ? ((Symbol("llvm.loop.vectorize.width"), LANES),) : ()

looped(x, layout::Abreast, ivdep = false) = counted(x, lowered(x.args[2], layout))  # those over the lanes are the inner ones

in_lane(i) = Expr(:call, Core.Intrinsics.add_int,
    Expr(:call, Core.Intrinsics.mul_int, Expr(:call, Core.Intrinsics.sub_int, i, 1), LANES), LANE)
of_one(x, ::Abreast{T, shared}) where {T, shared} = x.args[1] in (:c, :k) || (shared && x.args[1] === :p)
element(x, layout::Abreast) = of_one(x, layout) ? index(x.args[2]) : in_lane(index(x.args[2]))

named(x, layout::Abreast) = x === :t ? Expr(:call, Core.Intrinsics.pointerref, :t, LANE, 1) :
    haskey(layout.names, x) ? load(:(w[$(layout.names[x])]), layout) : x
assigned(to::Symbol, value, layout::Abreast) = haskey(layout.names, to) ?
    assigned(:(w[$(layout.names[to])]), value, layout) : Expr(:(=), to, value)

"""The numbers of all lanes."""
const Numbers{T} = NTuple{LANES, T}
place(x, layout::Abreast{T}) where {T} = of_one(x, layout) ? place(x, sizeof(T), T) : place(x, sizeof(Numbers{T}), Numbers{T})

# Products of matrices, each lane's own, but for those of constants.

@inline numbers(a::Ptr{Numbers{T}}, i) where {T} = unsafe_load(a, i)
@inline numbers(a::Ptr{T}, i) where {T <: AbstractFloat} = (x = unsafe_load(a, i); ntuple(_ -> x, Val(LANES)))
@inline added(a, b, to) = ntuple(l -> muladd(a[l], b[l], to[l]), Val(LANES))

"""out[i, j] = sum over l of a[i, l] b[l, j], for 0-based i, j and l, with `out` (m, n) in rows; the others by their steps."""
function contract!(out::Ptr{Numbers{T}}, a, a_steps, b, b_steps, m::Int, k::Int, n::Int) where {T}
    none = ntuple(_ -> zero(T), Val(LANES))
    for i in 0:(m - 1), j in 0:(n - 1)
        s1 = s2 = none  # two sums, which need not wait for each other
        l = 0
        while l + 1 < k
            s1 = added(numbers(a, i * a_steps[1] + l * a_steps[2] + 1), numbers(b, l * b_steps[1] + j * b_steps[2] + 1), s1)
            l += 1
            s2 = added(numbers(a, i * a_steps[1] + l * a_steps[2] + 1), numbers(b, l * b_steps[1] + j * b_steps[2] + 1), s2)
            l += 1
        end
        if l < k
            s1 = added(numbers(a, i * a_steps[1] + l * a_steps[2] + 1), numbers(b, l * b_steps[1] + j * b_steps[2] + 1), s1)
        end
        unsafe_store!(out, s1 .+ s2, i * n + j + 1)
    end
    return nothing
end

gemm!(out::Ptr{Numbers{T}}, a::Ptr, as::Int, ar::Int, b::Ptr, bs::Int, br::Int, m::Int, k::Int, n::Int) where {T} =
    contract!(out, a, ar == 1 ? (as, 1) : (1, as), b, br == 1 ? (bs, 1) : (1, bs), m, k, n)
rows!(y::Ptr{Numbers{T}}, a::Ptr, step::Int, x::Ptr, xstep::Int, m::Int, k::Int) where {T} =
    contract!(y, a, (step, 1), x, (xstep, 0), m, k, 1)
columns!(y::Ptr{Numbers{T}}, a::Ptr, step::Int, x::Ptr, xstep::Int, m::Int, k::Int) where {T} =
    contract!(y, a, (1, step), x, (xstep, 0), m, k, 1)
outer!(y::Ptr{Numbers{T}}, a::Ptr, astep::Int, b::Ptr, bstep::Int, m::Int, n::Int) where {T} =
    contract!(y, a, (astep, 0), b, (0, bstep), m, 1, n)
