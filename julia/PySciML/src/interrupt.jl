# Ctrl-C and Python's other threads during a solve. Python runs neither while Julia computes, so solves look in on it.

"""
Functions of the running Python, by address: `holds` (does this thread hold Python's lock?), `release` and `take` that
lock, and `signals` (runs the handlers of signals that came; -1 if one of them raised).
"""
struct Python
    holds::Ptr{Cvoid}
    release::Ptr{Cvoid}
    take::Ptr{Cvoid}
    signals::Ptr{Cvoid}
end

const PYTHON = Ref(Python(C_NULL, C_NULL, C_NULL, C_NULL))
const RETHROW = Ref{Any}(nothing)
const STOPPED = Threads.Atomic{Bool}(false)  # what the threads of an ensemble look at
const DUE = Ref{UInt64}(typemax(UInt64))
const INTERVAL = UInt64(5_000_000)  # ns; as often as Python's threads take turns among themselves

"""
    set_poll!(rethrow, holds, release, take, signals)

From here on `poll` looks in on the Python that has these functions (addresses, as integers). `rethrow()` throws what
Python has raised, in a form that Python gets back as it was.
"""
function set_poll!(rethrow, addresses::Integer...)
    RETHROW[] = rethrow
    PYTHON[] = Python((Ptr{Cvoid}(UInt(a)) for a in addresses)...)
    DUE[] = zero(UInt64)
    return nothing
end

"""
    poll()

Lets Python run its signal handlers and its other threads, if the last time was some milliseconds ago. Throws what a
handler raised. Does nothing on a thread that does not hold Python's lock, such as Julia's own; costs one look at the
clock when nothing is due.
"""
@inline function poll()
    now = time_ns()
    now < DUE[] || attend(now)
    return nothing
end

@noinline function attend(now)
    python = PYTHON[]
    if ccall(python.holds, Cint, ()) == 0
        STOPPED[] && throw(InterruptException())  # one of Julia's own threads, for a solve that has ended
        return nothing
    end
    DUE[] = now + INTERVAL
    # While another thread has the lock it may collect Julia's garbage; this thread must not hold that up.
    state = ccall(:jl_gc_safe_enter, Int8, ())
    thread = ccall(python.release, Ptr{Cvoid}, ())
    ccall(python.take, Cvoid, (Ptr{Cvoid},), thread)
    raised = ccall(python.signals, Cint, ()) != 0
    ccall(:jl_gc_safe_leave, Cvoid, (Int8,), state)
    raised && RETHROW[]()
    return nothing
end

"""Where the solve is that is under way, for a bar of progress: a thread of Python's looks at it while `poll` lets it."""
const REACHED = Ref(NaN)

@inline poll(t::Union{Float64, Float32}) = (REACHED[] = t; poll())
poll(t) = poll()  # a number of an AD

"""
    reached()

The address of the time that the solve under way has reached, a Float64.
"""
reached() = Int(pointer_from_objref(REACHED))

"""What calls `poll` at every step of a solve; as the condition of a callback it never holds."""
struct Poll end
(::Poll)(u, t, integrator) = (poll(); false)
(::Poll)(integrator) = nothing

"""
    poll_callback()

A callback for any solve of SciML that calls `poll` at every step and changes nothing.
"""
poll_callback() = SciMLBase.DiscreteCallback(Poll(), Poll(); save_positions = (false, false))
