"""FLAME files: synthetic ones of its layout, written as old and new tools write them, and hostile ones."""

from __future__ import annotations

import io
import os
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from scipy import sparse

from ffavatar_model.head import pose_head
from ffavatar_model.head.flame import load_flame
from ffavatar_model.head.safe_pickle import RefusedPickle, read_arrays

V, F, N_SHAPE, N_EXPRESSION = 60, 90, 12, 5


def flame_arrays(seed: int = 0) -> dict[str, object]:
    g = np.random.default_rng(seed)
    weights = g.random((V, 5))
    regressor = g.random((5, V)) * (g.random((5, V)) < 0.2) + 1e-3
    return {
        "v_template": g.normal(scale=0.1, size=(V, 3)),
        "shapedirs": g.normal(scale=0.01, size=(V, 3, N_SHAPE + N_EXPRESSION)),
        "posedirs": g.normal(scale=0.01, size=(V, 3, 36)),
        "J_regressor": sparse.csc_matrix(regressor / regressor.sum(1, keepdims=True)),
        "weights": weights / weights.sum(1, keepdims=True),
        "f": g.integers(0, V, (F, 3)).astype(np.uint32),
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


@pytest.fixture
def chumpy(monkeypatch):
    """A class that pickles under chumpy's name as chumpy's arrays do; gone again when the file is read."""
    module = types.ModuleType("chumpy.ch")

    class Ch:
        def __init__(self, x):
            self.x = x

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module.Ch = Ch
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    return Ch


def write(path, arrays, protocol=2):
    path.write_bytes(pickle.dumps(arrays, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_every_entry_of_a_flame_file_arrives(tmp_path, protocol):
    arrays = flame_arrays()
    head = load_flame(write(tmp_path / "flame2023.pkl", arrays, protocol), N_SHAPE)
    assert (head.n_vertices, head.n_shape, head.n_expression, head.name) == (V, N_SHAPE, N_EXPRESSION, "flame2023")
    regressor = arrays["J_regressor"].toarray()
    eyes = (regressor @ arrays["v_template"])[3:].mean(0)
    np.testing.assert_allclose(head.template, arrays["v_template"] - eyes, atol=1e-7)
    np.testing.assert_allclose(head.shape_directions, arrays["shapedirs"][..., :N_SHAPE], atol=1e-7)
    np.testing.assert_allclose(head.expression_directions, arrays["shapedirs"][..., N_SHAPE:], atol=1e-7)
    np.testing.assert_allclose(head.joint_regressor, regressor, atol=1e-7)
    np.testing.assert_array_equal(head.triangles, arrays["f"])
    rest = pose_head(head, torch.zeros(1, 0), torch.zeros(1, 0), torch.zeros(1, 5, 3))
    np.testing.assert_allclose(rest.joints[0, 3:].mean(0), 0, atol=1e-6)


def test_chumpy_arrays_are_read_without_chumpy(tmp_path, chumpy, monkeypatch):
    arrays = flame_arrays()
    wrapped = arrays | {name: chumpy(arrays[name]) for name in ("v_template", "shapedirs", "posedirs", "weights")}
    old, plain = write(tmp_path / "generic_model.pkl", wrapped), write(tmp_path / "plain.pkl", arrays)
    monkeypatch.delitem(sys.modules, "chumpy")
    monkeypatch.delitem(sys.modules, "chumpy.ch")
    a, b = load_flame(old, N_SHAPE), load_flame(plain, N_SHAPE)
    for name, tensor in a.tensors().items():
        assert torch.equal(tensor, b.tensors()[name]), name


def test_names_as_python_2_wrote_them_and_other_memory_layouts(tmp_path):
    arrays = flame_arrays()
    arrays["v_template"] = np.asfortranarray(arrays["v_template"]).astype(">f8")
    data = pickle.dumps(arrays, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    data = data.replace(b"scipy.sparse._csc", b"scipy.sparse.csc")
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(data)
    expected = load_flame(write(tmp_path / "new.pkl", flame_arrays()), N_SHAPE)
    torch.testing.assert_close(load_flame(path, N_SHAPE).template, expected.template)


class Hostile:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("function", [os.system, eval, exec, __import__, getattr, np.load])
def test_a_hostile_pickle_executes_nothing(tmp_path, function, protocol):
    trace = tmp_path / "executed"
    args = {
        os.system: (f"touch {trace}",), eval: (f"open({str(trace)!r}, 'w')",), exec: (f"open({str(trace)!r}, 'w')",),
    }.get(function, ("os", "system"))  # fmt: skip
    path = write(tmp_path / "flame.pkl", flame_arrays() | {"weights": Hostile(function, *args)}, protocol)
    with pytest.raises(ValueError, match=r"flame\.pkl: refused as a FLAME model: it asks for"):
        load_flame(path, N_SHAPE)
    assert not trace.exists()


def forged_dtype() -> bytes:
    """An object dtype whose flags claim that its raw bytes may be taken as they are: memory corruption in numpy."""
    out = io.BytesIO()
    pickler = pickle.Pickler(out, 2)

    class Array:
        def __reduce__(self):
            return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), Dtype(), False, b"A" * 8)

    class Dtype:
        def __reduce__(self):
            return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)

    pickler.dump({"weights": Array()})
    return out.getvalue()


def test_arrays_are_rebuilt_from_plain_numbers_only():
    with pytest.raises(RefusedPickle, match=r"'weights'.*object is not a plain number"):
        read_arrays(forged_dtype())
    short = pickle.dumps({"a": np.zeros(4)}, 2).replace(b"K\x04\x85", b"K\x05\x85")
    with pytest.raises(RefusedPickle, match=r"'a'.*bytes for shape \(5,\)"):
        read_arrays(short)


def test_files_that_are_no_flame_model_are_named(tmp_path):
    arrays = flame_arrays()
    with pytest.raises(FileNotFoundError, match="no such FLAME file"):
        load_flame(tmp_path / "none.pkl")
    broken = tmp_path / "broken.pkl"
    broken.write_bytes(pickle.dumps(arrays, 2)[:-500])
    with pytest.raises(ValueError, match=r"broken\.pkl: refused as a FLAME model: it cannot be read"):
        load_flame(broken, N_SHAPE)
    with pytest.raises(ValueError, match=r"lacks \['posedirs'\]"):
        load_flame(write(tmp_path / "a.pkl", {k: v for k, v in arrays.items() if k != "posedirs"}), N_SHAPE)
    with pytest.raises(ValueError, match="shapedirs has shape"):
        load_flame(write(tmp_path / "b.pkl", arrays), 300)
    swapped = arrays | {"kintree_table": np.array([[4294967295, 0, 1, 1, 2], [0, 1, 2, 3, 4]])}
    with pytest.raises(ValueError, match="joints' parents are"):
        load_flame(write(tmp_path / "c.pkl", swapped), N_SHAPE)
    with pytest.raises(ValueError, match=r"d\.pkl: .*triangles points outside"):
        load_flame(write(tmp_path / "d.pkl", arrays | {"f": np.full((F, 3), V)}), N_SHAPE)
    with pytest.raises(ValueError, match="holds a list"):
        load_flame(write(tmp_path / "e.pkl", [1, 2]), N_SHAPE)
