# The system of one step of a collocation, with the Jacobian J_i of each of its s nodes:
#
#     M = [ δ_il mass - h A_il J_i ],  blocks of n states by node i and l,
#
# solved transposed, once a step. What M looks like is the same at all steps, so the memory for it is made once, and of a
# sparse one the order of its elimination. A narrow band, as lines of cells have it, is faster still than what is sparse.

"""A dense M."""
struct DenseSystem{T}
    M::Matrix{T}
end

function solve_transposed!(system::DenseSystem, μ, Js, mass, A, h)
    n, s, M = length(mass), length(Js), system.M
    for l in 1:s, i in 1:s
        J, factor = Js[i], h * A[i, l]
        for c in 1:n, r in 1:n
            M[n * (i - 1) + r, n * (l - 1) + c] = (i == l && r == c) * mass[r] - factor * J[r, c]
        end
    end
    n * s <= SMALL ? eliminate!(M, μ) : ldiv!(transpose(lu!(M)), μ)
    return nothing
end

# Up to this size LAPACK's calls take longer than the arithmetic.
const SMALL = 16

"""x with Mᵀ x = μ, in the place of μ, by Gaussian elimination with partial pivoting; rows of Mᵀ are columns of M."""
function eliminate!(M::Matrix{T}, μ::Vector{T}) where {T}
    n = length(μ)
    @inbounds for k in 1:n
        p = k
        for i in (k + 1):n
            abs(M[k, i]) > abs(M[k, p]) && (p = i)
        end
        iszero(M[k, p]) && throw(LinearAlgebra.SingularException(k))
        if p != k
            for j in k:n
                M[j, k], M[j, p] = M[j, p], M[j, k]
            end
            μ[k], μ[p] = μ[p], μ[k]
        end
        inverse = inv(M[k, k])
        for i in (k + 1):n
            factor = -M[k, i] * inverse
            @simd ivdep for j in (k + 1):n
                M[j, i] = muladd(factor, M[j, k], M[j, i])
            end
            μ[i] = muladd(factor, μ[k], μ[i])
        end
    end
    @inbounds for k in n:-1:1
        for j in (k + 1):n
            μ[k] = muladd(-M[j, k], μ[j], μ[k])
        end
        μ[k] /= M[k, k]
    end
    return nothing
end

"""
Mᵀ as a band in LAPACK's form: `lower` diagonals below the main one, `upper` above it, room above for as many as `lower`
more, and below for whole lanes. The nodes of one state are neighbours, state by state.
"""
struct BandSystem{T}
    band::Matrix{T}
    lower::Int
    upper::Int
    x::Vector{T}
end

function solve_transposed!(system::BandSystem, μ, Js, mass, A, h)
    n, s, band = length(mass), length(Js), system.band
    main, x = system.lower + system.upper + 1, system.x
    fill!(band, 0)
    for l in 1:s, i in 1:s
        take!(system, Js[i], i, l, s, h * A[i, l])
    end
    for r in 1:n, i in 1:s
        band[main, s * (r - 1) + i] += mass[r]
        x[s * (r - 1) + i] = μ[n * (i - 1) + r]
    end
    if system.lower <= WIDEST
        eliminate!(system)
    else
        _, pivots = LinearAlgebra.LAPACK.gbtrf!(system.lower, system.upper, n * s, band)
        LinearAlgebra.LAPACK.gbtrs!('N', system.lower, system.upper, n * s, band, pivots, x)
    end
    for r in 1:n, i in 1:s
        μ[n * (i - 1) + r] = x[s * (r - 1) + i]
    end
    return nothing
end

# Up to so many diagonals LAPACK's calls, three a column, take longer than the arithmetic.
const WIDEST = 48
# What is below the main diagonal is worked on in vectors of this length.
const LANES = 8
const Lanes{T} = NTuple{LANES, VecElement{T}}
lanes(lower) = cld(lower, LANES)
@inline times(a::Lanes, x) = ntuple(i -> VecElement(a[i].value * x), Val(LANES))
@inline plus_times(c::Lanes, a::Lanes, x) = ntuple(i -> VecElement(muladd(a[i].value, x, c[i].value)), Val(LANES))

"""Solves with the band for `x`, in its place, by Gaussian elimination with partial pivoting; the band is used up."""
function eliminate!(system::BandSystem{T}) where {T}
    band, x, lower = system.band, system.x, system.lower
    n, rows, main, most = length(x), size(band, 1), lower + system.upper + 1, lower + system.upper
    GC.@preserve band begin
        below(i, j) = Ptr{Lanes{T}}(pointer(band, i + 1 + rows * (j - 1)))
        @inbounds for k in 1:n
            last = min(most, n - k)
            p = largest_below(band, main, k, min(lower, n - k))
            if p != 0
                for j in 0:last
                    band[main - j, k + j], band[main - j + p, k + j] = band[main - j + p, k + j], band[main - j, k + j]
                end
                x[k], x[k + p] = x[k + p], x[k]
            end
            inverse = band[main, k] = inv(band[main, k])
            for first in main:LANES:(main + LANES * (lanes(lower) - 1))
                column = times(unsafe_load(below(first, k)), -inverse)
                unsafe_store!(below(first, k), column)
                for j in 1:last
                    to = below(first - j, k + j)
                    unsafe_store!(to, plus_times(unsafe_load(to), column, band[main - j, k + j]))
                end
            end
            here = x[k]
            for i in 1:min(lower, n - k)
                x[k + i] = muladd(band[main + i, k], here, x[k + i])
            end
        end
    end
    @inbounds for k in n:-1:1
        here = x[k] *= band[main, k]
        @simd ivdep for j in 1:min(most, k - 1)
            x[k - j] = muladd(-here, band[main - j, k], x[k - j])
        end
    end
    return nothing
end

"""How far below the diagonal the largest number of a column is."""
@inline function largest_below(band, main, k, last)
    place, largest = 0, abs(band[main, k])
    @inbounds for i in 1:last
        size = abs(band[main + i, k])
        place, largest = ifelse(size > largest, i, place), ifelse(size > largest, size, largest)
    end
    iszero(largest) && throw(LinearAlgebra.SingularException(k))
    return place
end

"""Subtracts `factor` J from block (i, l) of M, whose transpose is the band."""
function take!(system::BandSystem, J::SparseMatrixCSC, i, l, s, factor)
    main = system.lower + system.upper + 1
    for c in 1:size(J, 2), k in nzrange(J, c)
        row, column = s * (rowvals(J)[k] - 1) + i, s * (c - 1) + l
        system.band[main + column - row, row] -= factor * nonzeros(J)[k]
    end
    return nothing
end

function take!(system::BandSystem, J::Matrix, i, l, s, factor)
    main, n = system.lower + system.upper + 1, size(J, 1)
    above, below = div(system.lower + 1, s) - 1, div(system.upper + 1, s) - 1
    for c in 1:n, r in max(1, c - above):min(n, c + below)
        row, column = s * (r - 1) + i, s * (c - 1) + l
        system.band[main + column - row, row] -= factor * J[r, c]
    end
    return nothing
end

"""A sparse M: `entries` (nonzeros of J, i, l) and `diagonal` (n s) say where numbers go in it."""
mutable struct SparseSystem{T}
    M::SparseMatrixCSC{T, Int}
    entries::Array{Int, 3}
    diagonal::Vector{Int}
    factors::Any
end

function solve_transposed!(system::SparseSystem, μ, Js::Vector{<:SparseMatrixCSC}, mass, A, h)
    n, s, values = length(mass), length(Js), nonzeros(system.M)
    fill!(values, 0)
    for l in 1:s, i in 1:s
        J, factor = nonzeros(Js[i]), h * A[i, l]
        for k in eachindex(J)
            values[system.entries[k, i, l]] -= factor * J[k]
        end
    end
    for i in 1:s, r in 1:n
        values[system.diagonal[n * (i - 1) + r]] += mass[r]
    end
    system.factors = system.factors === nothing ? LinearAlgebra.lu(system.M) : lu!(system.factors, system.M)
    ldiv!(transpose(system.factors), μ)
    return nothing
end

const NARROW = 16  # diagonals besides the main one

"""The system of s nodes; where J is dense, `below` and `above` are how many diagonals of it are not zero, if that is known."""
function step_system(J::Matrix{T}, s, below, above) where {T}
    n = size(J, 1)
    0 <= below + above <= min(NARROW, n ÷ 4) && return band_system(n, s, below, above, T)
    return DenseSystem(zeros(T, n * s, n * s))
end

function band_system(n, s, below, above, ::Type{T}) where {T}
    lower, upper = s * (above + 1) - 1, s * (below + 1) - 1
    return BandSystem(zeros(T, lower + upper + 1 + LANES * lanes(lower), n * s), lower, upper, zeros(T, n * s))
end

function step_system(J::SparseMatrixCSC{T}, s, _...) where {T}
    n, places = size(J, 1), [(rowvals(J)[k], c) for c in 1:size(J, 2) for k in nzrange(J, c)]
    below, above = maximum(r - c for (r, c) in places; init = 0), maximum(c - r for (r, c) in places; init = 0)
    return below + above <= NARROW ? band_system(n, s, below, above, T) : sparse_system(places, n, s, T)
end

function sparse_system(places, n, s, ::Type{T}) where {T}
    blocks = [(n * (i - 1) + r, n * (l - 1) + c) for l in 1:s for i in 1:s for (r, c) in places]
    all = [blocks; [(d, d) for d in 1:(n * s)]]
    M = sparse(first.(all), last.(all), ones(T, length(all)))
    where_is((row, column)) = nzrange(M, column)[searchsortedfirst(view(rowvals(M), nzrange(M, column)), row)]
    return SparseSystem{T}(M, reshape(map(where_is, blocks), length(places), s, s), map(d -> where_is((d, d)), 1:(n * s)), nothing)
end
