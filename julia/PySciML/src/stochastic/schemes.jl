# One step of a solver of stochastic equations, written down as what it is: drift and diffusion evaluated a few times,
# each at the state plus a combination of what was found before. Read backwards, the same list is the step's derivative.

# What multiplies a diffusion in a step. dW and dZ are the increments of the Brownian motion and of the second one that
# methods of Roessler take: (dW, (dW² - dt) / (2 √dt), (dW + dZ/√3) / 2, (dW³ - 3 dW dt) / (6 dt), √dt, dW² / (2 √dt)).
const Weights = NTuple{6, Float64}
const dW, CHI1, CHI2, CHI3, ROOT, SQUARE = ntuple(i -> ntuple(j -> Float64(i == j), 6), 6)

"""The columns of `basis` that are `used`, of the increments dw and dz (empty where there is no second motion)."""
function weigh!(basis::Matrix{T}, used, dw, dz, dt) where {T}
    root, h = sqrt(abs(dt)), abs(dt)
    column(k) = view(basis, :, k)
    used[1] && copyto!(column(1), dw)
    used[2] && (column(2) .= (dw .^ 2 .- h) ./ 2root)
    used[3] && (isempty(dz) ? column(3) .= dw ./ 2 : column(3) .= (dw .+ dz ./ sqrt(T(3))) ./ 2)
    used[4] && (column(4) .= (dw .^ 3 .- 3 .* dw .* dt) ./ 6dt)
    used[5] && fill!(column(5), root)
    used[6] && (column(6) .= dw .^ 2 ./ 2root)
    return basis
end

"""
A state plus a combination of earlier evaluations: `drifts` of them times a number times dt, `noises` times weights.
"""
struct Combination
    drifts::Vector{Pair{Int, Float64}}
    noises::Vector{Pair{Int, Weights}}
end
Combination(; drifts = [], noises = []) = Combination(
    [i => Float64(x) for (i, x) in drifts if !iszero(x)], [i => Float64.(x) for (i, x) in noises if !all(iszero, x)])

"""
The drift or the diffusion at time t + c dt and some state; `implicit` is what dt times the evaluation itself is part of
that state by.
"""
struct Evaluation
    drift::Bool
    c::Float64
    implicit::Float64
    at::Combination
end
drift(c = 0; implicit = 0, at...) = Evaluation(true, c, implicit, Combination(; at...))
diffusion(c = 0; at...) = Evaluation(false, c, 0, Combination(; at...))

"""A step: what it evaluates, in order, and how the next state comes of it."""
struct Scheme
    evaluations::Vector{Evaluation}
    next::Combination
end
Scheme(evaluations...; next...) = Scheme(collect(evaluations), Combination(; next...))

"""Which of the weights any of its combinations has."""
function weights_used(scheme::Scheme)
    all = [last(x) for c in [[e.at for e in scheme.evaluations]; scheme.next] for x in c.noises]
    return ntuple(k -> any(w -> !iszero(w[k]), all), 6)
end

"""Whether all evaluations are made at the start of the step, as Euler's are."""
at_start(scheme::Scheme) = all(e -> e.implicit == 0 && isempty(e.at.drifts) && isempty(e.at.noises), scheme.evaluations)
implicit(scheme::Scheme) = any(e -> e.implicit != 0, scheme.evaluations)

"""
    scheme(alg)

The step of an algorithm of StochasticDiffEq. Throws if it is not known here: then there is no gradient.
"""
scheme(alg) = scheme(Val(nameof(typeof(alg))), alg)
scheme(::Val, alg) = error("the step of $(nameof(typeof(alg))) is not known, so there is no gradient through it")

for name in (:EM, :LambaEM)
    # Their type says whether the diffusion is evaluated after the drift's step; LambaEM evaluates it at the end of the step.
    @eval function scheme(::Val{$(QuoteNode(name))}, alg)
        at = typeof(alg).parameters[1] ? [1 => 1] : []
        return Scheme(drift(), diffusion($(name === :LambaEM ? 1 : 0); drifts = at); drifts = [1 => 1], noises = [2 => dW])
    end
end

for name in (:EulerHeun, :LambaEulerHeun)
    @eval scheme(::Val{$(QuoteNode(name))}, alg) = Scheme(
        drift(), diffusion(), drift(1; drifts = [1 => 1], noises = [2 => dW]),
        diffusion(1; drifts = [1 => 1], noises = [2 => dW]);
        drifts = [1 => 1 / 2, 3 => 1 / 2], noises = [2 => dW ./ 2, 4 => dW ./ 2])
end

is_ito(alg) = SciMLBase.alg_interpretation(alg) == SciMLBase.AlgorithmInterpretation.Ito

# g g' by a difference; Ito's correction takes dt off dW².
milstein(alg) = is_ito(alg) ? (diffusion(0; drifts = [1 => 1], noises = [2 => ROOT]), CHI1) :
    (diffusion(0; noises = [2 => ROOT]), SQUARE)

function scheme(::Val{:RKMil}, alg)
    beside, correction = milstein(alg)
    return Scheme(drift(), diffusion(), beside; drifts = [1 => 1], noises = [2 => dW .- correction, 3 => correction])
end

function scheme(::Val{:ImplicitRKMil}, alg)
    beside, correction = milstein(alg)
    return theta_step(alg, [drift(), diffusion(), beside], [2 => dW .- correction, 3 => correction])
end
scheme(::Val{:ImplicitEM}, alg) = theta_step(alg, [drift(), diffusion()], [2 => dW])
scheme(::Val{:ImplicitEulerHeun}, alg) =
    theta_step(alg, [drift(), diffusion(), diffusion(0; noises = [2 => dW])], [2 => dW ./ 2, 3 => dW ./ 2])

"""u + dt ((1 - θ) f(u) + θ f(next)) + noise."""
function theta_step(alg, before, noises)
    alg.symplectic && error("the step of the implicit midpoint rule is not known, so there is no gradient through it")
    θ, last = alg.theta, length(before) + 1
    return Scheme([before; drift(θ; implicit = θ, drifts = [1 => 1 - θ], noises)],
        Combination(; drifts = [1 => 1 - θ, last => θ], noises))
end

"""Roessler's methods for diagonal noise, by their tableau."""
function diagonal_scheme(tab)
    all, s = Evaluation[], length(tab.α)
    for i in 1:s
        before = 1:(i - 1)
        push!(all, drift(tab.c₀[i]; drifts = [2j - 1 => tab.A₀[i, j] for j in before],
            noises = [2j => CHI2 .* tab.B₀[i, j] for j in before]))
        push!(all, diffusion(tab.c₁[i]; drifts = [2j - 1 => tab.A₁[i, j] for j in before],
            noises = [2j => ROOT .* tab.B₁[i, j] for j in before]))
    end
    weights(i) = dW .* tab.β₁[i] .+ CHI1 .* tab.β₂[i] .+ CHI2 .* tab.β₃[i] .+ CHI3 .* tab.β₄[i]
    return pruned(Scheme(all..., ; drifts = [2i - 1 => tab.α[i] for i in 1:s], noises = [2i => weights(i) for i in 1:s]))
end

"""Those for additive noise; one with a diagonal in its tableau is implicit in the drift."""
function additive_scheme(tab)
    all, s = Evaluation[], length(tab.α)
    for i in 1:s
        before = 1:(i - 1)
        push!(all, drift(tab.c₀[i]; implicit = tab.A₀[i, i], drifts = [2j - 1 => tab.A₀[i, j] for j in before],
            noises = [2j => CHI2 .* tab.B₀[i, j] for j in before]))
        push!(all, diffusion(tab.c₁[i]))
    end
    return pruned(Scheme(all..., ; drifts = [2i - 1 => tab.α[i] for i in 1:s],
        noises = [2i => dW .* tab.β₁[i] .+ CHI2 .* tab.β₂[i] for i in 1:s]))
end

"""Without the evaluations that nothing comes of."""
function pruned(scheme::Scheme)
    used = Set{Int}()
    look(c::Combination) = foreach(x -> push!(used, first(x)), [c.drifts; c.noises])
    look(scheme.next)
    foreach(i -> i in used && look(scheme.evaluations[i].at), length(scheme.evaluations):-1:1)
    kept = sort!(collect(used))
    number = Dict(old => new for (new, old) in enumerate(kept))
    renumber(c) = Combination([number[i] => x for (i, x) in c.drifts], [number[i] => x for (i, x) in c.noises])
    again(e) = Evaluation(e.drift, e.c, e.implicit, renumber(e.at))
    return Scheme([again(scheme.evaluations[i]) for i in kept], renumber(scheme.next))
end

for (name, kind, tableau) in ((:SRIW1, :diagonal_scheme, :constructSRIW1), (:SRIW2, :diagonal_scheme, :constructSRIW2),
        (:SOSRI, :diagonal_scheme, :constructSRIOpt1), (:SOSRI2, :diagonal_scheme, :constructSRIOpt2),
        (:SRA1, :additive_scheme, :constructSRA1), (:SRA2, :additive_scheme, :constructSRA2),
        (:SRA3, :additive_scheme, :constructSRA3), (:SOSRA, :additive_scheme, :constructSOSRA),
        (:SOSRA2, :additive_scheme, :constructSOSRA2), (:SKenCarp, :additive_scheme, :constructSKenCarp))
    @eval scheme(::Val{$(QuoteNode(name))}, alg) =
        $kind(Base.invokelatest(getfield(package("StochasticDiffEq"), $(QuoteNode(tableau)))))
end
