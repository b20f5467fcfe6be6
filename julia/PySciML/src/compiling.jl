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

lowered(x::Symbol, ::Type) = x
lowered(x::LineNumberNode, ::Type) = nothing
lowered(x::Int, ::Type) = x

function lowered(x::Expr, ::Type{T}) where {T}
    head, args = x.head, x.args
    head === :block && return Expr(:block, (lowered(a, T) for a in args if !(a isa LineNumberNode))...)
    head === :ref && return load(x)
    head === :& && return place(x.args[1], T)
    head === :call && return called(x, T)
    head === :for && return looped(x, T)
    head === :macrocall && args[1] === Symbol("@simd") &&
        return looped(args[end], T, Expr(:loopinfo, Symbol("julia.simdloop"), args[end - 1] === :ivdep ? Symbol("julia.ivdep") : nothing,
            wide(args[end], T)...))
    head === :return && return Expr(:return, Int32(0))
    if head === :(=)
        to, value = args[1], lowered(args[2], T)
        to isa Symbol && return Expr(:(=), to, value)
        return Expr(:call, Core.Intrinsics.pointerset, array(to), value, index(to.args[2]), 1)
    end
    error("generated source has an expression that is not understood: $x")
end

load(x) = Expr(:call, Core.Intrinsics.pointerref, array(x), index(x.args[2]), 1)
array(x) = x.head === :ref && x.args[1] in ARRAYS ? x.args[1] : error("generated source reads no array: $x")

index(x::Union{Int, Symbol}) = x
function index(x::Expr)
    x.head === :ref && return load(x)
    op = INTEGERS[x.args[1]]
    return foldl((a, b) -> Expr(:call, op, a, b), map(index, x.args[2:end]))
end

function called(x, ::Type{T}) where {T}
    name, args = x.args[1], x.args[2:end]
    haskey(NUMBERS, name) && return NUMBERS[name](T)
    name === :- && length(args) == 1 && return Expr(:call, Core.Intrinsics.neg_float, lowered(args[1], T))
    haskey(FLOATS, name) && return Expr(:call, FLOATS[name], (lowered(a, T) for a in args)...)
    haskey(WORDS, name) || error("generated source calls something unknown: $name")
    return Expr(:call, WORDS[name], (lowered(a, T) for a in args)...)
end

"""`&w[i]`: where an element lies."""
function place(x, ::Type{T}) where {T}
    steps = Expr(:call, Core.Intrinsics.mul_int, Expr(:call, Core.Intrinsics.sub_int, index(x.args[2]), 1), sizeof(T))
    sum = Expr(:call, Core.Intrinsics.add_int, Expr(:call, Core.Intrinsics.bitcast, Int, array(x)), steps)
    return Expr(:call, Core.Intrinsics.bitcast, Ptr{T}, sum)
end

function looped(x, ::Type{T}, info = nothing) where {T}
    variable, range = x.args[1].args
    first, last = range.args[2:3]
    return Expr(:block, Expr(:(=), variable, first), Expr(:while,
        Expr(:call, Core.Intrinsics.sle_int, variable, last),
        Expr(:block, lowered(x.args[2], T), Expr(:(=), variable, Expr(:call, Core.Intrinsics.add_int, variable, 1)), info)))
end

# What a loop of these takes is arithmetic. LLVM leaves half of a vector unit of 512 bits unused, for the sake of programs
# that do little with it; of the others, of 256 bits, a loop of this width fills two registers at a time.
const ARITHMETIC = (:exp_, :sigmoid, :tanh_)
const BITS = 512

"""That a loop shall be made of vectors of `BITS`, where that is worth it."""
function wide(x, ::Type{T}) where {T}
    first, last = x.args[1].args[2].args[2:3]
    lanes = div(BITS, 8 * sizeof(T))
    return last isa Int && last - first + 1 >= 2 * lanes && has_any(x, ARITHMETIC) ? ((Symbol("llvm.loop.vectorize.width"), lanes),) : ()
end
has_any(x, names) = x in names || (x isa Expr && any(a -> has_any(a, names), x.args))

# Generated functions live in a module of their own; equal texts are compiled once.
module Generated end
const COMPILED = Dict{Tuple{DataType, String}, Ptr{Cvoid}}()
const COMPILING = ReentrantLock()

"""The address of the function that `source` is, compiled the first time."""
compiled(::Type{T}, source::String) where {T} =
    lock(() -> get!(() -> compile(T, source), COMPILED, (T, source)), COMPILING)

function compile(::Type{T}, source::String) where {T}
    name = Symbol(:rhs_, length(COMPILED))
    body = lowered(Meta.parse(source).args[2], T)
    Core.eval(Generated, :(
        function $name(out::Ptr{$T}, v::Ptr{$T}, u::Ptr{$T}, p::Ptr{$T}, t::$T, w::Ptr{$T}, c::Ptr{$T}, k::Ptr{Int})
            $body
        end
    ))
    return Core.eval(Generated, function_pointer(name, T))
end

function_pointer(name, T) = :(
    @cfunction($name, Cint, (Ptr{$T}, Ptr{$T}, Ptr{$T}, Ptr{$T}, $T, Ptr{$T}, Ptr{$T}, Ptr{Int}))
)
