# What Python is told of an exception.

"""
    causes(exception)

The exceptions behind one that only reports them, such as that of a failed task; else the exception itself.
"""
causes(e) = Any[e]
causes(e::CompositeException) = reduce(vcat, map(causes, e.exceptions); init = Any[])
causes(e::TaskFailedException) = causes(e.task.result)
causes(e::CapturedException) = causes(e.ex)
causes(e::Union{LoadError, InitError}) = causes(e.error)

"""
    told(exception, trace)

An exception as text, with the stack trace where that says more. It takes most of a second to make one, and somebody who
pressed Ctrl-C waits for that; what ends a solve as it should says all there is without.
"""
told(e, trace) = sprint(showerror, e, trace)
told(e::Union{CallbackFailed, Stopped}, _) = sprint(showerror, e)
told(::InterruptException, _) = "InterruptException:"

precompile(told, (CallbackFailed, Vector{Any}))
precompile(told, (Stopped, Vector{Any}))
