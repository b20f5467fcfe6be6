# Products of matrices with vectors, for generated code. They are here, and not in the generated text, because LLVM takes
# 20 ms for one such loop; in this package's image they are machine code already. All arrays are pointers.

"""
    rows!(y, a, step, x, xstep, m, k)

y = A x for a matrix A (m, k) whose rows are contiguous, `step` apart. Four rows share each load of `x`.
"""
@noinline function rows!(y::Ptr{T}, a::Ptr{T}, step::Int, x::Ptr{T}, xstep::Int, m::Int, k::Int) where {T <: AbstractFloat}
    xstep == 1 || return rows_apart!(y, a, step, x, xstep, m, k)
    i = 1
    while i + 3 <= m
        r1 = a + (i - 1) * step * sizeof(T)
        r2, r3, r4 = r1 + step * sizeof(T), r1 + 2step * sizeof(T), r1 + 3step * sizeof(T)
        s1 = s2 = s3 = s4 = zero(T)
        @simd for l in 1:k
            e = unsafe_load(x, l)
            s1 = muladd(unsafe_load(r1, l), e, s1)
            s2 = muladd(unsafe_load(r2, l), e, s2)
            s3 = muladd(unsafe_load(r3, l), e, s3)
            s4 = muladd(unsafe_load(r4, l), e, s4)
        end
        unsafe_store!(y, s1, i)
        unsafe_store!(y, s2, i + 1)
        unsafe_store!(y, s3, i + 2)
        unsafe_store!(y, s4, i + 3)
        i += 4
    end
    rows_apart!(y + (i - 1) * sizeof(T), a + (i - 1) * step * sizeof(T), step, x, 1, m - i + 1, k)
    return nothing
end

function rows_apart!(y::Ptr{T}, a::Ptr{T}, step::Int, x::Ptr{T}, xstep::Int, m::Int, k::Int) where {T}
    for i in 1:m
        s = zero(T)
        @simd for l in 1:k
            s = muladd(unsafe_load(a, (i - 1) * step + l), unsafe_load(x, (l - 1) * xstep + 1), s)
        end
        unsafe_store!(y, s, i)
    end
    return nothing
end

"""
    columns!(y, a, step, x, xstep, m, k)

y = A x for a matrix A (m, k) whose columns are contiguous, `step` apart. Eight columns share each pass over `y`.
"""
@noinline function columns!(y::Ptr{T}, a::Ptr{T}, step::Int, x::Ptr{T}, xstep::Int, m::Int, k::Int) where {T <: AbstractFloat}
    m == 1 && return one_row!(y, a, step, x, xstep, k)
    m == 2 && step == 2 && return two_rows!(y, a, x, xstep, k)
    @simd ivdep for i in 1:m
        unsafe_store!(y, zero(T), i)
    end
    l = 0
    while l + 8 <= k
        eight_columns!(y, a + l * step * sizeof(T), step, x + l * xstep * sizeof(T), xstep, m)
        l += 8
    end
    while l < k
        c, e = a + l * step * sizeof(T), unsafe_load(x, l * xstep + 1)
        @simd ivdep for i in 1:m
            unsafe_store!(y, muladd(unsafe_load(c, i), e, unsafe_load(y, i)), i)
        end
        l += 1
    end
    return nothing
end

@inline function eight_columns!(y::Ptr{T}, a::Ptr{T}, step::Int, x::Ptr{T}, xstep::Int, m::Int) where {T}
    c = ntuple(q -> a + (q - 1) * step * sizeof(T), Val(8))
    e = ntuple(q -> unsafe_load(x, (q - 1) * xstep + 1), Val(8))
    @simd ivdep for i in 1:m
        s1 = muladd(unsafe_load(c[1], i), e[1], muladd(unsafe_load(c[2], i), e[2], unsafe_load(y, i)))
        s2 = muladd(unsafe_load(c[3], i), e[3], unsafe_load(c[4], i) * e[4])
        s3 = muladd(unsafe_load(c[5], i), e[5], unsafe_load(c[6], i) * e[6])
        s4 = muladd(unsafe_load(c[7], i), e[7], unsafe_load(c[8], i) * e[8])
        unsafe_store!(y, (s1 + s2) + (s3 + s4), i)
    end
end

function one_row!(y::Ptr{T}, a::Ptr{T}, step::Int, x::Ptr{T}, xstep::Int, k::Int) where {T}
    s = zero(T)
    @simd for l in 0:(k - 1)
        s = muladd(unsafe_load(a, l * step + 1), unsafe_load(x, l * xstep + 1), s)
    end
    unsafe_store!(y, s, 1)
    return nothing
end

function two_rows!(y::Ptr{T}, a::Ptr{T}, x::Ptr{T}, xstep::Int, k::Int) where {T}
    s1 = s2 = zero(T)
    @simd for l in 0:(k - 1)
        e = unsafe_load(x, l * xstep + 1)
        s1 = muladd(unsafe_load(a, 2l + 1), e, s1)
        s2 = muladd(unsafe_load(a, 2l + 2), e, s2)
    end
    unsafe_store!(y, s1, 1)
    unsafe_store!(y, s2, 2)
    return nothing
end

"""
    outer!(y, a, astep, b, bstep, m, n)

y[i, j] = a[i] b[j], with contiguous rows of y.
"""
@noinline function outer!(y::Ptr{T}, a::Ptr{T}, astep::Int, b::Ptr{T}, bstep::Int, m::Int, n::Int) where {T <: AbstractFloat}
    for i in 0:(m - 1)
        row, e = y + i * n * sizeof(T), unsafe_load(a, i * astep + 1)
        if bstep == 1
            @simd ivdep for j in 1:n
                unsafe_store!(row, e * unsafe_load(b, j), j)
            end
        else
            for j in 1:n
                unsafe_store!(row, e * unsafe_load(b, (j - 1) * bstep + 1), j)
            end
        end
    end
    return nothing
end

# Compiled for both number types with this package.
for T in (Float64, Float32)
    for f in (rows!, columns!, outer!)
        precompile(f, (Ptr{T}, Ptr{T}, Int, Ptr{T}, Int, Int, Int))
    end
    precompile(gemm!, (Ptr{T}, Ptr{T}, Int, Int, Ptr{T}, Int, Int, Int, Int, Int))
end
