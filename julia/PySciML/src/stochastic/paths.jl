# Paths of stochastic equations, by StochasticDiffEq.

"""
    stochastic_algorithm(name, differences, options, interpretation)

An algorithm of StochasticDiffEq; `differences` as of `algorithm`. `interpretation` is "Ito" or "Stratonovich" for one that
solves both, else "".
"""
function stochastic_algorithm(name, differences, options, interpretation)
    chosen = Dict{Symbol, Any}(Symbol(k) => v for (k, v) in options)
    isempty(interpretation) ||
        (chosen[:interpretation] = getfield(SciMLBase.AlgorithmInterpretation, Symbol(interpretation)))
    return algorithm("StochasticDiffEq", name, differences, chosen)
end

"""How noise enters: `count` blocks of `rows` states each, every block with `columns` Brownian motions of its own."""
struct Blocks
    count::Int
    rows::Int
    columns::Int
end
is_diagonal(b::Blocks) = b.rows == b.columns == 1
motions(b::Blocks) = b.count * b.columns

"""The diffusion of all blocks as the matrix that SciML multiplies with dW: what is off the blocks is zero."""
struct BlockMatrix{T} <: AbstractMatrix{T}
    values::Vector{T}  # of each block, row by row
    blocks::Blocks
end
Base.size(x::BlockMatrix) = (x.blocks.count * x.blocks.rows, motions(x.blocks))
Base.similar(x::BlockMatrix{T}) where {T} = BlockMatrix(similar(x.values), x.blocks)
Base.copy(x::BlockMatrix) = BlockMatrix(copy(x.values), x.blocks)
Base.zero(x::BlockMatrix) = BlockMatrix(zero(x.values), x.blocks)

function Base.getindex(x::BlockMatrix{T}, i::Int, j::Int) where {T}
    (b, r), (other, c) = divrem(i - 1, x.blocks.rows), divrem(j - 1, x.blocks.columns)
    return b == other ? x.values[(b * x.blocks.rows + r) * x.blocks.columns + c + 1] : zero(T)
end
function Base.setindex!(x::BlockMatrix, value, i::Int, j::Int)
    (b, r), (other, c) = divrem(i - 1, x.blocks.rows), divrem(j - 1, x.blocks.columns)
    b == other && (x.values[(b * x.blocks.rows + r) * x.blocks.columns + c + 1] = value)
    return x
end

function LinearAlgebra.mul!(y::AbstractVector, x::BlockMatrix, w::AbstractVector, α::Number, β::Number)
    y .*= β
    contract!(y, x.values, w, x.blocks, α)
    return y
end
LinearAlgebra.mul!(y::AbstractVector, x::BlockMatrix, w::AbstractVector) = (fill!(y, 0); contract!(y, x.values, w, x.blocks, 1); y)
LinearAlgebra.norm(x::BlockMatrix, p::Real) = LinearAlgebra.norm(x.values, p)

"""y += α g w, of the blocks of g, row by row."""
function contract!(y, g, w, blocks::Blocks, α)
    if is_diagonal(blocks)
        view(y, 1:blocks.count) .+= α .* view(g, 1:blocks.count) .* view(w, 1:blocks.count)
        return nothing
    end
    at = 0
    for b in 0:(blocks.count - 1), r in 1:blocks.rows
        s = zero(eltype(y))
        for c in 1:blocks.columns
            s += g[at + c] * w[b * blocks.columns + c]
        end
        y[b * blocks.rows + r] += α * s
        at += blocks.columns
    end
    return nothing
end

"""ḡ += v wᵀ, block by block: what `contract!` makes of a cotangent v of its result."""
function spread!(ḡ, v, w, blocks::Blocks)
    if is_diagonal(blocks)
        view(ḡ, 1:blocks.count) .+= view(v, 1:blocks.count) .* view(w, 1:blocks.count)
        return nothing
    end
    at = 0
    for b in 0:(blocks.count - 1), r in 1:blocks.rows
        for c in 1:blocks.columns
            ḡ[at + c] += v[b * blocks.rows + r] * w[b * blocks.columns + c]
        end
        at += blocks.columns
    end
    return nothing
end

"""A diffusion as SciML calls it. Its model is square: of state and results the first ones count."""
struct Diffusion{T, G}
    g::G
    blocks::Blocks
    state::Vector{T}
    values::Vector{T}
end

function values!(d::Diffusion, u, t)
    copyto!(d.state, u)
    d.g(d.values, d.state, nothing, t)
    return d.values
end
(d::Diffusion)(out::AbstractVector, u, p, t) = (copyto!(out, 1, values!(d, u, t), 1, d.blocks.count); nothing)
(d::Diffusion)(out::BlockMatrix, u, p, t) = (copyto!(out.values, 1, values!(d, u, t), 1, length(out.values)); nothing)
(d::Diffusion)(out::Matrix, u, p, t) = (LinearAlgebra.transpose!(out, reshape(view(values!(d, u, t), 1:length(out)), size(out, 2), :)); nothing)

SciMLBase.isinplace(::Diffusion, ::Int, ::AbstractString, ::Bool; options...) = true

"""What a path is of: has a model `f`, which `blocks` of noise there are, and a `stochastic_problem`."""
abstract type AbstractEquation{T} end

"""
A stochastic equation du = f dt + g dW: models of drift and diffusion, and where among the parameters of the whole each
has its own, from 1 on.
"""
struct Equation{T} <: AbstractEquation{T}
    f::Model{T}
    g::Model{T}
    f_places::Vector{Int}
    g_places::Vector{Int}
    blocks::Blocks
end
Equation(f::Model{T}, g::Model{T}, f_places, g_places, count, rows, columns) where {T} =
    Equation{T}(f, g, Vector{Int}(f_places) .+ 1, Vector{Int}(g_places) .+ 1, Blocks(count, rows, columns))

part(model::Model{T}, kind, p) where {T} =
    Own(Part{T, kind}(model, Vector{T}(undef, max(getfield(model, kind).work, 1))), p)

diffusion_of(eq::Equation{T}, p) where {T} =
    Diffusion(part(eq.g, :f, p[eq.g_places]), eq.blocks, zeros(T, eq.g.n), zeros(T, eq.g.n))

"""
The noise of the i-th path: drawn by the solver, or remembered, as what makes it of functions and whether there is a second
one, or given as what makes it of a grid, the times of this, and W and Z (motions, k, N or 1).
"""
wiener(eq, t0, seed, noise::Nothing, i) = nothing
wiener(eq, t0, seed, (make, second)::NTuple{2, Any}, i) =
    remembered(make, number(eq.f), seed, t0, motions(eq.blocks), second)
function wiener(eq, t0, seed, (grid, t, W, Z)::NTuple{4, Any}, i)
    T = number(eq.f)
    columns(x) = [Vector{T}(c) for c in eachcol(view(x, :, :, size(x, 3) == 1 ? 1 : i))]
    return grid(Vector{T}(t), columns(W), isempty(Z) ? nothing : columns(Z))
end

"""Whether a solver of stochastic equations uses a second Brownian motion."""
needs_second(alg) = package_of("StochasticDiffEq", "StochasticDiffEqCore").alg_needs_extra_process(alg)

"""A solved path: its steps with the Brownian motions there, and by what scheme they were taken."""
struct Path{T}
    equation::AbstractEquation{T}
    alg::Any
    p::Vector{T}
    t::Vector{T}
    u::Vector{Vector{T}}
    W::Vector{Vector{T}}
    Z::Vector{Vector{T}}  # empty where there is no second motion
end
second_motions(path::Path) = isempty(path.Z) ? 0 : length(first(path.Z))

function stochastic_problem(eq::Equation{T}, alg, u0, p, t0, t1, seed, noise) where {T}
    f, g = part(eq.f, :f, p[eq.f_places]), diffusion_of(eq, p)
    derivatives = hasfield(typeof(alg), :nlsolve) ?
        (; jac = part(eq.f, :jac, f.p), jac_prototype = zeros(T, eq.f.n, eq.f.n)) : (;)
    sde = SciMLBase.SDEFunction{true, SciMLBase.FullSpecialize}(f, g; derivatives...)
    b = eq.blocks
    noise_rate_prototype = is_diagonal(b) ? nothing :
        b.count == 1 ? zeros(T, b.rows, b.columns) : BlockMatrix(zeros(T, b.count * b.rows * b.columns), b)
    return SciMLBase.SDEProblem{true}(sde, u0, (t0, t1), T[]; noise_rate_prototype, seed, noise)
end

"""What solves an equation by this algorithm, and the options that this takes besides."""
stepper(::AbstractEquation, alg) = alg
own_options(::AbstractEquation, seed) = (;)

"""
    solve_path!(out, counts, equation, alg, u0, p, t0, t1, ts, reltol, abstol, options, seed, noise)

Solves one path, on steps that end at `ts`, and writes the states there to the columns of `out` (n, k). Returns a `Path`.
Throws `Stopped` if the end was not reached.
"""
function solve_path!(out, counts, eq::AbstractEquation{T}, alg, u0, p, t0, t1, ts, reltol, abstol, options, seed, noise) where {T}
    p = Vector{T}(p)
    prob = stochastic_problem(eq, alg, Vector{T}(u0), p, T(t0), T(t1), seed, noise)
    tstops = Vector{T}(filter(t -> T(t0) < t < T(t1), Vector{T}(ts)))
    sol = SciMLBase.solve(prob, stepper(eq, alg); own_options(eq, seed)..., reltol = tolerance(T, reltol), abstol = tolerance(T, abstol), verbose = Silent(),
        tstops, save_everystep = true, save_noise = true, dense = false, options...)
    check_end(sol, "forward")
    path = path_of(sol, eq, alg, p, noise === nothing)
    at_times!(out, path, ts)
    copyto!(counts, count_work(sol))
    return path
end

"""What is kept of a solution. Called with all types known, which a problem's are only when it is there."""
function path_of(sol, eq::AbstractEquation{T}, alg, p, drawn) where {T}
    W, Z = drawn ? (sol.W.W, sol.W.Z) : asked(sol.W, sol.t)
    for kept in (W, Z)
        kept === nothing || length(kept) == length(sol.t) ||
            error("the solver kept $(length(kept)) values of its noise for $(length(sol.t)) steps")
    end
    return Path{T}(eq, alg, p, sol.t, each_as(T, sol.u), each_as(T, W), Z === nothing ? Vector{T}[] : each_as(T, Z))
end

each_as(::Type{T}, x) where {T} = Vector{T}[convert(Vector{T}, one) for one in x]

"""The Brownian motions W and Z of a noise that was given, at the times `ts`; no Z where there is none."""
function asked(noise, ts)
    pairs = map(noise, ts)
    return map(first, pairs), any(isnothing ∘ last, pairs) ? nothing : map(last, pairs)
end

"""The step that t lies in, and how far into it, from 0 to 1."""
function placed(path::Path, t)
    i = clamp(searchsortedlast(path.t, t), 1, length(path.t) - 1)
    t >= path.t[i + 1] && return i, one(t)
    return i, (t - path.t[i]) / (path.t[i + 1] - path.t[i])
end

"""The states at `ts`, linear between steps."""
function at_times!(out, path::Path{T}, ts) where {T}
    for (k, t) in enumerate(ts)
        i, θ = placed(path, T(t))
        view(out, :, k) .= (1 - θ) .* path.u[i] .+ θ .* path.u[i + 1]
    end
    return nothing
end

"""
    solve_paths!(out, counts, equation, alg, u0, p, t0, t1, ts, reltol, abstol, options, seeds, noise)

`solve_path!` for every seed, on Julia's threads, with the columns of `u0` (n, N) and `p` (m, N), which may have a single
one for all. `noise` is nothing, or as `wiener` takes it. Returns a vector with a `Path` for each
that reached its end, and a `Failure` for each that did not.
"""
function solve_paths!(out, counts, eq::AbstractEquation, alg, u0, p, t0, t1, ts, reltol, abstol, options, seeds, noise)
    paths = Vector{Any}(nothing, length(seeds))
    each(length(paths)) do i
        try
            paths[i] = solve_path!(view(out, :, :, i), view(counts, :, i), eq, alg, column(u0, i), column(p, i), t0, t1, ts,
                reltol, abstol, options, seeds[i], wiener(eq, t0, seeds[i], noise, i))
        catch e
            e isa Stopped || rethrow()
            fill!(view(out, :, :, i), NaN)
            paths[i] = Failure(e.retcode, e.t)
        end
    end
    return paths
end

"""
    solve_paths_at!(table, N, n, m, equation, alg)

`solve_paths!` with the arrays out, counts, u0, p, ts, seeds, noise (times, W, Z), stopped and numbers in a table.
`stopped` (N,) gets the time where a path failed, and NaN where it did not. The numbers are t0, t1, reltol, abstol, dt,
dtmax, maxiters and adaptive, NaN for what is not given. Returns the number of the paths.
"""
function solve_paths_at!(all::Table, N, n, m, eq::AbstractEquation, alg)
    _, processes = map(package, ("StochasticDiffEq", "DiffEqNoiseProcess"))  # loaded here, not on the threads
    F = Float64
    ts, times, b = at(all, F, 5), at(all, F, 7), motions(eq.blocks)
    t0, t1, reltol, abstol, dt, dtmax, maxiters, adaptive = at(all, F, 11)
    options = path_options(dt, dtmax, maxiters, adaptive)
    given(i) = reshape(at(all, F, i), b, length(times), :)
    noise = !isempty(times) ? (processes.NoiseGrid, times, given(8), given(9)) :
        get(options, :adaptive, true) ? (processes.NoiseFunction, Base.invokelatest(needs_second, alg)) : nothing
    paths = Base.invokelatest(solve_paths!, reshape(at(all, F, 1), n, length(ts), N), columns(at(all, Int, 2), 4), eq, alg,
        columns(at(all, F, 3), n), columns(at(all, F, 4), m, 1), t0, t1, ts, reltol, abstol, options, at(all, UInt64, 6), noise)
    map!(path -> path isa Failure ? path.t : NaN, at(all, F, 10), paths)
    return keep(paths)
end

"""The options of a solver's steps; NaN stands for what is not given."""
function path_options(dt, dtmax, maxiters, adaptive)
    given = named(steps(dt, dtmax, maxiters, Float64[]))
    return isnan(adaptive) ? given : (; given..., adaptive = adaptive != 0)
end

"""
    path_sizes!(sizes, paths, i)

How many steps the i-th path has, with its start, how many Brownian motions, and how many second ones; `path_steps!` gives
the times (k,) and W and Z (motions, k) there.
"""
path_sizes!(sizes, paths, i) = (p = paths[i]; copyto!(sizes, [length(p.t), length(first(p.W)), second_motions(p)]); nothing)
function path_steps!(t, W, Z, paths, i)
    path = paths[i]
    copyto!(t, path.t)
    for (to, from) in ((W, path.W), (Z, path.Z)), (column, motions) in zip(eachcol(to), from)
        copyto!(column, motions)
    end
    return nothing
end

"""
    paths_at!(out, paths, ts)

The states of all paths at other times, in `out` (n, k, N), linear between steps.
"""
function paths_at!(out, paths, ts)
    times = Vector{Float64}(ts)
    for (i, path) in enumerate(paths)
        path isa Failure ? (out[:, :, i] .= NaN) : at_times!(view(out, :, :, i), path, times)
    end
    return nothing
end
