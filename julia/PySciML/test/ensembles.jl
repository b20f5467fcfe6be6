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
