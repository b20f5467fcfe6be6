# u' = -p h(t - 1), which the extension has by hand: see its workload.

import DelayDiffEq

@testset "delays" begin
    extension = Base.get_extension(PySciML, :PySciMLDelayDiffEqExt)
    models, places, ts = extension.example_models(), ([1], Int[], Int[]), [0.5, 2.0]
    for alg in PySciML.COMMON
        out = zeros(1, 2)
        run = PySciML.solve_delay!(out, zeros(4), models, places, 1, 1, DelayDiffEq.MethodOfSteps(alg), [1.0], [1.0], 0.0,
            2.5, ts, 1e-9, 1e-9, (;))
        @test out ≈ [0.5 -0.5] atol = 1e-7  # 1 - t up to t = 1, then 1 - t + (t - 1)^2 / 2
        du0, dp, dt0 = zeros(1), zeros(1), zeros(1)
        PySciML.adjoint_delay!(du0, dp, dt0, run, 0, true, true, ts, [0.0 1.0])
        # With u0 and p: u(2) = u0 - p - p (u0 - p / 2)
        @test du0 ≈ [0.0] atol = 1e-7
        @test dp ≈ [-1.0] atol = 1e-7
        # t0 moves the breaking point, which is none of u'.
        @test dt0 ≈ [0.0] atol = 1e-7
    end
end

@testset "collocation" begin
    for s in (2, 5, 9)
        method = PySciML.collocation(s)
        for q in 1:s
            @test method.A * method.c .^ (q - 1) ≈ method.c .^ q ./ q
            @test PySciML.weights!(zeros(s), method, 0.3)' * method.c .^ (q - 1) ≈ 0.3^q / q
        end
        @test method.b' * method.c .^ (2s - 2) ≈ 1 / (2s - 1)
        @test all(0 .< method.c .< 1)
    end
end
