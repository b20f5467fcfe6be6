# Algorithms by name, from packages that are loaded when first asked for.

import OrdinaryDiffEqRosenbrock, OrdinaryDiffEqTsit5, OrdinaryDiffEqVerner

"""A package of the active project, loaded if it was not."""
package(name::String) = Base.require(get!(() -> identified(name), IDENTIFIED, name))

# To look into the files of a project takes as long as a small solve.
const IDENTIFIED = Dict{String, Base.PkgId}()

function identified(name)
    id = Base.identify_package(name)
    id === nothing && error("the Julia package $name is not in the project $(Base.active_project())")
    return id
end

"""A package that another one of the project is made of, loaded without the rest of it."""
package_of(whole::String, name::String) = Base.require(get!(() -> part_of(identified(whole), name), IDENTIFIED, "$whole.$name"))
part_of(whole, name) = @something(Base.identify_package(whole, name), whole)
operators() = package_of("SciMLBase", "SciMLOperators")
mirk() = package_of("BoundaryValueDiffEq", "BoundaryValueDiffEqMIRK")

"""
    algorithm(package, name, differences, options, parts...)

The algorithm `package.name(parts...; options...)`; `parts` are the algorithms it switches between. With `differences` it
finds by differences what the model does not give it: a model computes in one number type, so dual numbers cannot pass
through it.
"""
function algorithm(from, name, differences, options, parts...)
    # All of BoundaryValueDiffEq takes minutes to compile, for methods that nobody asks for here.
    home = from == "BoundaryValueDiffEq" ? mirk() : package(String(from))
    make = getfield(home, Symbol(name))
    chosen = Dict{Symbol, Any}(Symbol(k) => option(home, Symbol(k), v) for (k, v) in options)
    differences && (chosen[:autodiff] = AutoFiniteDiff())
    from == "BoundaryValueDiffEq" && merge!(chosen, of_collocation(home))
    positional = (:stiffness, :split)  # which are no keywords there
    arguments = (parts..., (pop!(chosen, key) for key in positional if haskey(chosen, key))...)
    made = Base.invokelatest(() -> make(arguments...; chosen...))
    # These smooth their error estimate by a solve with J - I/(γh) where I - γhJ is meant (OrdinaryDiffEqSDIRK 2.8), so it
    # comes out smaller by γh, and with it the accuracy: TRBDF2 ended at 2e-5 for a tolerance of 1e-10.
    from == "OrdinaryDiffEqSDIRK" && hasfield(typeof(made), :smooth_est) || return made
    return Base.invokelatest(() -> make(arguments...; smooth_est = false, chosen...))
end

# Its methods know nothing of the Jacobian that a model has; and by default they try several ways to solve their equations
# in turn, each of which takes minutes to compile. Of a linear problem with conditions inside the span, TrustRegion stalls.
of_collocation(home) = Base.invokelatest() do
    banded = home.AutoSparse(AutoFiniteDiff(); coloring_algorithm = home.BoundaryValueDiffEqCore.GreedyColoringAlgorithm())
    differences = (; bc_diffmode = AutoFiniteDiff(), nonbc_diffmode = banded)
    Dict{Symbol, Any}(:jac_alg => home.BVPJacobianAlgorithm(; differences...),
        :nlsolve => package("NonlinearSolve").NewtonRaphson(), :max_num_subintervals => 1000)
end

"""What the constructors of Julia take for an option that came as a string or a number."""
function option(home, name, value)
    name === :linsolve && return Base.invokelatest(getfield(package("LinearSolve"), Symbol(value)))
    name === :stiffness && return Base.invokelatest(getfield(home, Symbol(value)))
    name === :max_order && nameof(home) !== :Sundials && return Val(Int(value))
    return value isa AbstractString ? Symbol(value) : value
end

"""
    evaluated_algorithm(given)

The algorithm that the user's own Julia text makes, or the one given as such. Packages that the text names are loaded.
"""
function evaluated_algorithm(text::AbstractString)
    expression = Meta.parse(String(text))
    session = Module(:Session)
    for name in owners(expression)
        id = Base.identify_package(String(name))
        id === nothing || Core.eval(session, :(const $name = $(Base.require(id))))
    end
    return evaluated_algorithm(Base.invokelatest(Core.eval, session, expression))
end
evaluated_algorithm(alg::SciMLBase.AbstractODEAlgorithm) = alg
evaluated_algorithm(other) = error("this is no algorithm for ODEs: $(repr(other; context = :limit => true))")

"""The names left of a dot in an expression."""
owners(other) = Symbol[]
function owners(expression::Expr)
    here = expression.head === :. && expression.args[1] isa Symbol ? [expression.args[1]] : Symbol[]
    return unique!(reduce(vcat, owners.(expression.args); init = here))
end
