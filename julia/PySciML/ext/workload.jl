# Compiled into this extension's image, so that the first gradient of a new model waits for none of it.
@setup_workload begin
    @compile_workload begin
        tsit5, rodas5p = PySciML.COMMON
        for (alg, backward) in zip(PySciML.COMMON, (tsit5, rodas5p, rodas5p, rodas5p))
            run = PySciML.example(alg)
            PySciML.sciml_adjoint!(zeros(2), zeros(2), zeros(Int, 4), run, "GaussAdjoint", backward, [0.5, 1.0], ones(2, 2),
                1e-6, 1e-8)
        end
        PySciML.sciml_adjoint!(zeros(2), zeros(2), zeros(Int, 4), PySciML.example(tsit5), "InterpolatingAdjoint", tsit5,
            [0.5, 1.0], ones(2, 2), 1e-6, 1e-8)
    end
end
