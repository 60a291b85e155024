"""Reader of the arrays in a pickle that executes no code from the pickle.

A pickle is a program. This reader gives it nothing to call: the names that model files need (of numpy, scipy.sparse and
chumpy) are replaced by record classes without behaviour, made anew for each file, and all other names are refused. The
reader itself builds arrays from the records' bytes, for plain number types only (numpy's own constructors trust the
pickle's dtype).
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPARSE = ("csc_matrix", "csr_matrix", "csc_array", "csr_array")
PLAIN_KINDS = "fiub"
MAX_BYTES = 1 << 30
"""Largest accepted size of a model file, bytes."""


class RefusedPickle(ValueError):
    """Error raised if a pickle contains a name that no model file needs, or is damaged."""


class _Record:
    """Replacement for a pickled object; it holds only the class's name, the constructor's arguments and the state."""

    label = ""

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._known: dict[tuple[str, str], Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return the record class or constructor that replaces an allowed name.

        Raises:
            RefusedPickle: The name is not allowed.
        """
        if (module, name) not in self._known:
            self._known[module, name] = self._resolve(module, name)
        return self._known[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to other files.

        Raises:
            RefusedPickle: Always.
        """
        raise RefusedPickle("it refers to objects outside of the file")

    def _resolve(self, module: str, name: str) -> Any:
        root = module.split(".")[0]
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _constructor("array")
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return _constructor("buffer")
        if module == "numpy" and name in ("ndarray", "dtype"):
            return _record(name)
        if root == "scipy" and name in SPARSE:
            return _record(name)
        if root == "chumpy":
            return _record(f"{module}.{name}")
        if module in ("copy_reg", "copyreg") and name == "_reconstructor":
            return lambda kind, base, state: kind() if _is_record(kind) else _refuse("an object of no class")
        if module in ("__builtin__", "builtins") and name == "object":
            return object
        if module in ("__builtin__", "builtins") and name in ("set", "frozenset"):
            return _constructor("set")  # chumpy's arrays contain a set, the names of changed attributes
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "scalar":
            return _constructor("scalar")
        if module == "_codecs" and name == "encode":
            return _encode_latin1
        return _refuse(f"{module}.{name}")


def _record(label: str) -> type[_Record]:
    """Return a new record class, so that attributes a pickle sets on the class do not affect the next file."""
    return type("_Record", (_Record,), {"label": label})


def _constructor(label: str) -> Callable[..., _Record]:
    kind = _record(label)
    return lambda *args: kind(*args)


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, _Record)


def _encode_latin1(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        _refuse("another encoding than latin1")
    return str(text).encode("latin1")


def _refuse(what: str) -> Any:
    raise RefusedPickle(f"it asks for {what}, which no model file needs")


def _check_claims(data: bytes) -> None:
    """Refuse a pickle that claims more than its bytes can hold, before the C reader allocates it.

    A place in the memo is a number in the file, up to 2³², and the reader makes room for all places below it; so does a
    length for the bytes that should follow. Here, reading a short stream to its end allocates nothing.

    Args:
        data: The pickle.

    Raises:
        RefusedPickle: A place in the memo is not below the number of bytes.
        ValueError: A value is longer than the rest of the file (``pickletools``).
    """
    for operation, argument, _ in pickletools.genops(data):
        if operation.name.endswith("PUT") and not (isinstance(argument, int) and 0 <= argument < len(data)):
            raise RefusedPickle(f"it asks for place {argument} of its memo with {len(data)} bytes")


def read_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Read the arrays of a pickled dictionary: numpy's, chumpy's, and scipy.sparse's converted to dense arrays.

    Args:
        data: The pickle.

    Returns:
        Arrays by name; other values are left out.

    Raises:
        RefusedPickle: The pickle contains any other name, is damaged or too large, or is not a dictionary.
    """
    if len(data) > MAX_BYTES:
        raise RefusedPickle(f"it has {len(data)} bytes, more than {MAX_BYTES}")
    try:
        _check_claims(data)
        loaded = _Reader(data).load()
    except RefusedPickle:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise RefusedPickle(f"it cannot be read ({type(error).__name__}: {error})") from None
    if not isinstance(loaded, dict):
        raise RefusedPickle(f"it holds a {type(loaded).__name__}, not a dictionary")
    arrays = {}
    for key, value in loaded.items():
        if isinstance(key, str) and isinstance(value, _Record):
            try:
                arrays[key] = _to_array(value)
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                raise RefusedPickle(f"its entry {key!r} is no array that can be rebuilt ({error})") from None
    return arrays


def _to_array(record: _Record) -> NDArray[Any]:
    if record.label == "array":
        _, shape, dtype, fortran, raw = record.state
        return _rebuild(raw, dtype, shape, "F" if fortran else "C")
    if record.label == "buffer":
        raw, dtype, shape, order = record.args
        return _rebuild(raw, dtype, shape, order)
    if record.label in SPARSE:
        return _densify(record)
    if record.label.startswith("chumpy"):
        inner = record.state.get("x")
        if not isinstance(inner, _Record):
            raise ValueError(f"a {record.label} that holds no array")
        return _to_array(inner)
    raise ValueError(f"a {record.label}")


def _rebuild(raw: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any]:
    """Check that type, shape and number of bytes agree, and build the array."""
    if not (isinstance(dtype, _Record) and dtype.label == "dtype"):
        raise ValueError("it has no dtype")
    byte_order = dtype.state[1] if dtype.state else "|"
    if not isinstance(dtype.args[0], str):  # the text of other values can be far longer than the file
        raise ValueError("its dtype has no name")
    kind = np.dtype(dtype.args[0])
    if kind.kind not in PLAIN_KINDS or kind.fields is not None or order not in ("C", "F"):
        raise ValueError(f"dtype {kind} is not a plain number")
    if byte_order == ">":
        kind = kind.newbyteorder(">")
    data = raw.encode("latin1") if isinstance(raw, str) else bytes(raw)
    shape = tuple(int(n) for n in shape)
    if min(shape, default=0) < 0 or int(np.prod(shape, dtype=object)) * kind.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for shape {shape} of {kind}")
    return np.frombuffer(data, kind).reshape(shape, order=order).copy()  # type: ignore[call-overload]


def _densify(record: _Record) -> NDArray[Any]:
    """Convert a compressed sparse matrix to a dense array."""
    state = record.state
    data, indices, indptr = (_to_array(state[name]) for name in ("data", "indices", "indptr"))
    rows, columns = (int(n) for n in (state["_shape"] if "_shape" in state else state["shape"]))
    by_column = record.label.startswith("csc")
    major, minor = (columns, rows) if by_column else (rows, columns)
    if rows * columns * 8 > MAX_BYTES or len(indptr) != major + 1 or not len(data) == len(indices) == indptr[-1]:
        raise ValueError("a sparse matrix whose parts disagree")
    if (len(indices) and not 0 <= indices.min() <= indices.max() < minor) or (np.diff(indptr) < 0).any():
        raise ValueError("a sparse matrix whose indices lie outside of it")
    dense = np.zeros((major, minor))
    np.add.at(dense, (np.repeat(np.arange(major), np.diff(indptr)), indices), data)
    return dense.T if by_column else dense
