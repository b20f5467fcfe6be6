# What the common solvers compile to goes into this package's image.

# u' = p .* u, by hand what pysciml generates: text cannot be evaluated while a package precompiles.
_f(out, v, u, p, t, w, c, k) = (for i in 1:2; unsafe_store!(out, unsafe_load(p, i) * unsafe_load(u, i), i); end; Cint(0))
_vjp(out, v, u, p, t, w, c, k) = _f(out, v, v, p, t, w, c, k)
_vjp_p(out, v, u, p, t, w, c, k) = _f(out, v, v, u, t, w, c, k)
_both(out, v, u, p, t, w, c, k) = (_vjp(out, v, u, p, t, w, c, k); _vjp_p(out + 16, v, u, p, t, w, c, k))
function _factors(out, v, u, p, t, w, c, k)
    _vjp(out, v, u, p, t, w, c, k)
    for i in 1:2
        unsafe_store!(out, unsafe_load(v, i), 2 + i)
        unsafe_store!(out, unsafe_load(u, i), 4 + i)
    end
    return Cint(0)
end
_tgrad(out, v, u, p, t, w, c, k) = (unsafe_store!(out, 0.0, 1); unsafe_store!(out, 0.0, 2); Cint(0))
function _jac(out, v, u, p, t, w, c, k)
    for (i, x) in enumerate((unsafe_load(p, 1), 0.0, 0.0, unsafe_load(p, 2)))
        unsafe_store!(out, x, i)
    end
    return Cint(0)
end

# The same of all lanes.
_products(out, a, b) = (for i in 1:2LANES; unsafe_store!(out, unsafe_load(a, i) * unsafe_load(b, i), i); end; Cint(0))
_f_abreast(out, v, u, p, t, w, c, k) = _products(out, p, u)
_both_abreast(out, v, u, p, t, w, c, k) = (_products(out, p, v); _products(out + 16LANES, u, v))

# An example that goes side by side.
@eval function example_abreast()
    model = example_model()
    model.f.source = model.both.source = "as above"
    for (code, run) in ((model.f, $(function_pointer(:_f_abreast, Float64, Ptr{Float64}))),
            (model.both, $(function_pointer(:_both_abreast, Float64, Ptr{Float64}))))
        code.abreast[false] = Code{Float64}()
        code.abreast[false].run = run
    end
    return model
end

@eval function example_model(wide = false)
    model = Model(false, 2, 2)
    model.factors.run = $(function_pointer(:_factors, Float64))
    wide && by_factors!(model, 6, Int[], [0, 1, 1, 2, 4, 1, 1, 1, 3, 5])
    model.f.run = $(function_pointer(:_f, Float64))
    model.vjp.run = $(function_pointer(:_vjp, Float64))
    model.vjp_p.run = $(function_pointer(:_vjp_p, Float64))
    model.jac.run = $(function_pointer(:_jac, Float64))
    model.tgrad.run = $(function_pointer(:_tgrad, Float64))
    model.both.run = $(function_pointer(:_both, Float64))
    return model
end

function example(alg, wide = false)
    out, counts, ts = zeros(2, 2), zeros(Int, 4), [0.5, 1.0]
    run = solve!(out, counts, example_model(wide), alg, [1.0, 2.0], [-1.0, -2.0], Float64[], 0.0, 1.0, ts, 1e-6, [1e-8], 0, ())
    interpolate!(out, run, ts)
    foreach(kind -> evaluate!(zeros(kind == "jac" ? 4 : 2), example_model(), kind, [1.0, 1.0], [1.0, 2.0], [-1.0, -2.0], 0.0), ("f", "vjp", "jac"))
    return run
end

"""What is compiled beforehand: what pysciml takes when no algorithm is named, and the two it is made of."""
const COMMON = (
    OrdinaryDiffEqTsit5.Tsit5(), OrdinaryDiffEqRosenbrock.Rodas5P(autodiff = AutoFiniteDiff()),
    OrdinaryDiffEqTsit5.AutoTsit5(OrdinaryDiffEqRosenbrock.Rosenbrock23(autodiff = AutoFiniteDiff())),
    OrdinaryDiffEqVerner.AutoVern7(OrdinaryDiffEqRosenbrock.Rodas5P(autodiff = AutoFiniteDiff())),
)

# And what goes backwards after them: what switches goes by its first method where nothing was stiff.
const BACKWARD = [
    collect(zip(COMMON, COMMON[[1, 2, 2, 2]]));
    [(COMMON[3], COMMON[1]), (COMMON[4], OrdinaryDiffEqVerner.Vern7())]
]

# Text of the kind that pysciml generates; what is read here is put down in its final form later, one model at a time.
const EXAMPLE = """
function (out, v, u, p, t, w, c, k)
    for i in 1:2
        w[i] = tanh_(muladd(c[i], u[k[i] + 1], p[2*i + 1]))
    end
    @simd ivdep for i in 1:2
        out[i] = w[i] * v[i]
    end
    gemm!(&out[1], &p[1], 2, 1, &w[1], 1, 1, 2, 2, 1)
    out[1] = ((p[1] * u[1]) - ((p[2] * u[1]) * (-u[2])))
    return nothing
end
"""

@setup_workload begin
    @compile_workload begin
        lowered(Meta.parse(EXAMPLE).args[2], Alone{Float64}())
        lowered(Meta.parse(EXAMPLE).args[2], Abreast{Float64, false}(wanderers(Meta.parse(EXAMPLE).args[2], 0)))
        Model(false, 2, 2)
        for (alg, backward) in BACKWARD
            for sensealg in ("GaussAdjoint", ByCollocation(0))
                adjoint!(zeros(2), zeros(2), zeros(Int, 4), example(alg), sensealg, backward, [0.5, 1.0], ones(2, 2), 1e-6, 1e-8)
            end
        end
        alg = COMMON[1]
        for wide in (false, true), by in (BySteps(example_model(wide)), "GaussAdjoint")
            adjoint!(zeros(2), zeros(2), zeros(Int, 4), example(alg, wide), by, alg, [0.5, 1.0], ones(2, 2), 1e-6, 1e-8)
        end
        u0, p, counts = ones(2, 2), [-1.0 -1.0; -2.0 -2.0], zeros(Int, 4, 2)
        span = 0.0, 1.0, [0.5, 1.0]
        for model in (example_model(), example_abreast())
            runs = solve_many!(zeros(2, 2, 2), counts, model, alg, u0, p, Float64[], span..., 1e-6, [1e-8], 0, (), false)
            adjoint_again!(zeros(2, 2), zeros(2, 2), counts, runs, model, alg, u0, p, span..., ones(2, 2, 2), 1e-6, [1e-8], ())
        end
    end
end

# What Python calls, which dispatches on what it finds in memory.
for (alg, backward) in BACKWARD
    precompile(solve_at!, (Table, Model{Float64}, typeof(alg)))
    precompile(adjoint_at!, (Table, typeof(example(alg)), String, typeof(backward)))
    precompile(adjoint_at!, (Table, typeof(example(alg)), ByCollocation, typeof(alg)))
end
precompile(adjoint_at!, (Table, typeof(example(COMMON[1])), BySteps{Float64}, typeof(COMMON[1])))
precompile(solve_at, (Int, Int, Int))
precompile(adjoint_at, (Int, Int, Int, Int))
precompile(let_go, (Int,))
precompile(addresses, ())
