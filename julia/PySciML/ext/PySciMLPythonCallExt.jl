"""
What a call from Python compiles to, kept in an image: without it the first solve and the first gradient of a process
wait seconds for it. Nothing here runs; Python need not be there when it is compiled.
"""
module PySciMLPythonCallExt

using PySciML: PySciML, Model
using PythonCall: PythonCall, Py, PyArray, PyDict

# Arrays of numpy as PythonCall shows them to Julia.
const Numbers = PyArray{Float64, 1, true, true, Float64}
const Columns = PyArray{Float64, 2, true, true, Float64}
const Integers = PyArray{Int64, 1, true, true, Int64}
const Options = PyDict{Any, Any}
const M = Model{Float64}

const ENTRIES = (
    (Model, (Bool, Int, Int)), (PySciML.define!, (M, String, String, Numbers, Integers, Int)),
    (PySciML.bind!, (M, String, Int)), (PySciML.algorithm, (String, String, Bool, Options)),
    (PySciML.set_poll!, (Function, Int, Int, Int, Int)), (PySciML.causes, (Any,)), (PySciML.told, (Any, Any)),
    (PySciML.keep, (Any,)), (PySciML.kept, (Int,)), (PySciML.addresses, ()),
    (PySciML.interpolate!, (Columns, Any, Numbers)),
    (PySciML.evaluate!, (Numbers, M, String, Numbers, Numbers, Numbers, Float64)),
)

for (f, types) in ENTRIES
    precompile(PythonCall.JlWrap.pyjlany_call, (f isa Type ? Type{f} : typeof(f), Py, Py))
    precompile(f, types)
end
for alg in PySciML.COMMON
    run = typeof(PySciML.example(alg))
    precompile(PySciML.interpolate!, (Columns, run, Numbers))
    precompile(Py, (typeof(alg),))
    precompile(Py, (run,))
end
precompile(Py, (Type,))

# How PythonCall makes such arrays and reads the numbers among the arguments; by names of its own, which other versions
# may not have.
function compile_conversions()
    wrap = PythonCall.Wrap
    source = wrap.PyArraySource_ArrayStruct
    for (T, N) in ((Float64, 1), (Float64, 2), (Int64, 1))
        precompile(wrap.pyarray_get_size, (source, Val{N}))
        precompile(wrap.pyarray_get_strides, (source, Val{N}, Type{T}, NTuple{N, Int}))
        precompile(PyArray{T, N, true, true, T}, (Val{:new}, Ptr{T}, NTuple{N, Int}, NTuple{N, Int}, Py, Py))
    end
    rules = Dict{Ptr{PythonCall.C.PyObject}, Vector{Function}}
    foreach(T -> precompile(get!, (Type{rules}, Dict{Type, rules}, Type{T})), (Any, Int, UInt, Bool, Float64, Vector{Int}))
    precompile(PythonCall.Core.pybool_asbool, (Py,))
    return nothing
end
isdefined(PythonCall, :Wrap) && isdefined(PythonCall.Wrap, :PyArraySource_ArrayStruct) && compile_conversions()

end
