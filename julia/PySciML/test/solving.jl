const DECAY = """
function (out, v, u, p, t, w, c, k)
    out[1] = ((p[1] * u[1]) * c[1])
    return nothing
end
"""

@testset "a model from text" begin
    model = PySciML.Model(false, 1, 1)
    PySciML.define!(model, "f", DECAY, [1.0], Int[], 0)
    out, counts = zeros(1, 2), zeros(Int, 4)
    alg = PySciML.algorithm("OrdinaryDiffEqTsit5", "Tsit5", false, ())
    run = PySciML.solve!(out, counts, model, alg, [1.0], [-1.0], Float64[], 0.0, 1.0, [0.5, 1.0], 1e-9, [1e-9], 0, ())
    @test out ≈ exp.([-0.5 -1.0]) rtol = 1e-7
    @test counts[1] > 0
    PySciML.interpolate!(out, run, [0.25, 0.75])
    @test out ≈ exp.([-0.25 -0.75]) rtol = 1e-6
end

@testset "the function is called without allocating" begin
    f = PySciML.ode_function(PySciML.example_model(), Float64[])
    args = zeros(2), ones(2), [-1.0, -2.0], 0.0
    bytes(f, args) = @allocated f(args...)
    bytes(f.f, args)
    @test bytes(f.f, args) == 0
end

@testset "a solve that stops says so" begin
    alg = PySciML.algorithm("OrdinaryDiffEqTsit5", "Tsit5", false, ())
    @test_throws PySciML.Stopped PySciML.solve!(zeros(2, 1), zeros(Int, 4), PySciML.example_model(), alg, [1.0, 1.0],
        [-1.0, -1.0], Float64[], 0.0, 100.0, [100.0], 1e-9, [1e-9], 0, (("maxiters", 3),))
end
