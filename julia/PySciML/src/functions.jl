# What generated code may call besides Base: torch's functions where Julia's throw or differ, and those that networks
# are made of in a form without branches, so that loops over them use the vector unit.

import SpecialFunctions: erf

# exp, tanh and the sigmoid. Base's look into tables or branch, which costs a network of width 32 most of its time.
# x = n log 2 + r with |r| <= log(2) / 2, then exp(x) = 2^n exp(r). The polynomial is the best one of its degree for
# (exp(r) - 1 - r) / r^2, by Remez's algorithm with |r| as weight: exp(r) - 1 is off by 2e-17 |r| at most. See Muller,
# Elementary Functions, 3rd ed., chapters 3 and 11.

const LOG2_HIGH, LOG2_LOW = 0x1.62e42fefa38p-1, 0x1.ef35793c7673p-45  # LOG2_HIGH * n is exact
const ROUND = 0x1.8p52  # added to a number, it leaves its nearest integer in the low bits
const EXP_MINUS_1 = (0x1.0000000000004p-1, 0x1.555555555555cp-3, 0x1.55555555525bep-5, 0x1.111111110e944p-7,
    0x1.6c16c17e3bfb7p-10, 0x1.a01a01b513ebdp-13, 0x1.a019a90734bc7p-16, 0x1.71ddeb9ec8330p-19, 0x1.28a07bf28ef57p-22,
    0x1.af744b9bf41e8p-26)

"""n as the low bits of a float, and exp(r) - 1, for x = n log 2 + r."""
@inline function split_exp(x::Float64)
    shifted = muladd(x, 1.4426950408889634, ROUND)
    n = shifted - ROUND
    r = muladd(-n, LOG2_LOW, muladd(-n, LOG2_HIGH, x))
    return reinterpret(Int, shifted), muladd(r * r, evalpoly(r, EXP_MINUS_1), r)
end
# The low bits of `shifted` to the exponent of a float.
@inline power2(bits::Int) = reinterpret(Float64, (bits + 1023) << 52)

"""exp(x), within 1 ulp; underflow is gradual."""
@inline function exp_(x::Float64)
    bits, p = split_exp(ifelse(x < -746.0, -746.0, ifelse(x > 710.0, 710.0, x)))
    half = ((bits + 4096) >>> 1) & 0xfff  # 2^n in two steps: it may be no normal number
    return muladd(p, power2(half - 2048), power2(half - 2048)) * power2(bits - half + 2048)
end

# y = n log(2) / 2 + h with |h| <= log(2) / 4, then by the theorem of addition, of s = 2^n and t = tanh(h), that of y is
# (s - 1 + t (s + 1)) / (s + 1 + t (s - 1)), which has no cancellation. The polynomial is the best one of its degree for
# (tanh(h) / h - 1) / h^2, as above: t is off by 4e-18 t at most.
const HALF_LOG2 = 0x1.62e42fefa39efp-2
const BIASED = ROUND + 1023  # with the bias of an exponent
const TANH = (-0x1.55555555554bdp-2, 0x1.11111110e0d9ep-3, -0x1.ba1ba1175fe54p-5, 0x1.664eca28a2c4fp-6,
    -0x1.223c8754844a5p-7, 0x1.c38744333322bp-9)

"""tanh(x), within 2.6 ulp."""
@inline function tanh_(x::Float64)
    y = abs(x)
    y = ifelse(y > 20.0, 20.0, y)
    shifted = muladd(y, 0x1.71547652b82fep+1, BIASED)
    h = muladd(BIASED - shifted, HALF_LOG2, y)
    t = muladd(h * (h * h), evalpoly(h * h, TANH), h)
    s = reinterpret(Float64, reinterpret(Int, shifted) << 52)
    return copysign(muladd(t, s + 1.0, s - 1.0) / muladd(t, s - 1.0, s + 1.0), x)
end

@inline sigmoid(x::Float64) = inv(1.0 + exp_(-x))
for name in (:exp_, :tanh_, :sigmoid)
    @eval @inline $name(x::Float32) = Float32($name(Float64(x)))
end

# Julia throws a DomainError where torch gives NaN, and a right-hand side may pass such a point on a rejected step.
for (name, bad) in (
        (:log, :(x < 0)), (:log1p, :(x < -1)), (:sqrt, :(x < 0)), (:asin, :(abs(x) > 1)), (:acos, :(abs(x) > 1)),
        (:acosh, :(x < 1)), (:atanh, :(abs(x) > 1)), (:sin, :(isinf(x))), (:cos, :(isinf(x))), (:tan, :(isinf(x))),
    )
    @eval @inline $(Symbol(name, :_))(x) = $bad ? oftype(x, NaN) : $name(x)
end

@inline function pow_(x, y)
    x < 0 && isfinite(y) && y != trunc(y) || return x^y
    return isfinite(x) ? oftype(x, NaN) : abs(x)^y
end
@inline rem_(x, y) = rem(x, y)
@inline sign_(x) = x > 0 ? one(x) : x < 0 ? -one(x) : zero(x)
@inline square(x) = x * x
@inline cube(x) = x * x * x

# There is one kind of number: a truth is 1 or 0, and what is not 0 is true.
for (name, op) in ((:eq, :(==)), (:ne, :(!=)), (:lt, :(<)), (:le, :(<=)), (:gt, :(>)), (:ge, :(>=)))
    @eval @inline $name(x, y) = oftype(x, $op(x, y))
end
@inline and_(x, y) = oftype(x, (x != 0) & (y != 0))
@inline or_(x, y) = oftype(x, (x != 0) | (y != 0))
@inline not_(x) = oftype(x, x == 0)
@inline where_(condition, x, y) = ifelse(condition != 0, x, y)
