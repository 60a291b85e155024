"""FLAME files: synthetic ones of its layout, written as old and new tools write them, and hostile ones."""

from __future__ import annotations

import io
import os
import pickle
import sys
import tracemalloc
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
        """With the state that chumpy 0.70's ``Ch.__getstate__`` leaves: sets, flags, caches' bookkeeping."""

        def __init__(self, x):
            self._dirty_vars, self._itr = {"x"}, None
            self._make_dense, self._make_sparse = False, False
            self._depends_on_deps = {"r": {"deps": {"x"}, "value": None, "out_of_date": True}}
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


def flame_in_float64(arrays, shape, expression, rotations):
    """FLAME's own definition (Li et al. 2017, eq. 1 to 6) from the file's arrays, about the file's own origin."""
    from scipy.linalg import expm

    def turn(r):
        return expm(np.array([[0, -r[2], r[1]], [r[2], 0, -r[0]], [-r[1], r[0], 0]]))

    parents = (-1, 0, 1, 1, 1)
    directions, template = arrays["shapedirs"], arrays["v_template"]
    shaped = template + directions[..., :N_SHAPE] @ shape
    joints = arrays["J_regressor"].toarray() @ shaped
    turns = [turn(r) for r in rotations]
    rest = shaped + directions[..., N_SHAPE:] @ expression
    rest = rest + arrays["posedirs"] @ np.concatenate([(t - np.eye(3)).ravel() for t in turns[1:]])
    world = []
    for j, parent in enumerate(parents):
        local = np.eye(4)
        local[:3, :3], local[:3, 3] = turns[j], joints[j] - (joints[parent] if parent >= 0 else 0)
        world.append(local if parent < 0 else world[parent] @ local)
    moved = [
        w @ np.block([[np.eye(3), -j[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])
        for w, j in zip(world, joints, strict=True)
    ]
    blended = np.einsum("vj,jab->vab", arrays["weights"], moved)
    return np.einsum("vab,vb->va", blended, np.column_stack([rest, np.ones(V)]))[:, :3]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_posed_file_is_flame_s_own_definition_in_float64(tmp_path, seed):
    arrays, g = flame_arrays(seed), np.random.default_rng(seed + 10)
    head = load_flame(write(tmp_path / "flame2023.pkl", arrays), N_SHAPE)
    shape, expression = g.normal(size=N_SHAPE), g.normal(size=N_EXPRESSION)
    rotations = g.normal(scale=0.5, size=(5, 3))
    got = pose_head(head, *(torch.tensor(v[None], dtype=torch.float32) for v in (shape, expression, rotations)))
    eyes = (arrays["J_regressor"].toarray() @ arrays["v_template"])[3:].mean(0)
    truth = flame_in_float64(arrays, shape, expression, rotations) - eyes
    np.testing.assert_allclose(got.vertices[0], truth, atol=2e-6)


def test_without_jaw_rotation_the_jaw_moves_nothing_and_the_rest_is_the_same(tmp_path):
    arrays = flame_arrays()
    turning = load_flame(write(tmp_path / "flame2023.pkl", arrays), N_SHAPE)
    still = load_flame(write(tmp_path / "flame2023_no_jaw.pkl", arrays), N_SHAPE)
    said = load_flame(tmp_path / "flame2023.pkl", N_SHAPE, jaw_rotates=False)
    assert torch.equal(said.skinning_weights, still.skinning_weights) and still.digest != turning.digest
    g = torch.Generator().manual_seed(2)
    shape, expression = torch.randn(1, N_SHAPE, generator=g), torch.randn(1, N_EXPRESSION, generator=g)
    rotations = 0.4 * torch.randn(1, 5, 3, generator=g)
    closed = rotations.clone()
    closed[:, 2] = 0
    a, b = (pose_head(still, shape, expression, r).vertices for r in (rotations, closed))
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(b, pose_head(turning, shape, expression, closed).vertices, atol=1e-6, rtol=1e-5)
    assert (pose_head(turning, shape, expression, rotations).vertices - b).abs().max() > 0.01


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
        os.system: (f"touch {trace}",),
        eval: (f"open({str(trace)!r}, 'w')",),
        exec: (f"open({str(trace)!r}, 'w')",),
    }.get(function, ("os", "system"))
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


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x05\x96" + (2**62).to_bytes(8, "little") + b".",  # a bytearray of 4 EB
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"x.",  # bytes of which one is there
        b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",  # lists in lists in lists
        b"\x80\x02U\x01aQ.",  # an object that lies elsewhere
        b"\x80\x02\x82\x01.",  # a registered extension
        b"\x80\x02c__builtin__\nset\n]\x85R.",  # a set in place of the dictionary
        b"\x80\x02}U\x01fK\x07s.",  # a dictionary without arrays
        b"",
    ],
)
def test_other_streams_are_refused_quickly_in_one_line(tmp_path, data):
    path = tmp_path / "flame.pkl"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"flame\.pkl") as error:
        load_flame(path, N_SHAPE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x80\x02]r\xff\xff\xff\x1f.", "place 536870911 of its memo"),  # room for 2^29 pointers: 4 GB
        (b"\x80\x02]r\x09\x00\x00\x00.", "place 9 of its memo with 9 bytes"),
        (b"]p536870911\n.", "place 536870911 of its memo"),
        (b"\x80\x05\x96" + (2**32).to_bytes(8, "little") + b".", "ValueError: expected 4294967296 bytes"),
        (b"\x80\x02X" + (2**32 - 1).to_bytes(4, "little") + b".", "ValueError: expected 4294967295 bytes"),
        (b"\x80\x02T" + (2**31 - 1).to_bytes(4, "little") + b".", "ValueError: expected 2147483647 bytes"),
    ],
)
def test_a_pickle_of_a_few_bytes_takes_no_gigabytes(data, says):
    tracemalloc.start()
    with pytest.raises(RefusedPickle, match=says):
        read_arrays(data)
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()


def test_a_value_s_text_is_never_made():
    """Twenty lists, each of which holds the one before ten times: their text would have 10^20 characters."""
    laughs = b"](" + b"K\x01" * 10 + b"eq\x000"
    for place in range(20):
        laughs += b"](" + (b"h" + bytes([place])) * 10 + b"eq" + bytes([place + 1]) + b"0"
    dtype = laughs + b"cnumpy\ndtype\nh\x14\x85R"
    array = b"cnumpy.core.numeric\n_frombuffer\n(U\x08AAAAAAAA" + dtype + b"K\x01\x85U\x01CtR"
    with pytest.raises(RefusedPickle, match="its dtype has no name"):
        read_arrays(b"\x80\x02}U\x01a" + array + b"s.")


def test_a_sparse_matrix_may_not_claim_more_than_it_holds():
    claims = sparse.csc_matrix(np.eye(3))
    claims._shape = (3, 2**40)
    with pytest.raises(RefusedPickle, match="parts disagree"):
        read_arrays(pickle.dumps({"J_regressor": claims}, 2))


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
