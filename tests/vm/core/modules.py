"""Loads modules of the running kernel, from the files of its package: the guest's root is the host's, whose own
modules are another kernel's."""

import ctypes
import lzma
import os
import pathlib


def files(root):
    """Paths by the module's name."""
    found = {}
    for path in pathlib.Path(root).rglob("*.ko*"):
        found[path.name.split(".", 1)[0].replace("-", "_")] = path
    return found


def image(path):
    return lzma.open(path).read() if path.suffix == ".xz" else path.read_bytes()


def depends(text):
    """The names in the field `depends` of the section .modinfo."""
    at = text.find(b"\0depends=") + 1
    field = text[at : text.index(b"\0", at)].decode() if at else "depends="
    return [name for name in field[len("depends=") :].split(",") if name]


def load(kernels, name):
    """Loads the module and those it depends on; nothing where it is loaded or built in."""
    root = pathlib.Path(kernels) / os.uname().release
    known = files(root)
    builtin = "".join(path.read_text() for path in root.rglob("modules.builtin"))
    insert(known, builtin, name)


def insert(known, builtin, name):
    name = name.replace("-", "_")
    if os.path.exists(f"/sys/module/{name}") or f"/{name}.ko" in builtin.replace("-", "_"):
        return
    if name not in known:
        raise LookupError("no such file in its package")
    text = image(known[name])
    for other in depends(text):
        insert(known, builtin, other)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(175, text, len(text), b"") != 0 and ctypes.get_errno() != 17:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
