"""Conversion of the int8 YuNet and SFace files to fp32 ONNX models that insightface's classes accept."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
"""ONNX operator set of the converted models."""
IR_VERSION = 8
"""Version of the ONNX file format that belongs to opset 17."""

STRIDES = (8, 16, 32)
"""Pixels per cell at YuNet's three levels; SCRFD has the same levels."""

Array = npt.NDArray[np.generic]


def dequantise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a block-quantised model (opset 21) to a plain fp32 one (opset 17).

    Every ``DequantizeLinear`` of constants, and the ``Reshape`` of its result, is folded into an fp32 initializer.
    Inputs and initializers that no node reads are removed (the quantised files list initializers as inputs too). Node
    names stay the same.

    Args:
        model: The quantised model, which is not changed.

    Returns:
        The fp32 model.

    Raises:
        ValueError: An input of a ``DequantizeLinear`` is not a constant.
    """
    constants: dict[str, Array] = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            absent = [name for name in node.input if name not in constants]
            if absent:
                raise ValueError(f"node {node.name}: {absent} are no constants; only quantised weights can be folded")
            constants[node.output[0]] = _dequantise_constant(node, *(constants[name] for name in node.input))
        elif node.op_type == "Reshape" and node.input[0] in constants and node.input[1] in constants:
            constants[node.output[0]] = constants[node.input[0]].reshape(constants[node.input[1]])
        else:
            nodes.append(node)
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        model.graph.name,
        [i for i in model.graph.input if i.name in read and i.name not in constants],
        list(model.graph.output),
        [_constant(name, value) for name, value in constants.items() if name in read],
    )
    return _model(graph)


def replace_prelu(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace every PRelu that has a constant slope ``a`` per channel by ``a x + (1 - a) relu(x)``.

    The outputs differ by at most 1e-6 of the largest value. With onnxruntime's CPU kernels SFace then takes half the
    time, because PRelu forces a conversion out of the blocked layout that the neighbouring convolutions use.

    Args:
        model: An fp32 model, which is not changed.

    Returns:
        The new model.
    """
    graph = model.graph
    slopes = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    added: list[onnx.TensorProto] = []
    for node in graph.node:
        if node.op_type != "PRelu" or node.input[1] not in slopes:
            nodes.append(node)
            continue
        x, y = node.input[0], node.output[0]
        slope = slopes[node.input[1]].astype(np.float32).reshape(1, -1, 1, 1)
        added += [_constant(f"{y}_slope", slope), _constant(f"{y}_rest", 1 - slope)]
        nodes += [
            helper.make_node("Mul", [x, f"{y}_slope"], [f"{y}_sloped"], f"{node.name}_mul"),
            helper.make_node("Relu", [x], [f"{y}_positive"], f"{node.name}_relu"),
            helper.make_node("Mul", [f"{y}_positive", f"{y}_rest"], [f"{y}_lifted"], f"{node.name}_mul_rest"),
            helper.make_node("Add", [f"{y}_sloped", f"{y}_lifted"], [y], f"{node.name}_add"),
        ]
    read = {name for node in nodes for name in node.input}
    constants = [i for i in [*graph.initializer, *added] if i.name in read]
    return _model(helper.make_graph(nodes, graph.name, list(graph.input), list(graph.output), constants))


def convert_yunet_to_scrfd(yunet: onnx.ModelProto) -> onnx.ModelProto:
    """Give YuNet (fp32) the input and the nine outputs of an SCRFD detector that insightface can decode.

    The input is (1, 3, H, W) RGB, scaled by (x - 127.5) / 128; H and W are multiples of 32. YuNet itself reads BGR from
    0 to 255. There are three outputs for each stride s of 8, 16 and 32. SCRFD has two anchors per cell, so each output
    has 2HW/s² rows; the score of the second anchor is zero.

    - Score (1, 2HW/s², 1): sqrt(class x object).
    - Box (1, 2HW/s², 4): distances from the cell's corner to the left, top, right and bottom edge, in strides,
      computed from YuNet's centre offset and log size.
    - Landmarks (1, 2HW/s², 10): five points relative to the cell's corner, in strides.

    Args:
        yunet: The fp32 model that ``dequantise`` returns; it is not changed.

    Returns:
        The converted model.
    """
    graph = yunet.graph
    source = graph.input[0].name
    nodes = [
        helper.make_node("Mul", ["input.1", "scrfd_std"], ["scrfd_scaled"], "scrfd_mul"),
        helper.make_node("Add", ["scrfd_scaled", "scrfd_mean"], ["scrfd_rgb"], "scrfd_add"),
        helper.make_node("Gather", ["scrfd_rgb", "scrfd_bgr"], [source], "scrfd_swap", axis=1),
        *graph.node,
    ]
    constants: dict[str, Array] = {
        "scrfd_std": np.float32(128.0).reshape(1),
        "scrfd_mean": np.float32(127.5).reshape(1),
        "scrfd_bgr": np.array([2, 1, 0]),
        "scrfd_half": np.float32(0.5).reshape(1),
        "scrfd_zero": np.float32(0.0).reshape(1),
        "scrfd_one": np.float32(1.0).reshape(1),
        "scrfd_split": np.array([2, 2]),
    }
    for width in (1, 4, 10):
        constants[f"scrfd_rows_{width}"] = np.array([1, -1, width])
    outputs: dict[str, list[str]] = {"score": [], "bbox": [], "kps": []}
    for stride in STRIDES:
        nodes += (
            _score_nodes(stride)
            + _box_nodes(stride)
            + _anchor_nodes(f"kps_{stride}", 10, f"kps_out_{stride}", zero=False)
        )
        for kind, names in outputs.items():
            names.append(f"{kind}_out_{stride}")
    widths = {"score": 1, "bbox": 4, "kps": 10}
    converted = helper.make_graph(
        nodes,
        "yunet_as_scrfd",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [1, 3, "height", "width"])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, widths[kind]])
            for kind, names in outputs.items()
            for name in names
        ],
        [*graph.initializer, *(_constant(name, value) for name, value in constants.items())],
    )
    return _model(converted)


def _score_nodes(stride: int) -> list[onnx.NodeProto]:
    prefix = f"score_{stride}"
    return [
        helper.make_node("Mul", [f"cls_{stride}", f"obj_{stride}"], [f"{prefix}_product"], f"{prefix}_mul"),
        helper.make_node("Sqrt", [f"{prefix}_product"], [f"{prefix}_root"], f"{prefix}_sqrt"),
        *_anchor_nodes(f"{prefix}_root", 1, f"score_out_{stride}", zero=True),
    ]


def _box_nodes(stride: int) -> list[onnx.NodeProto]:
    """Map (dx, dy, log w, log h) to (w/2 - dx, h/2 - dy, w/2 + dx, h/2 + dy)."""
    prefix = f"box_{stride}"
    return [
        helper.make_node(
            "Split", [f"bbox_{stride}", "scrfd_split"], [f"{prefix}_centre", f"{prefix}_log"], f"{prefix}_split", axis=2
        ),
        helper.make_node("Exp", [f"{prefix}_log"], [f"{prefix}_size"], f"{prefix}_exp"),
        helper.make_node("Mul", [f"{prefix}_size", "scrfd_half"], [f"{prefix}_half"], f"{prefix}_halve"),
        helper.make_node("Sub", [f"{prefix}_half", f"{prefix}_centre"], [f"{prefix}_low"], f"{prefix}_sub"),
        helper.make_node("Add", [f"{prefix}_half", f"{prefix}_centre"], [f"{prefix}_high"], f"{prefix}_add"),
        helper.make_node(
            "Concat", [f"{prefix}_low", f"{prefix}_high"], [f"{prefix}_sides"], f"{prefix}_concat", axis=2
        ),
        *_anchor_nodes(f"{prefix}_sides", 4, f"bbox_out_{stride}", zero=False),
    ]


def _anchor_nodes(name: str, width: int, output: str, *, zero: bool) -> list[onnx.NodeProto]:
    """Expand (1, N, width) to (1, 2N, width): each row is followed by its copy, or by a row of zeros if ``zero``."""
    second = f"{output}_second"
    return [
        helper.make_node("Mul", [name, "scrfd_zero" if zero else "scrfd_one"], [second], f"{output}_mul"),
        helper.make_node("Concat", [name, second], [f"{output}_pair"], f"{output}_concat", axis=2),
        helper.make_node("Reshape", [f"{output}_pair", f"scrfd_rows_{width}"], [output], f"{output}_reshape"),
    ]


def _dequantise_constant(node: onnx.NodeProto, values: Array, scale: Array, zero: Array) -> Array:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    axis, block = attributes.get("axis", 1), attributes.get("block_size", 0)
    if block:  # one scale per block of values along the axis; the last block may be shorter
        length = values.shape[axis]
        scale, zero = (np.repeat(a, block, axis).take(range(length), axis) for a in (scale, zero))
    elif scale.ndim == 1:
        shape = [-1 if i == axis else 1 for i in range(values.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return (values.astype(np.int32) - zero.astype(np.int32)).astype(np.float32) * scale.astype(np.float32)


def _constant(name: str, value: Array) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(value), name)


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, producer_name="ffavatar", ir_version=IR_VERSION, opset_imports=[opset])
    onnx.checker.check_model(model)
    return model
