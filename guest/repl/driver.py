"""The Python side of the REPL: runs what the agent sends, one piece of code at a time, in one namespace.

The agent starts `python3 -c <bootstrap>` with the control socket as standard input and sends this text through it,
so no file has to exist. The driver moves the socket to a high descriptor, out of the way of user code that closes
or replaces low ones, and then serves requests until the socket closes.

A request is 12 bytes (payload length, number, kind) and its payload; a run also brings its stdout and stderr as
two passed descriptors. The answer is 8 bytes (number, exit code), sent when the run's output is flushed and
descriptors 1 and 2 point to /dev/null again. After that nothing this process prints can reach the run.

User code shares the interpreter and may break anything here; then the process ends and the agent starts another.
Works with Python 3.11 and later.
"""

import _ast
import _signal
import _thread
import builtins
import collections
import fcntl
import gc
import io
import linecache
import os
import random
import signal
import socket
import struct
import sys
import threading
import traceback
import types

# What this text is compiled as; frames of this file are left out of tracebacks.
FILE = "<podflare>"
REQUEST = struct.Struct("<III")
ANSWER = struct.Struct("<Ii")
KIND_START = 1
KIND_RUN = 2
KIND_TRACED = 3
# Enough for almost all code, so that a request is one system call.
FIRST_READ_BYTES = 16 * 1024
ANCILLARY_BYTES = socket.CMSG_SPACE(2 * struct.calcsize("i"))
# Ours live at or above this descriptor, so that `os.closerange(3, 256)` does not meet them.
HIGH_FD = 1000
# Source text kept for tracebacks.
CELLS_MAX = 1000
CELLS_CHARS_MAX = 8 << 20
CELL_CHARS_MAX = 2 << 20
# Of a line longer than this, which is data and not code, a traceback needs no more.
LINE_CHARS_MAX = 4096
# Not used by the kernel, by C libraries or by Python; carries "draw new randomness".
RESEED_SIGNAL = signal.SIGSTKFLT

CO_COROUTINE = 0x80
AWAIT = _ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
PARSE = _ast.PyCF_ONLY_AST | AWAIT

# False in a child of os.fork().
original = True
control = None
acknowledgements = None
null = None
# What user code sees as `__main__`.
space = None
# True exactly while user code runs; an interrupt at any other time has come too late and is dropped.
armed = False
# Depth of reseeding, during which an interrupt is put off.
reseeding = 0
interrupted = False
# `from __future__ import …` stays in force for later runs, as in a REPL.
future_flags = 0
future_mask = 0
runner = None
streams = {}
cells = collections.deque()
cells_chars = 0
# Callbacks given to `os.register_at_fork`, to be called when the whole machine has been cloned.
clone_callbacks = []


class Filtered:
    """Stands in for sys.stdout or sys.stderr while threads of earlier runs live: what those print is dropped."""

    def __init__(self, stream, stale):
        self._stream = stream
        self._stale = stale

    def write(self, text):
        if threading.current_thread() in self._stale:
            return len(text)
        return self._stream.write(text)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def __iter__(self):
        return iter(self._stream)

    def __getattr__(self, name):
        return getattr(self._stream, name)


def main():
    global control, null, space, future_mask
    control = socket.socket(fileno=raised(0))
    null_low = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    null = raised(null_low)
    os.close(null_low)
    os.dup2(null, 0)

    import __future__
    for name in __future__.all_feature_names:
        future_mask |= getattr(__future__, name).compiler_flag

    user = types.ModuleType("__main__")
    space = user.__dict__
    space["__builtins__"] = builtins
    # The driver's own module would otherwise be torn down with its names set to None.
    sys.modules["__main__"], main.driver = user, sys.modules["__main__"]
    sys.argv = [""]

    os.register_at_fork(after_in_child=leave_control)
    os.register_at_fork = recording(os.register_at_fork)
    signal.signal(RESEED_SIGNAL, on_reseed)
    # asyncio.run replaces this handler by one that cancels its task, if it finds the default one installed.
    signal.default_int_handler = on_interrupt
    signal.signal(signal.SIGINT, on_interrupt)

    while True:
        try:
            number, kind, payload, fds = receive()
            if kind == KIND_RUN:
                run(number, payload, *fds)
            elif kind == KIND_START:
                start(number, payload, *fds)
            elif kind == KIND_TRACED:
                traced(number, payload, *fds)
        except BaseException:
            # User code took the driver's descriptors or changed what it is built on. The agent tells it better than
            # a traceback of the driver would.
            os._exit(1)


def raised(fd):
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)


def receive():
    data, ancillary, _, _ = control.recvmsg(FIRST_READ_BYTES, ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
    fds = ()
    for _, _, packed in ancillary:
        fds = struct.unpack(f"{len(packed) // 4}i", packed)
    while len(data) < REQUEST.size:
        more = control.recv(FIRST_READ_BYTES)
        if not more:
            os._exit(0)
        data += more
    length, number, kind = REQUEST.unpack_from(data)
    if len(data) - REQUEST.size == length:
        return number, kind, data[REQUEST.size :], fds
    payload = bytearray(length)
    have = len(data) - REQUEST.size
    payload[:have] = data[REQUEST.size :]
    view = memoryview(payload)
    while have < length:
        count = control.recv_into(view[have:])
        if not count:
            os._exit(0)
        have += count
    return number, kind, payload, fds


def start(number, payload, ack):
    """Does the template's imports and touches every path a first run takes, then goes quiet."""
    global acknowledgements
    acknowledgements = socket.socket(fileno=raised(ack))
    os.close(ack)
    failure = guarded(execute, "<template>", str(payload, "utf-8"))
    code = exit_code(failure)
    if code == 0:
        repair_streams()
        os.dup2(null, 1)
        os.dup2(null, 2)
        for source in ("_podflare = 1\n_podflare", "def _podflare(): 1/0\n_podflare()", "import"):
            exit_code(guarded(execute, "<warm-up>", source))
        space.pop("_podflare", None)
        builtins.__dict__.pop("_", None)
        linecache.clearcache()
        flush()
        gc.collect()
        # What is warm now stays out of the collector's sight: its pages are not written again and stay shared.
        gc.freeze()
    control.sendall(ANSWER.pack(number, code))


def run(number, payload, out, err):
    repair(out, err)
    failure = guarded(run_source, number, payload)
    code = exit_code(failure)
    failure = None
    flush()
    if not original:
        # User code called os.fork() and its child came back here.
        os._exit(code)
    os.dup2(null, 1)
    os.dup2(null, 2)
    control.sendall(ANSWER.pack(number, code))
    # From here on the host has its answer.
    os.dup2(null, 0)


def traced(number, payload, out, err):
    """A run whose environment names the trace it belongs to."""
    trace, _, code = payload.partition(b"\n")
    before = os.environ.get("TRACEPARENT")
    os.environ["TRACEPARENT"] = str(trace, "ascii")
    run(number, code, out, err)
    if before is None:
        os.environ.pop("TRACEPARENT", None)
    else:
        os.environ["TRACEPARENT"] = before


def run_source(number, payload):
    execute(f"<cell {number}>", str(payload, "utf-8"))


def guarded(function, *arguments):
    """Calls with interrupts armed; returns what was raised, or None."""
    global armed
    try:
        try:
            armed = True
            function(*arguments)
        finally:
            armed = False
    except BaseException as failure:
        armed = False
        return failure
    return None


def execute(name, source):
    source = dedented(source)
    remember(name, source)
    codes = line_codes(name, source) or compiled(name, source)
    for code in codes:
        result = eval(code, space)
        if code.co_flags & CO_COROUTINE:
            finish(result)


def line_codes(name, source):
    """A single simple line, which is what most short runs are, compiled as at the prompt: the same outcome without
    the detour over a syntax tree. None where the two could differ."""
    global future_flags
    if "\n" in source or ";" in source:
        return None
    try:
        code = compile(source, name, "single", AWAIT | future_flags, True)
    except SyntaxError:
        # Also what only the prompt refuses, like a comment alone; and the message must be the file's, not the prompt's.
        return None
    future_flags |= code.co_flags & future_mask
    return (code,)


def compiled(name, source):
    """Code of all statements, and of the last one apart where its value is to be shown."""
    global future_flags
    tree = compile(source, name, "exec", PARSE | future_flags, True)
    body = tree.body
    # The last expression is compiled as at the prompt, which hands its value to sys.displayhook.
    last = _ast.Interactive([body.pop()]) if body and type(body[-1]) is _ast.Expr else None
    # Both before either runs: code that does not compile has no effects.
    codes = []
    flags = AWAIT | future_flags
    if body:
        codes.append(compile(tree, name, "exec", flags, True))
        flags |= codes[0].co_flags & future_mask
    if last is not None:
        codes.append(compile(last, name, "single", flags, True))
    future_flags = flags & future_mask
    return codes


def finish(coroutine):
    """Runs top-level `await` to its end, on one event loop for all runs."""
    global runner
    if runner is None:
        import asyncio
        runner = asyncio.Runner()
    runner.run(coroutine)


def dedented(source):
    """Takes the first statement's indentation from every line that has it."""
    if source[:1] not in (" ", "\t", "\n", "\r", "#", "\f"):
        return source
    lines = source.split("\n")
    for line in lines:
        statement = line.lstrip(" \t\f\r")
        if statement and statement[0] != "#":
            indent = line[: len(line) - len(statement)]
            break
    else:
        return source
    if not indent:
        return source
    return "\n".join([line[len(indent) :] if line.startswith(indent) else line for line in lines])


def remember(name, source):
    """Keeps the source for tracebacks and `inspect`, up to a bound."""
    global cells_chars
    if len(source) > CELL_CHARS_MAX:
        return
    lines = [line[:LINE_CHARS_MAX] + "\n" for line in source.split("\n")]
    chars = sum(map(len, lines))
    linecache.cache[name] = (chars, None, lines, name)
    cells.append((name, chars))
    cells_chars += chars
    while len(cells) > CELLS_MAX or cells_chars > CELLS_CHARS_MAX:
        oldest, chars = cells.popleft()
        linecache.cache.pop(oldest, None)
        cells_chars -= chars


def exit_code(failure):
    """The exit code for what user code raised, which is reported on stderr first."""
    if failure is None:
        return 0
    if isinstance(failure, SystemExit):
        code = failure.code
        if code is None:
            return 0
        if isinstance(code, int):
            return code & 0xFF
        guarded(print_to_stderr, code)
        return 1
    # What is printed may be user code too: a __str__, or an excepthook.
    broken = guarded(show, failure)
    if broken is not None:
        guarded(print_to_stderr, f"{type(failure).__name__}: (its traceback cannot be printed)")
    return 1


def print_to_stderr(text):
    print(text, file=sys.stderr)


def show(failure):
    trace = user_frames(failure.__traceback__)
    failure.__traceback__ = trace
    hook = sys.excepthook
    if hook is not sys.__excepthook__:
        hook(type(failure), failure, trace)
        return
    # One write: what other processes print cannot come between its lines.
    sys.stderr.write("".join(traceback.format_exception(type(failure), failure, trace)))


def user_frames(trace):
    """Cuts this file's frames from both ends of a traceback."""
    while trace is not None and trace.tb_frame.f_code.co_filename == FILE:
        trace = trace.tb_next
    last = trace
    while last is not None and last.tb_next is not None:
        if last.tb_next.tb_frame.f_code.co_filename == FILE:
            last.tb_next = None
        last = last.tb_next
    return trace


def repair(out, err):
    """Connects a run's output and undoes what earlier user code did to the standard streams."""
    repair_streams()
    if _thread._count():
        stale = stale_threads()
        if stale:
            for name in ("stdout", "stderr"):
                setattr(sys, name, Filtered(streams[name], stale))
        # What threads printed between the runs goes where it belongs, to /dev/null.
        flush()
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    # Not the function of `signal`, which first tries to make an enumeration of what it returns.
    if _signal.getsignal(signal.SIGINT) is not on_interrupt:
        signal.signal(signal.SIGINT, on_interrupt)
    for hook in ("displayhook", "excepthook"):
        if not callable(getattr(sys, hook, None)):
            setattr(sys, hook, getattr(sys, f"__{hook}__"))


def stale_threads():
    """Threads of earlier runs; those of pools do not count, they print on behalf of whoever gives them work."""
    pools = getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", ())
    here = threading.current_thread()
    return {
        thread
        for thread in threading.enumerate()
        if thread is not here and thread not in pools and type(thread).__name__ != "DummyProcess"
    }


def repair_streams():
    for name, fd in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        stream = streams.get(name)
        if stream is None or stream.closed:
            stream = streams[name] = make_stream(name, fd)
        if getattr(sys, name, None) is not stream:
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def make_stream(name, fd):
    if fd == 0:
        raw = io.FileIO(0, "r", closefd=False)
        raw.name = "<stdin>"
        return io.TextIOWrapper(io.BufferedReader(raw), encoding="utf-8", errors="surrogateescape")
    raw = io.FileIO(fd, "w", closefd=False)
    raw.name = f"<{name}>"
    errors = "surrogateescape" if fd == 1 else "backslashreplace"
    # By the line: a line is the smallest thing the host passes on, and one write each keeps lines whole.
    return io.TextIOWrapper(
        io.BufferedWriter(raw, 64 * 1024), encoding="utf-8", errors=errors, newline="\n", line_buffering=True
    )


def flush():
    for name in ("stdout", "stderr"):
        ours = streams[name]
        theirs = getattr(sys, name, None)
        if theirs is not ours and theirs is not None:
            guarded(flush_theirs, theirs)
        try:
            if not ours.closed:
                ours.flush()
        except BaseException:
            # The descriptor is gone. What could not be written must not turn up in a later run.
            streams[name] = None


def flush_theirs(stream):
    stream.flush()


def on_interrupt(signum, frame):
    global interrupted
    if reseeding:
        interrupted = True
    elif armed:
        raise KeyboardInterrupt


def leave_control():
    """In a child of os.fork(): the conversation with the agent is the parent's."""
    global original
    original = False
    for inherited in (control, acknowledgements):
        if inherited is not None:
            inherited.close()


def recording(register_at_fork):
    def register(**callbacks):
        register_at_fork(**callbacks)
        if "after_in_child" in callbacks:
            clone_callbacks.append(callbacks["after_in_child"])

    register.__name__ = register.__qualname__ = "register_at_fork"
    register.__doc__ = register_at_fork.__doc__
    return register


def on_reseed(signum, frame):
    """The machine has been cloned and the kernel's randomness is fresh: draw from it.

    A signal, so that it also works in the middle of a run. Without an acknowledgement the host destroys the clone, or
    the agent this process.
    """
    global reseeding, interrupted
    reseeding += 1
    try:
        try:
            # Read first: what is drawn from here on is newer than the request.
            asked = acknowledgements.recv(4096, socket.MSG_DONTWAIT)
        except OSError:
            asked = b""
        try:
            reseed()
            outcome = 1
        except BaseException:
            outcome = 0
        if asked:
            acknowledgements.send(bytes((asked[-1], outcome)))
    finally:
        reseeding -= 1
    if interrupted and not reseeding:
        interrupted = False
        on_interrupt(signum, frame)


def reseed():
    random.seed()
    modules = sys.modules
    numpy_random = modules.get("numpy.random")
    # Not there yet while it is being imported.
    if hasattr(numpy_random, "seed"):
        try:
            numpy_random.seed()
        except TypeError:
            # User code has chosen another generator, which can only be made anew.
            numpy_random.set_bit_generator(type(numpy_random.get_bit_generator())())
    ssl = modules.get("_ssl")
    if ssl is not None:
        # OpenSSL notices a fork by its process id, which a cloned machine keeps.
        ssl.RAND_add(os.urandom(32), 32.0)
    tempfile = modules.get("tempfile")
    if tempfile is not None:
        # It too goes by the process id.
        tempfile._name_sequence = None
    for callback in clone_callbacks:
        # Unlike after os.fork() all threads live on, so the standard library's hooks, which reset locks, must not run.
        function = getattr(callback, "func", callback)
        module = (getattr(function, "__module__", None) or "").partition(".")[0]
        if module and module not in sys.stdlib_module_names:
            callback()


main()
