@testset "gradients of exp(p t): $name $sensealg" for name in ("Tsit5", "Rodas5P"),
        sensealg in ("GaussAdjoint", "InterpolatingAdjoint", "QuadratureAdjoint", "BacksolveAdjoint")
    name == "Rodas5P" && sensealg == "BacksolveAdjoint" && continue  # implicit methods stop at its first jump
    from = name == "Tsit5" ? "OrdinaryDiffEqTsit5" : "OrdinaryDiffEqRosenbrock"
    alg = PySciML.algorithm(from, name, name == "Rodas5P", ())
    for ts in ([0.0, 0.5, 1.0], [0.25, 0.75]), checkpoints in (0, 5)
        checkpoints > 0 && sensealg != "InterpolatingAdjoint" && continue
        p = [-1.0, -2.0]
        out = zeros(2, length(ts))
        run = PySciML.solve!(out, zeros(Int, 4), PySciML.example_model(), alg, [1.0, 1.0], p, Float64[], 0.0, 1.0,
            ts, 1e-10, [1e-10], checkpoints, ())
        @test out ≈ exp.(p .* ts') rtol = 1e-8
        du0, dp = zeros(2), zeros(2)
        PySciML.adjoint!(du0, dp, zeros(Int, 4), run, sensealg, alg, ts, ones(2, length(ts)), 1e-10, 1e-10)
        @test du0 ≈ [sum(exp.(q .* ts)) for q in p] rtol = 1e-7
        @test dp ≈ [sum(ts .* exp.(q .* ts)) for q in p] rtol = 1e-6
        PySciML.sensitivities!(du0, dp, zeros(Int, 4), run, alg, ts, ones(2, length(ts)), 1e-10, 1e-10)
        @test dp ≈ [sum(ts .* exp.(q .* ts)) for q in p] rtol = 1e-6
    end
end

@testset "a backward solve that stops throws" begin
    alg = PySciML.algorithm("OrdinaryDiffEqTsit5", "Tsit5", false, ())
    run = PySciML.example(alg)
    asked = PySciML.with_start([0.5, 1.0], ones(2, 2), 0.0)
    @test_throws PySciML.Stopped PySciML.check_end(asked)
end
