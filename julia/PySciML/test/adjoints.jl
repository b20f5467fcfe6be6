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

function without_both()
    model = PySciML.example_model()
    model.both.run = C_NULL
    return model
end

@testset "a backward solve that stops throws" begin
    alg = PySciML.algorithm("OrdinaryDiffEqTsit5", "Tsit5", false, ())
    run = PySciML.example(alg)
    asked = PySciML.with_start([0.5, 1.0], ones(2, 2), 0.0)
    @test_throws PySciML.Stopped PySciML.check_end(asked)
end

@testset "Gauss's rules are exact up to their order" begin
    for rule in PySciML.GAUSS, k in 0:(2length(rule) - 1)
        @test sum(node.weight * node.x^k for node in rule) ≈ (isodd(k) ? 0 : 2 / (k + 1)) atol = 1e-13
    end
end

@testset "the last Legendre coefficient" begin
    for rule in PySciML.GAUSS, k in 0:(length(rule) - 1)
        @test sum(node.last * PySciML.legendre(k, node.x) for node in rule) ≈ (k == length(rule) - 1) atol = 1e-12
    end
end

@testset "gradients as SciMLSensitivity has them: $name, $t0 to $t1, $ts" for name in ("Tsit5", "Rodas5P", "Vern7"),
        (t0, t1, ts) in ((0.0, 1.0, [0.0, 0.5, 1.0]), (0.0, 1.0, [0.25, 0.75]), (0.0, 1.0, [0.0]), (1.0, -1.0, [0.5, -1.0]))
    from = Dict("Tsit5" => "OrdinaryDiffEqTsit5", "Rodas5P" => "OrdinaryDiffEqRosenbrock", "Vern7" => "OrdinaryDiffEqVerner")
    alg = PySciML.algorithm(from[name], name, name == "Rodas5P", ())
    p, k = [-1.0, -2.0], length(ts)
    run = PySciML.solve!(zeros(2, k), zeros(Int, 4), PySciML.example_model(), alg, [1.0, 1.0], p, Float64[], t0, t1, ts,
        1e-10, [1e-10], 0, ())
    found = map((PySciML.adjoint!, PySciML.sciml_adjoint!)) do adjoint!
        du0, dp, counts = zeros(2), zeros(2), zeros(Int, 4)
        adjoint!(du0, dp, counts, run, "GaussAdjoint", alg, ts, reshape(1.0:2k, 2, k), 1e-10, 1e-10)
        @test k == 1 || counts[1] > counts[3] > 0
        vcat(du0, dp)
    end
    @test found[1] ≈ found[2] rtol = 1e-8 atol = 1e-9
    for i in 1:2
        weights, decay = reshape(1.0:2k, 2, k)[i, :], exp.(p[i] .* (ts .- t0))
        @test found[1][i] ≈ sum(weights .* decay) rtol = 1e-8
        @test found[1][2 + i] ≈ sum(weights .* (ts .- t0) .* decay) rtol = 1e-8 atol = 1e-9
    end
end

@testset "a sparse Jacobian is transposed" begin
    J = PySciML.SparseMatrixCSC([1.0 2 0 0; 0 3 0 4; 5 0 6 0; 0 7 0 0])
    out, order = PySciML.transposition(J)
    PySciML.transposed!(out, J, order)
    @test out == -permutedims(J)
end

@testset "steps read backwards, $t0 to $t1, $ts" for (t0, t1, ts) in ((0.0, 1.0, [0.0, 0.5, 1.0]), (0.0, 1.0, [0.25, 0.75]),
        (1.0, -1.0, [0.5, -1.0]))
    alg = PySciML.algorithm("OrdinaryDiffEqTsit5", "Tsit5", false, ())
    p, k = [-1.0, -2.0], length(ts)
    for by in (PySciML.BySteps(PySciML.example_model()), PySciML.BySteps(without_both()))
        run = PySciML.solve!(zeros(2, k), zeros(Int, 4), by.model, alg, [1.0, 1.0], p, Float64[], t0, t1, ts, 1e-10, [1e-10], 0, ())
        du0, dp = zeros(2), zeros(2)
        PySciML.adjoint!(du0, dp, zeros(Int, 4), run, by, alg, ts, ones(2, k), 0.0, 0.0)
        decay = [exp(q * (t - t0)) for q in p, t in ts]
        @test du0 ≈ vec(sum(decay; dims = 2)) rtol = 1e-8
        @test dp ≈ vec(sum(decay .* (ts .- t0)'; dims = 2)) rtol = 1e-8
    end
end

@testset "Tsit5's coefficients" begin
    for T in (Float64, Float32)
        known = PySciML.tableau(T)
        @test vec(sum(known.A; dims = 2)) ≈ known.c rtol = 100eps(T)
        @test [PySciML.weight(known, j, one(T)) for j in 1:7] ≈ [known.A[7, 1:6]; 0] atol = 100eps(T)
        @test sum(PySciML.weight(known, j, T(0.3)) for j in 1:7) ≈ T(0.3) rtol = 100eps(T)
    end
end

@testset "systems of a collocation, $n states, $s nodes" for n in (3, 5, 12), s in (3, 4)
    full(i) = [abs(r - c) <= 1 ? sin(i + r + 2c) : 0.0 for r in 1:n, c in 1:n]
    ring(i) = (J = full(i); J[1, n] = J[n, 1] = 0.7i; J)
    sparse(J) = PySciML.sparse(J)
    mass, A, h = 1 .+ collect(1:n) ./ n, PySciML.collocation(s).A, 0.3
    for (make, band) in ((full, true), (ring, false))
        Js = [make(i) for i in 1:s]
        M = [(i == l) * (r == c) * mass[r] - h * A[i, l] * Js[i][r, c] for r in 1:n, i in 1:s, c in 1:n, l in 1:s]
        M = reshape(M, n * s, n * s)
        start = cos.(1:(n * s))
        systems = Any[PySciML.step_system(Js[1], s, -1, -1) => Js, PySciML.step_system(sparse(Js[1]), s) => sparse.(Js)]
        band && push!(systems, PySciML.band_system(n, s, 1, 1, Float64) => Js)
        for (system, matrices) in systems, again in 1:2  # the second time with the memory of the first
            μ = copy(start)
            PySciML.solve_transposed!(system, μ, matrices, mass, A, h)
            @test μ ≈ M' \ start rtol = 1e-10
        end
        @test (first(systems[2]) isa PySciML.BandSystem) == (band || n <= 5)
    end
end

@testset "a band, $below below and $above above, $s nodes" for (below, above) in ((0, 0), (0, 2), (1, 1), (3, 1), (6, 12)), s in (1, 4)
    n, h = 30, 3.0
    Js = [[-above <= r - c <= below ? 5sin(i + 3r + 7c) : 0.0 for r in 1:n, c in 1:n] for i in 1:s]  # rows change places
    mass, A, start = fill(0.01, n), PySciML.collocation(s).A, cos.(1:(n * s))
    M = reshape([(i == l) * (r == c) * mass[r] - h * A[i, l] * Js[i][r, c] for r in 1:n, i in 1:s, c in 1:n, l in 1:s], n * s, n * s)
    for matrices in (Js, PySciML.sparse.(Js))
        system, μ = PySciML.band_system(n, s, below, above, Float64), copy(start)
        @test (system.lower > PySciML.WIDEST) == (above == 12 && s == 4)  # which LAPACK solves
        PySciML.solve_transposed!(system, μ, matrices, mass, A, h)
        @test M' * μ ≈ start rtol = 1e-9
    end
end
