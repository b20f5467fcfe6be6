# Memory as generated code sees it: a bare pointer. Solvers and adjoints hand over vectors, views and memory of SUNDIALS
# alike; one form for all of them keeps one compiled form of every model, and passing it allocates nothing.

address(x::AbstractArray) = pointer(x)
address(x::LinearAlgebra.Adjoint{<:Real, <:AbstractVector}) = pointer(parent(x))

"""
    gemm!(out, a, a_step, a_rows, b, b_step, b_rows, m, k, n)

The row-major product of a (m, k) and b (k, n), all of them pointers. `a_rows`: 1 if rows of `a` are contiguous, 0 if its
columns are; `a_step` is from one of them to the next. Computed as the column-major product of the transposes, so that
nothing is moved. A product with a single column or row is gemv's.
"""
function gemm! end

"""
    add_products!(out, a, b, step, m, n, count)

Adds the outer products a_i b_iᵀ, i = 1, ..., count, to the row-major `out` (m, n); `step` is from a_i to the next, and from b_i.
"""
function add_products! end

for (T, gemm, gemv) in ((Float64, :dgemm_64_, :dgemv_64_), (Float32, :sgemm_64_, :sgemv_64_))
    @eval @noinline function gemm!(out::Ptr{$T}, a::Ptr{$T}, as::Int, ar::Int, b::Ptr{$T}, bs::Int, br::Int, m::Int, k::Int, n::Int)
        m == 1 && return gemv!(out, b, bs, 1 - br, a, ar == 1 ? 1 : as, n, k)
        n == 1 && return gemv!(out, a, as, ar, b, br == 1 ? bs : 1, m, k)
        ccall(
            ($(string(gemm)), BLAS.libblastrampoline), Cvoid,
            (Ref{UInt8}, Ref{UInt8}, Ref{Int64}, Ref{Int64}, Ref{Int64}, Ref{$T}, Ptr{$T}, Ref{Int64}, Ptr{$T},
             Ref{Int64}, Ref{$T}, Ptr{$T}, Ref{Int64}, Clong, Clong),
            br == 1 ? 'N' : 'T', ar == 1 ? 'N' : 'T', n, m, k, one($T), b, bs, a, as, zero($T), out, n, 1, 1,
        )
        return nothing
    end
    @eval @noinline function add_products!(out::Ptr{$T}, a::Ptr{$T}, b::Ptr{$T}, step::Int, m::Int, n::Int, count::Int)
        ccall(
            ($(string(gemm)), BLAS.libblastrampoline), Cvoid,
            (Ref{UInt8}, Ref{UInt8}, Ref{Int64}, Ref{Int64}, Ref{Int64}, Ref{$T}, Ptr{$T}, Ref{Int64}, Ptr{$T},
             Ref{Int64}, Ref{$T}, Ptr{$T}, Ref{Int64}, Clong, Clong),
            'N', 'T', n, m, count, one($T), b, step, a, step, one($T), out, n, 1, 1,
        )
        return nothing
    end
    # y = A x for A (m, k) with contiguous rows (`rows` 1) or columns (0).
    @eval function gemv!(y::Ptr{$T}, a::Ptr{$T}, step::Int, rows::Int, x::Ptr{$T}, xstep::Int, m::Int, k::Int)
        inner, outer = rows == 1 ? (k, m) : (m, k)
        ccall(
            ($(string(gemv)), BLAS.libblastrampoline), Cvoid,
            (Ref{UInt8}, Ref{Int64}, Ref{Int64}, Ref{$T}, Ptr{$T}, Ref{Int64}, Ptr{$T}, Ref{Int64}, Ref{$T}, Ptr{$T},
             Ref{Int64}, Clong),
            rows == 1 ? 'T' : 'N', inner, outer, one($T), a, step, x, xstep, zero($T), y, 1, 1,
        )
        return nothing
    end
end
