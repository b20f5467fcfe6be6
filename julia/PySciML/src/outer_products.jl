# The gradient in p of wide networks. That of a weight matrix which meets one vector is an outer product, m n numbers made
# of m + n; a solve adds up hundreds of them, and writing each takes ten times as long as the product that it stems from.
# So the vectors are kept, as columns, and the sum over many columns is one product of matrices.

"""A block of the gradient, row by row after `place`: the product of vectors that lie after `left` and `right` of a column."""
struct Outer
    place::Int
    rows::Int
    columns::Int
    left::Int
    right::Int
end

"""`count` numbers of the gradient, after `place`, that lie as they are after `start` of a column."""
struct Copied
    place::Int
    start::Int
    count::Int
end

"""What gives vᵀ df/du, and after that what vᵀ df/dp is made of: columns of `size` numbers."""
struct Factored{T}
    code::Code{T}
    size::Int
    copied::Vector{Copied}
    outer::Vector{Outer}
end

"""
    by_factors!(model, size, copied, outer)

From here on adjoints take the gradient in p from the model's `factors`. The tables hold the fields of `Copied` and `Outer`
one after another, from 0 on.
"""
function by_factors!(model::Model{T}, size, copied, outer) where {T}
    each(K, table) = [K(fields...) for fields in Iterators.partition(Vector{Int}(table), fieldcount(K))]
    model.vjp_p.factored = Factored{T}(model.factors, size, each(Copied, copied), each(Outer, outer))
    return nothing
end

const MOST_WAITING = 48

"""Columns that wait to be added to a gradient, and the square of the norm of what they add up to, where that is asked for."""
mutable struct Waiting{T}
    pull::Part{T, :factors}
    factored::Factored{T}
    columns::Matrix{T}
    count::Int
    squared::T
end

"""For the models whose `vjp_p` this is; nothing where their gradient has no factors."""
waiting(vjp_p::Code{T}) where {T} = isnothing(vjp_p.factored) ? nothing : waiting(vjp_p.factored::Factored{T})
waiting(factored::Factored{T}) where {T} = Waiting{T}(Part{T, :factors}(factored.code, T[zero(T)], Ref(0)), factored,
    zeros(T, factored.size, MOST_WAITING), 0, zero(T))

room(w::Waiting) = size(w.columns, 2) - w.count
clear!(w::Waiting) = (w.count = 0; w.squared = 0; nothing)

"""vᵀ df/du, in a column that waits from here on."""
function pull!(w::Waiting, v, u, p, t)
    w.count += 1
    column = view(w.columns, :, w.count)
    run!(w.pull, column, v, u, p, t)
    return column
end

"""Adds all that waits to `dp`."""
function add_waiting!(dp, w::Waiting)
    add_columns!(dp, w, 1, w.count)
    clear!(w)
    return nothing
end

"""Adds the `count` columns from `first` on to `dp`."""
function add_columns!(dp::Vector{T}, w::Waiting{T}, first, count) where {T}
    count == 0 && return nothing
    columns, size = w.columns, w.factored.size
    for j in first:(first + count - 1), c in w.factored.copied
        @simd for l in 1:c.count
            @inbounds dp[c.place + l] += columns[c.start + l, j]
        end
    end
    GC.@preserve dp columns for o in w.factored.outer
        start = pointer(columns, (first - 1) * size + 1)
        add_products!(pointer(dp, o.place + 1), start + o.left * sizeof(T), start + o.right * sizeof(T), size, o.rows, o.columns, count)
    end
    return nothing
end

"""The scalar product of what columns i and j stand for."""
function scalar(w::Waiting{T}, i, j) where {T}
    total = zero(T)
    for c in w.factored.copied
        total += scalar(w.columns, c.start, c.count, i, j)
    end
    for o in w.factored.outer
        total += scalar(w.columns, o.left, o.rows, i, j) * scalar(w.columns, o.right, o.columns, i, j)
    end
    return total
end

function scalar(columns::Matrix{T}, start, count, i, j) where {T}
    total = zero(T)
    @simd for l in (start + 1):(start + count)
        @inbounds total = muladd(columns[l, i], columns[l, j], total)
    end
    return total
end
