"""The Python text with which an emitted module builds its C core: once per machine, source and compiler."""

from __future__ import annotations

LIBRARY = r'''
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fPIC")


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
    """The shared library of CORE and PRODUCTS, compiled unless the cache has it. CFLAGS may add to the flags."""
    compiler = [*_compiler(), *FLAGS, *shlex.split(os.environ.get("CFLAGS", ""))]
    machine = _run([*compiler, "-dM", "-E", "-x", "c", "-"])  # the compiler's version, the machine's instructions
    folder = _cache_folder()

    def built(text, ending, *options):
        digest = hashlib.sha256("\n".join((text, machine, *compiler, *options)).encode("utf-8")).hexdigest()[:32]
        path = os.path.join(folder, digest + ending)
        if not os.path.exists(path):
            with tempfile.TemporaryDirectory(dir=folder) as place:
                source, result = os.path.join(place, "core.c"), os.path.join(place, "core")
                with open(source, "w", encoding="utf-8") as file:
                    file.write(text)
                _run([*compiler, "-o", result, source, *options])
                os.replace(result, path)  # at once: other processes see all of it or nothing
        return path

    core = ctypes.CDLL(built(CORE, ".so", "-shared", built(PRODUCTS, ".o", "-c"), "-lm"))
    for name in CORE_FUNCTIONS:
        getattr(core, name).argtypes = (*(ctypes.c_void_p,) * 4, ctypes.c_long, ctypes.c_long)
        getattr(core, name).restype = None
    return core


def _memory(*arrays):
    """The addresses of arrays, as a table for C."""
    return (ctypes.c_void_p * len(arrays))(*map(_address, arrays))


def _address(array):
    return array.__array_interface__["data"][0]


_core = _load_core()
'''
IMPORTS = ("ctypes", "hashlib", "importlib.util", "os", "shlex", "shutil", "subprocess", "sys", "tempfile")
