"""The Python text with which an emitted module builds its C core: once per machine, source and compiler."""

from __future__ import annotations

LIBRARY = r'''
FLAGS = ("-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fPIC", "-pthread")
# Of gcc's passes (12.2), those that these loops need: the code is as fast as with -O3, and compiled in half the time.
GCC_LEVEL = ("-O1", "-fexpensive-optimizations")
GCC_VECTORS = ("-ftree-vectorize", "-fvect-cost-model=dynamic")


def _compiler():
    """The command of a C compiler: that of the variable CC, else cc, gcc, clang, else that of the package ziglang."""
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    raise RuntimeError(
        "no C compiler was found: looked for CC, cc, gcc, clang and the Python package ziglang; install one of them"
    )


def _run(command, text=""):
    """What a command prints; RuntimeError with its messages when it fails."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RuntimeError(f"{shlex.join(command)}: {error}") from error
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} failed:\n{done.stderr}")
    return done.stdout


def _cache_folder():
    """Where compiled cores are kept: RNNGRAPH_CACHE, or "rnngraph" in the user's cache folder; else a fresh folder."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = os.environ.get("RNNGRAPH_CACHE") or os.path.join(home, "rnngraph")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if os.access(folder, os.W_OK) and (not hasattr(os, "getuid") or os.stat(folder).st_uid == os.getuid()):
            return folder
    except OSError:
        pass
    return tempfile.mkdtemp(prefix="rnngraph")


def _load_core():
    """The shared library of CORE and COMMON, compiled unless the cache has it. CFLAGS come last."""
    first, last = [*_compiler(), *FLAGS], shlex.split(os.environ.get("CFLAGS", ""))
    machine = _run([*first, *last, "-dM", "-E", "-x", "c", "-"])  # the compiler's version, the machine's instructions
    level, vectors = (("-O2",), ()) if "__clang__" in machine else (GCC_LEVEL, GCC_VECTORS)
    compiler = [*first, *level, *last]
    folder = _cache_folder()

    def kept(ending, make, *texts):
        """The path of a file in the cache, which ``make`` writes where it is missing."""
        digest = hashlib.sha256("\n".join((machine, *compiler, *vectors, *texts)).encode("utf-8")).hexdigest()[:32]
        path = os.path.join(folder, digest + ending)
        if not os.path.exists(path):
            with tempfile.TemporaryDirectory(dir=folder) as place:
                make(os.path.join(place, "made" + ending), *texts)
                os.replace(os.path.join(place, "made" + ending), path)  # at once: other processes see all or nothing
        return path

    def compile_text(result, text, *more):
        source = result.removesuffix(".o") + ".c"
        with open(source, "w", encoding="utf-8") as file:
            file.write(text)
        _run([*first, *level, *more, *last, "-c", "-o", result, source])

    def link(result, common, core, _):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            shared = pool.submit(kept, ".o", compile_text, common)  # without `vectors`: its own are written out
            own = result.removesuffix(".so") + ".o"
            compile_text(own, core, *vectors)
        _run([*compiler, "-shared", "-o", result, own, shared.result(), "-lm"])

    # one library for each number of threads: buffers are made for so many, and a library knows one number
    core = ctypes.CDLL(kept(".so", link, COMMON, CORE, f"{THREADS} threads"))
    for name in CORE_FUNCTIONS:
        getattr(core, name).argtypes = (*(ctypes.c_void_p,) * 4, ctypes.c_long, ctypes.c_long)
        getattr(core, name).restype = None
    core.use_threads.argtypes, core.use_threads.restype = (ctypes.c_long,), None
    core.use_threads(THREADS)
    return core


def _threads():
    """How many threads calls may use: RNNGRAPH_THREADS, else OMP_NUM_THREADS, else one for each core of the process."""
    for name in ("RNNGRAPH_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(name, "").isdigit():
            return max(int(os.environ[name]), 1)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory(*arrays, more=0):
    """The addresses of arrays, as a table for C, with places for so many more."""
    return (ctypes.c_void_p * (len(arrays) + more))(*map(_address, arrays))


def _address(array):
    try:  # a third of the time
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    except (TypeError, ValueError):  # what is read-only or has no elements
        return array.__array_interface__["data"][0]


THREADS = _threads()
_core = _load_core()
'''
CALLS = r'''
class _Given(ctypes.Structure):
    """What all steps of a stream are given."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("memory", "parameters", "direction", "gradient")),
        ("batch", ctypes.c_long),
    )


class _Call(ctypes.Structure):
    """The one argument of a step in C: to hand over several takes as long as a small step."""

    _fields_ = (("given", ctypes.POINTER(_Given)), ("row", ctypes.c_long))


_core.{step}.restype = None
'''
IMPORTS = (
    "concurrent.futures",
    "ctypes",
    "hashlib",
    "importlib.util",
    "os",
    "shlex",
    "shutil",
    "subprocess",
    "sys",
    "tempfile",
)
