using PySciML, Test
import SciMLSensitivity

include("solving.jl")
include("adjoints.jl")
include("ensembles.jl")
include("delays.jl")
