# Generated source to machine code.
#
# The text is Julia, and reads as Julia, but is not compiled as such: `w[i]`, `a * b` and `for` are put down as the
# intrinsics that they would become, so that type inference and inlining have next to nothing to do. That takes a model's
# compile time down several times over. Only the words listed here are understood, so no other code can come in.

"""The functions that generated code may call."""
const WORDS = Dict{Symbol, Any}(
    name => GlobalRef(@__MODULE__, name) for name in (
        :columns!, :gemm!, :outer!, :rows!, :abs, :acos_, :acosh_, :and_, :asin_, :asinh, :atan, :atanh_, :ceil, :cos_, :cosh, :cube, :eq,
        :erf, :exp_, :expm1, :floor, :ge, :gt, :inv, :le, :log1p_, :log_, :lt, :max, :min, :ne, :not_, :or_, :pow_,
        :rem_, :sigmoid, :sign_, :sin_, :sinh, :sqrt_, :square, :tan_, :tanh_, :where_,
    )
)
const ARRAYS = (:out, :v, :u, :p, :w, :c, :k)
const NUMBERS = Dict{Symbol, Function}(:zero => zero, :one => one, :typemax => typemax)
const FLOATS = Dict{Symbol, Any}(:+ => Core.Intrinsics.add_float, :- => Core.Intrinsics.sub_float,
    :* => Core.Intrinsics.mul_float, :/ => Core.Intrinsics.div_float, :muladd => Core.Intrinsics.muladd_float)
const INTEGERS = Dict{Symbol, Any}(:+ => Core.Intrinsics.add_int, :* => Core.Intrinsics.mul_int)

"""How numbers lie in memory: one after another, those of one trajectory. (See lanes.jl for another layout.)"""
struct Alone{T} end
number(::Alone{T}) where {T} = T

lowered(x::Symbol, layout) = named(x, layout)
lowered(x::LineNumberNode, layout) = nothing
lowered(x::Int, layout) = x

function lowered(x::Expr, layout)
    head, args = x.head, x.args
    head === :block && return block(filter(a -> !(a isa LineNumberNode), args), layout)
    head === :ref && return load(x, layout)
    head === :& && return place(x.args[1], layout)
    head === :call && return called(x, layout)
    head === :for && return looped(x, layout)
    head === :macrocall && args[1] === Symbol("@simd") && return looped(args[end], layout, args[end - 1] === :ivdep)
    head === :return && return Expr(:return, Int32(0))
    head === :(=) && return assigned(args[1], lowered(args[2], layout), layout)
    error("generated source has an expression that is not understood: $x")
end

named(x, ::Alone) = x
block(statements, layout::Alone) = Expr(:block, (lowered(x, layout) for x in statements)...)

load(x, layout) = Expr(:call, Core.Intrinsics.pointerref, array(x), element(x, layout), 1)
assigned(to::Symbol, value, ::Alone) = Expr(:(=), to, value)
assigned(to::Expr, value, layout) = Expr(:call, Core.Intrinsics.pointerset, array(to), value, element(to, layout), 1)
array(x) = x.head === :ref && x.args[1] in ARRAYS ? x.args[1] : error("generated source reads no array: $x")

element(x, ::Alone) = index(x.args[2])
index(x::Union{Int, Symbol}) = x
function index(x::Expr)
    x.head === :ref && return load(x, Alone{Int}())  # of a table
    op = INTEGERS[x.args[1]]
    return foldl((a, b) -> Expr(:call, op, a, b), map(index, x.args[2:end]))
end

function called(x, layout)
    name, args = x.args[1], x.args[2:end]
    haskey(NUMBERS, name) && return NUMBERS[name](number(layout))
    name === :- && length(args) == 1 && return Expr(:call, Core.Intrinsics.neg_float, lowered(args[1], layout))
    haskey(FLOATS, name) && return Expr(:call, FLOATS[name], (lowered(a, layout) for a in args)...)
    haskey(WORDS, name) || error("generated source calls something unknown: $name")
    return Expr(:call, WORDS[name], (lowered(a, layout) for a in args)...)
end

"""`&w[i]`: where an element lies."""
place(x, ::Alone{T}) where {T} = place(x, sizeof(T), T)
function place(x, bytes, ::Type{T}) where {T}
    steps = Expr(:call, Core.Intrinsics.mul_int, Expr(:call, Core.Intrinsics.sub_int, index(x.args[2]), 1), bytes)
    sum = Expr(:call, Core.Intrinsics.add_int, Expr(:call, Core.Intrinsics.bitcast, Int, array(x)), steps)
    return Expr(:call, Core.Intrinsics.bitcast, Ptr{T}, sum)
end

looped(x, layout::Alone{T}) where {T} = counted(x, lowered(x.args[2], layout))
looped(x, layout::Alone{T}, ivdep) where {T} = counted(x, lowered(x.args[2], layout), simd(ivdep, wide(x, T)...))
simd(ivdep, more...) = Expr(:loopinfo, Symbol("julia.simdloop"), ivdep ? Symbol("julia.ivdep") : nothing, more...)

function counted(x, body, info = nothing)
    variable, range = x.args[1].args
    return counted(variable, range.args[2:3]..., body, info)
end
counted(variable, first, last, body, info) = Expr(:block, Expr(:(=), variable, first), Expr(:while,
    Expr(:call, Core.Intrinsics.sle_int, variable, last),
    Expr(:block, body, Expr(:(=), variable, Expr(:call, Core.Intrinsics.add_int, variable, 1)), info)))

# What a loop of these takes is arithmetic. LLVM leaves half of a vector unit of 512 bits unused, for the sake of programs
# that do little with it; of the others, of 256 bits, a loop of this width fills two registers at a time.
const ARITHMETIC = (:exp_, :sigmoid, :tanh_)
const BITS = 512
arithmetic(x) = has_any(x, ARITHMETIC)

# Functions that branch keep a loop from becoming vectors, and LLVM complains to the user where it was told to make it some.
const BRANCHING = Tuple(setdiff(keys(WORDS), ARITHMETIC, (:abs, :ceil, :cube, :eq, :floor, :ge, :gt, :inv, :le, :lt, :max, :min,
    :ne, :not_, :and_, :or_, :square, :where_)))
smooth(x) = !has_any(x, BRANCHING)

"""That a loop shall be made of vectors of `BITS`, where that is worth it."""
function wide(x, ::Type{T}) where {T}
    first, last = x.args[1].args[2].args[2:3]
    lanes = div(BITS, 8 * sizeof(T))
    return last isa Int && last - first + 1 >= 2 * lanes && arithmetic(x) && smooth(x) ?
        ((Symbol("llvm.loop.vectorize.width"), lanes),) : ()
end
has_any(x, names) = x in names || (x isa Expr && any(a -> has_any(a, names), x.args))

# Generated functions live in a module of their own; equal texts are compiled once.
module Generated end
const COMPILED = Dict{Tuple{DataType, String}, Ptr{Cvoid}}()
const COMPILING = ReentrantLock()

"""The address of the function that `source` is in a layout, which `make()` compiles the first time."""
compiled(make, layout::DataType, source::String) = lock(() -> get!(make, COMPILED, (layout, source)), COMPILING)
compiled(layout::Type{Alone{T}}, source::String) where {T} =
    compiled(() -> compile(lowered(Meta.parse(source).args[2], layout()), T, T), layout, source)

"""A function of this body; `t` is a number, or a pointer to those of all lanes."""
function compile(body, ::Type{T}, time) where {T}
    name = Symbol(:rhs_, length(COMPILED))
    Core.eval(Generated, :(
        function $name(out::Ptr{$T}, v::Ptr{$T}, u::Ptr{$T}, p::Ptr{$T}, t::$time, w::Ptr{$T}, c::Ptr{$T}, k::Ptr{Int})
            $body
        end
    ))
    return Core.eval(Generated, function_pointer(name, T, time))
end

function_pointer(name, T, time = T) = :(
    @cfunction($name, Cint, (Ptr{$T}, Ptr{$T}, Ptr{$T}, Ptr{$T}, $time, Ptr{$T}, Ptr{$T}, Ptr{Int}))
)
