const MANY = 200

function many(; u0 = ones(2, MANY), p = [-1.0 -2.0]' .* (1:MANY)' ./ MANY, options = (), keep = true, ts = [0.5, 1.0])
    alg = PySciML.algorithm("OrdinaryDiffEqTsit5", "Tsit5", false, ())
    out, counts = zeros(2, length(ts), MANY), zeros(Int, 4, MANY)
    runs = PySciML.solve_many!(out, counts, PySciML.example_model(), alg, u0, p, Float64[], 0.0, 1.0, ts, 1e-8, [1e-8], 0,
        options, keep)
    return runs, out, counts, alg, p, u0
end

@testset "many trajectories are those that each is alone" begin
    runs, out, counts, alg, p, u0 = many()
    for i in (1, 77, MANY)
        alone, count = zeros(2, 2), zeros(Int, 4)
        PySciML.solve!(alone, count, PySciML.example_model(), alg, u0[:, i], p[:, i], Float64[], 0.0, 1.0, [0.5, 1.0],
            1e-8, [1e-8], 0, ())
        @test alone == out[:, :, i]
        @test count == counts[:, i]
    end
    @test all(isnothing, many(keep = false)[1])
end

@testset "gradients of many" begin
    runs, out, counts, alg, p, u0 = many()
    du0, dp = zeros(2, MANY), zeros(2, MANY)
    PySciML.adjoint_many!(du0, dp, counts, runs, "GaussAdjoint", alg, [0.5, 1.0], ones(2, 2, MANY), 1e-8, 1e-8)
    @test du0 ≈ exp.(0.5p) .+ exp.(p) rtol = 1e-6
    @test dp ≈ 0.5exp.(0.5p) .+ exp.(p) rtol = 1e-6
end

anew!(du0, dp, work, runs, model, alg, u0, p, t0, t1, ts, g, reltol, abstol, options) = PySciML.adjoint_anew!(du0, dp, work,
    runs, (model, alg, u0, p, Float64[], t0, t1, ts, reltol, abstol, 0, options), ("GaussAdjoint", alg, ts, g, 1e-8, 1e-8))

@testset "many by one integrator after another" begin
    _, out, counts, alg, p, u0 = many()
    runs, again, their_counts, = many(keep = false)
    @test again == out
    @test their_counts == counts
    ts, g = [0.5, 1.0], ones(2, 2, MANY)
    model, options = PySciML.example_model(), (1e-8, [1e-8], ())
    for gradient! in (PySciML.adjoint_again!, anew!)
        du0, dp, work = zeros(2, MANY), zeros(2, MANY), zeros(Int, 4, MANY)
        gradient!(du0, dp, work, runs, model, alg, u0, p, 0.0, 1.0, ts, g, options...)
        @test du0 ≈ exp.(0.5p) .+ exp.(p) rtol = 1e-6
        @test dp ≈ 0.5exp.(0.5p) .+ exp.(p) rtol = 1e-6
        @test all(>(0), work[3, :])
    end
end

@testset "one that fails leaves the others" begin
    p = [-1.0 -2.0]' .* ones(MANY)'
    p[:, 5] .= 1e6
    runs, out, = many(; p, options = (("maxiters", 200),))
    @test runs[5] isa PySciML.Failure
    @test runs[5].retcode == "MaxIters"
    @test all(isnan, out[:, :, 5])
    @test all(i -> runs[i] isa PySciML.Run, setdiff(1:MANY, 5))
    @test all(isfinite, out[:, :, setdiff(1:MANY, 5)])
    du0, dp = zeros(2, MANY), zeros(2, MANY)
    alg = PySciML.algorithm("OrdinaryDiffEqTsit5", "Tsit5", false, ())
    PySciML.adjoint_many!(du0, dp, zeros(Int, 4, MANY), runs, "GaussAdjoint", alg, [0.5, 1.0], ones(2, 2, MANY), 1e-8, 1e-8)
    @test all(isnan, du0[:, 5])
    @test all(isfinite, du0[:, setdiff(1:MANY, 5)])
end

@testset "what one throws stops all" begin
    done = Threads.Atomic{Int}(0)
    @test_throws ErrorException PySciML.each(1_000_000) do i
        i == 10 && error("stop")
        Threads.atomic_add!(done, 1)
        sleep(1e-4)
    end
    @test done[] < 10_000
end

# Text as pysciml writes it: names that cross loops, a sum, products of matrices, a table, a branch, constants and the time.
const TEXT = """function (out, v, u, p, t, w, c, k)
    u2 = u[2]
    u1 = u[1]
    @simd ivdep for i in 1:4
        w[i] = tanh_((p[8 + i] + muladd(u2, p[2 * i], (u1 * p[-1 + 2 * i]))))
    end
    rows!(&w[5], &p[13], 4, &w[1], 1, 2, 4)
    gemm!(&w[7], &c[1], 2, 1, &w[1], 2, 1, 2, 2, 2)
    columns!(&w[11], &c[1], 2, &u[1], 1, 2, 2)
    outer!(&w[13], &u[1], 1, &c[1], 1, 2, 2)
    for j in 1:1
        s = zero(t)
        @simd for i in 1:4
            s = s + exp_((-w[6 + i]))
        end
        w[17] = s
    end
    x1 = w[17] * sin_(u1)
    for i in 1:2
        out[i] = where_(gt(u1, u2), x1, w[12 + i]) + ((w[4 + i] * t) + w[k[i]])
    end
    return 0
end
"""

@testset "generated code of all lanes is that of each" begin
    L, T = PySciML.LANES, Float64
    c, k = [0.5, -1.0, 2.0, 0.25], [11, 12]
    model = PySciML.Model(false, 2, 20)
    PySciML.define!(model, "f", TEXT, c, k, 17)
    for shared in (false, true)
        code = PySciML.abreast(model.f, shared)
        u, p, t, out = randn(L, 2), randn(shared ? 1 : L, 20), randn(L), zeros(L, 2)
        PySciML.run_abreast!(code, PySciML.scratch(code), out, u, u, p, t)
        for l in 1:L
            alone = zeros(2)
            PySciML.evaluate!(alone, model, "f", u[l, :], u[l, :], p[shared ? 1 : l, :], t[l])
            @test out[l, :] ≈ alone rtol = 1e-14 atol = 1e-14
        end
    end
end

"""`example_model` with text, so that it goes side by side."""
function with_text()
    model = PySciML.example_model()
    text(lines...) = "function (out, v, u, p, t, w, c, k)\n" * join(lines, "\n") * "\nreturn 0\nend\n"
    PySciML.define!(model, "f", text("out[1] = p[1] * u[1]", "out[2] = p[2] * u[2]"), Float64[], Int[], 0)
    PySciML.define!(model, "both", text("out[1] = p[1] * v[1]", "out[2] = p[2] * v[2]", "for i in 1:2", "out[2 + i] = u[i] * v[i]", "end"),
        Float64[], Int[], 0)
    return model
end

@testset "trajectories side by side are those that each is alone" begin
    alg = PySciML.algorithm("OrdinaryDiffEqTsit5", "Tsit5", false, ())
    for N in (1, 5, 8, 21), (t0, t1) in ((0.0, 1.0), (1.0, -1.0)), ts in ([t1], [t0, (t0 + t1) / 3, t1])
        u0, p = 1 .+ rand(2, N), -10rand(2, N)
        @test PySciML.reads_abreast(with_text(), N == 1, ()) && !PySciML.goes_abreast(PySciML.example_model(), N == 1, ())
        out, counts, same, their_counts = zeros(2, length(ts), N), zeros(Int, 4, N), zeros(2, length(ts), N), zeros(Int, 4, N)
        rest = alg, u0, p, t0, t1, ts, 1e-8, [1e-8], ()
        PySciML.solve_again!(out, counts, with_text(), rest...)
        PySciML.solve_again!(same, their_counts, PySciML.example_model(), rest...)
        @test out == same
        @test counts == their_counts
        g = randn(2, length(ts), N)
        found = map((with_text(), PySciML.example_model())) do model
            du0, dp, work = zeros(2, N), zeros(2, N), zeros(Int, 4, N)
            PySciML.adjoint_again!(du0, dp, work, fill(nothing, N), model, alg, u0, p, t0, t1, ts, g, 1e-8, [1e-8], ())
            du0, dp, work
        end
        @test found[1][1] ≈ found[2][1] rtol = 1e-12
        @test found[1][2] ≈ found[2][2] rtol = 1e-12
        @test found[1][3][3, :] == found[2][3][3, :]
    end
end
