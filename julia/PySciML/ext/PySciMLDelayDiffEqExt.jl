"""Problems with delays, compiled into an image: without it the first solve and the first gradient wait for seconds."""
module PySciMLDelayDiffEqExt

using DelayDiffEq: MethodOfSteps
using PySciML: PySciML, Model
using PrecompileTools: @compile_workload, @setup_workload

# u' = -p h(t - 1), by hand what pysciml generates: text cannot be evaluated while a package precompiles.
put(out, values...) = (foreach((i, x) -> unsafe_store!(out, x, i), eachindex(values), values); Cint(0))
slope(out, v, u, p, t, w, c, k) = put(out, -unsafe_load(p) * unsafe_load(u, 2), 0.0)
slope_jac(out, v, u, p, t, w, c, k) = put(out, 0.0, 0.0, -unsafe_load(p), 0.0)
slope_vjp_p(out, v, u, p, t, w, c, k) = put(out, -unsafe_load(v) * unsafe_load(u, 2))
lags(out, v, u, p, t, w, c, k) = put(out, t - 1)
past(out, v, u, p, t, w, c, k) = put(out, 1.0)
one_zero(out, v, u, p, t, w, c, k) = put(out, 0.0)
ones_of(out, v, u, p, t, w, c, k) = put(out, 1.0)

@eval function example_models()
    s, l, p = Model(false, 2, 1), Model(false, 1, 0), Model(false, 1, 0)
    s.f.run, s.jac.run = $(PySciML.function_pointer(:slope, Float64)), $(PySciML.function_pointer(:slope_jac, Float64))
    s.vjp_p.run = $(PySciML.function_pointer(:slope_vjp_p, Float64))
    l.f.run, l.jac.run = $(PySciML.function_pointer(:lags, Float64)), $(PySciML.function_pointer(:one_zero, Float64))
    l.tgrad.run = $(PySciML.function_pointer(:ones_of, Float64))
    p.f.run, p.tgrad.run = $(PySciML.function_pointer(:past, Float64)), $(PySciML.function_pointer(:one_zero, Float64))
    return s, l, p
end

@setup_workload begin
    @compile_workload begin
        for alg in PySciML.COMMON
            out, ts = zeros(1, 2), [0.5, 2.5]
            run = PySciML.solve_delay!(out, zeros(4), example_models(), ([1], Int[], Int[]), 1, 1, MethodOfSteps(alg), [1.0],
                [1.0], 0.0, 2.5, ts, 1e-6, 1e-8, (;))
            PySciML.adjoint_delay!(zeros(1), zeros(1), zeros(1), run, 0, true, true, ts, ones(1, 2))
            PySciML.interpolate_delay!(out, run, ts)
        end
    end
end

end
