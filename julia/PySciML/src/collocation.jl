# Collocation: a polynomial on each step whose slope is given at s nodes. The nodes are Radau's, at which it is stable for
# what is stiff, but for a hair: the last, at the end of a step, is moved inside. There a right-hand side may jump, and no
# node shall lie on a jump, where rounding would say on which side.
#
# Reference: Hairer and Wanner, "Solving Ordinary Differential Equations II", IV.5.

const INSIDE = 1e-6

"""
The nodes `c` in (0, 1), and the integrals of their Lagrange polynomials: `weights!` from 0 to any θ, `A` those to the
nodes, `b` those to 1. `modes` has the polynomials' coefficients in the Legendre polynomials on [0, 1]; of the last of these
`roughness`, and `lasts` where each value has its b in it already, whose sum is the integral, of weights `ones`.
"""
struct Collocation
    c::Vector{Float64}
    modes::Matrix{Float64}
    A::Matrix{Float64}
    b::Vector{Float64}
    roughness::Vector{Float64}
    lasts::Vector{Float64}
    ones::Vector{Float64}
end

function Collocation(s::Int)
    c = radau(s) .* (1 - INSIDE)
    modes = inv([legendre(m - 1, 2x - 1) for x in c, m in 1:s])
    method = Collocation(c, modes, zeros(s, s), zeros(s), modes[s, :], zeros(s), ones(s))
    foreach(i -> weights!(view(method.A, i, :), method, c[i]), 1:s)
    weights!(method.b, method, 1.0)
    method.lasts .= method.roughness ./ method.b
    return method
end

"""Radau's nodes in (0, 1], by the eigenvalues of the recurrence of the polynomials whose roots they are."""
function radau(s)
    s == 1 && return [1.0]
    diagonal = [zeros(s - 1); s / (2s - 1)]
    x = LinearAlgebra.eigvals(LinearAlgebra.SymTridiagonal(diagonal, [k / sqrt(4k^2 - 1) for k in 1:(s - 1)]))
    return (1 .+ x) ./ 2
end

"""w_i = the integral of the i-th Lagrange polynomial from 0 to θ."""
function weights!(w, method::Collocation, θ)
    s, x = length(method.c), 2θ - 1
    fill!(w, 0)
    below, now = -1.0, 1.0
    for d in 0:(s - 1)  # of Legendre's polynomial of degree d on [0, 1] the integral is one of those beside it
        above = ((2d + 1) * x * now - d * below) / (d + 1)
        integral = (above - below) / (4d + 2)
        for i in 1:s
            w[i] += integral * method.modes[d + 1, i]
        end
        below, now = now, above
    end
    return w
end

const COLLOCATIONS = Dict{Int, Collocation}()
collocation(s::Int) = get!(() -> Collocation(s), COLLOCATIONS, s)
