"""The network as an ONNX graph, made with the onnx package from our variables.

Input `images`: uint8 [n, 64, 64], white-on-black glyphs, n free. Outputs `logits` [n, classes] and
`features` [n, d], float32; and `probabilities` if a temperature is given. Weights keep their
precision and their layout: Cast, Mul and Transpose nodes convert them, and every runtime folds
these nodes when it loads the model. So a tensor of weights may refer to a bundle's params.npz, and
a bundle holds its weights once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kkanji_jax.array_types import Float32, Shaped
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.glyphs.published_form import GLYPH_PX
from kkanji_jax.model.forward_pass import (
    NORM_EPSILON,
    SCALE,
    STEM_KERNEL_PX,
    resize_weights,
    same_padding,
)
from kkanji_jax.model.variants import blocks_of, get_variant

# Not the newest, so that runtimes of some years ago read it too.
IR_VERSION, OPSET = 8, 17
DATA_TYPES = {
    np.dtype("<f4"): TensorProto.FLOAT,
    np.dtype("<f2"): TensorProto.FLOAT16,
    np.dtype("<u2"): TensorProto.BFLOAT16,
    np.dtype("<i1"): TensorProto.INT8,
}
Attribute = int | float | str | Sequence[int]  # of an ONNX operator


def inside(name: str, array: Shaped[np.ndarray, "..."]) -> TensorProto:
    """A tensor stored in the model file. `array` is little-endian; bfloat16 comes as uint16."""
    content = np.ascontiguousarray(array).tobytes()
    return helper.make_tensor(name, DATA_TYPES[array.dtype], array.shape, content, raw=True)


def outside(
    name: str,
    dtype: np.dtype,
    shape: tuple[int, ...],
    *,
    file_name: str,
    offset: int,
    num_bytes: int,
) -> TensorProto:
    """A tensor whose bytes are in another file in the model's folder."""
    tensor = TensorProto(name=name, data_type=DATA_TYPES[dtype], dims=shape)
    tensor.data_location = TensorProto.EXTERNAL
    where = {"location": file_name, "offset": offset, "length": num_bytes}
    for key, value in where.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def model_in_memory(
    model: Mapping[str, Any],
    class_index: ClassIndex,
    variables: Mapping[str, Float32[np.ndarray, "..."]],
) -> bytes:
    """A serialised model with its weights inside, in float32."""
    weights = [inside(name, array) for name, array in variables.items()]
    return make_model(model, class_index, weights).SerializeToString()


def make_model(
    model: Mapping[str, Any],
    class_index: ClassIndex,
    weights: Sequence[TensorProto],
    *,
    metadata: Mapping[str, str] | None = None,
    temperature: float | None = None,
) -> onnx.ModelProto:
    """The network of a config's `model` with these weights, named by their paths.

    With a temperature, `probabilities` [n, classes] are an output too: the softmax of
    logits / temperature. ValueError where the weights are those of another network.
    """
    network = _Network(weights)
    network.forward(model)
    features, num_classes = network.shapes["params/classifier/kernel"]
    outputs = {"logits": num_classes, "features": features}
    if temperature is not None:
        divisor = network.constant("temperature", np.array(temperature, np.float32))
        scaled = network.node("Div", ["logits", divisor], "scaled")
        network.node("Softmax", [scaled], "probabilities", axis=1)
        outputs["probabilities"] = num_classes
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", GLYPH_PX, GLYPH_PX])
    graph = helper.make_graph(
        network.nodes,
        "kkanji_jax",
        [images],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
            for name, width in outputs.items()
        ],
        network.tensors,
        value_info=network.told_shapes,
    )
    made = helper.make_model(
        graph,
        producer_name="kkanji_jax",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    told = {
        "index_digest": class_index.digest,
        "input": "uint8 [n, 64, 64]: white ink (255) on black, as CODH publishes its glyphs",
    }
    helper.set_model_props(made, {**told, **(metadata or {})})
    return made


class _Network:
    """Nodes and tensors as they are added; every method returns the name of its result."""

    def __init__(self, weights: Sequence[TensorProto]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors = list(weights)
        self.told_shapes: list[onnx.ValueInfoProto] = []  # that a runtime could not find itself
        self.shapes = {tensor.name: tuple(tensor.dims) for tensor in weights}
        self._data_types = {tensor.name: tensor.data_type for tensor in weights}

    def constant(self, name: str, array: Shaped[np.ndarray, "..."]) -> str:
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def node(
        self, op: str, inputs: Sequence[str], output: str | None = None, **attributes: Attribute
    ) -> str:
        name = output or f"{inputs[0]}:{op.lower()}"
        node = helper.make_node(op, inputs, [name], name)
        node.attribute.extend(
            helper.make_attribute(key, value) for key, value in sorted(attributes.items())
        )
        self.nodes.append(node)
        return name

    def value_of(self, name: str) -> str:
        """A weight in float32."""
        if name not in self.shapes:
            raise ValueError(f"expected a variable {name}: the weights are of another network")
        if self._data_types[name] == TensorProto.FLOAT:
            return name
        value, scale = self.node("Cast", [name], to=TensorProto.FLOAT), name + SCALE
        return self.node("Mul", [value, scale]) if scale in self.shapes else value

    def filters(self, name: str) -> str:
        """A convolution's weights as out x in x rows x columns; ours are in the opposite order."""
        value = self.value_of(name)
        if len(self.shapes[name]) == 4:
            return self.node("Transpose", [value], f"{name}:filters", perm=(3, 2, 0, 1))
        turned = self.node("Transpose", [value], perm=(1, 0))
        return self.node("Unsqueeze", [turned, "last_two"], f"{name}:filters")

    def convolve(self, x: str, name: str, **attributes: Attribute) -> str:
        return self.node("Conv", [x, self.filters(name)], f"{name}:conv", **attributes)

    def normalise(self, x: str, name: str) -> str:
        paths = [f"params/{name}/scale", f"params/{name}/bias"]
        paths += [f"batch_stats/{name}/mean", f"batch_stats/{name}/var"]
        inputs = [x, *(self.value_of(path) for path in paths)]
        return self.node("BatchNormalization", inputs, name, epsilon=NORM_EPSILON)

    def silu(self, x: str) -> str:
        return self.node("Mul", [x, self.node("Sigmoid", [x])], f"{x}:silu")

    def linear_1x1(self, x: str, name: str) -> str:
        """A pointwise convolution with a bias, on a 1x1 map."""
        inputs = [x, self.filters(f"{name}/kernel"), self.value_of(f"{name}/bias")]
        return self.node("Conv", inputs, name, kernel_shape=(1, 1))

    def spread(self, x: str, channels: int, size: int) -> str:
        """A 1x1 map repeated to `size` x `size`.

        ONNX Runtime multiplies maps of one shape, and of these alone, in the blocked layout of its
        convolutions. Else it changes the layout before and after, which takes 6 % of the time.
        """
        scales = self.constant(f"{x}:scales", np.array([1, 1, size, size], np.float32))
        inputs, name = [x, "", scales], f"{x}:spread"
        shape = ["n", channels, size, size]
        self.told_shapes.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return self.node(
            "Resize",
            inputs,
            name,
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )

    def forward(self, model: Mapping[str, Any]) -> None:
        """efficientnet.EfficientNet after network.network_input: from `images` to `logits`."""
        variant, size = get_variant(model["variant"]), model["image_px"]
        self.constant("last_two", np.array([2, 3], np.int64))
        grey = self.node("Cast", ["images"], "grey", to=TensorProto.FLOAT)
        x = self.node("Div", [grey, self.constant("white", np.array(255, np.float32))], "pixels")
        if size != GLYPH_PX:
            weights = resize_weights(GLYPH_PX, size)
            x = self.node("MatMul", [self.constant("rows", weights), x], "fewer_rows")
            columns = self.constant("columns", np.ascontiguousarray(weights.T))
            x = self.node("MatMul", [x, columns], "resized")
        channel = self.constant("channel", np.array([1], np.int64))
        x = self.node("Unsqueeze", [x, channel], "planes")

        stride = model["stem_stride"]
        pads = _pads(size, STEM_KERNEL_PX, stride)
        x = self.convolve(x, "params/stem_kernel", pads=pads, strides=(stride, stride))
        x = self.silu(self.normalise(x, "stem_norm"))
        size = -(-size // stride)
        for number, block in enumerate(blocks_of(variant, model["last_stride"])):
            x = self.block(x, f"blocks/{number}", block.kernel_px, block.stride, size)
            size = -(-size // block.stride)
        x = self.convolve(x, "params/head/kernel")
        x = self.silu(self.normalise(x, "head_norm"))
        x = self.node("GlobalAveragePool", [x], "pooled")
        features = self.node("Flatten", [x], "features", axis=1)
        kernel, bias = (self.value_of(f"params/classifier/{leaf}") for leaf in ("kernel", "bias"))
        self.node("Gemm", [features, kernel, bias], "logits")

    def block(self, x: str, name: str, kernel_px: int, stride: int, size: int) -> str:
        """MBConv `name` on a map of `size` x `size`."""
        inputs, path = x, f"params/{name}"
        kernel, expand = f"{path}/depthwise_kernel", f"{path}/expand/kernel"
        if expand in self.shapes:
            x = self.silu(self.normalise(self.convolve(x, expand), f"{name}/expand_norm"))
        pads = _pads(size, kernel_px, stride)
        channels = self.shapes[kernel][3]
        x = self.convolve(x, kernel, pads=pads, strides=(stride, stride), group=channels)
        x = self.silu(self.normalise(x, f"{name}/depthwise_norm"))
        pooled = self.node("GlobalAveragePool", [x], f"{path}/pooled")
        squeezed = self.silu(self.linear_1x1(pooled, f"{path}/squeeze"))
        gate = self.node("Sigmoid", [self.linear_1x1(squeezed, f"{path}/excite")], f"{path}/gate")
        size_out = -(-size // stride)
        x = self.node("Mul", [x, self.spread(gate, channels, size_out)], f"{path}/excited")
        x = self.convolve(x, f"{path}/project/kernel")
        x = self.normalise(x, f"{name}/project_norm")
        num_in = self.shapes[expand][0] if expand in self.shapes else channels
        if stride != 1 or num_in != self.shapes[f"{path}/project/kernel"][1]:
            return x
        return self.node("Add", [x, inputs], f"{path}/sum")


def _pads(size: int, kernel_px: int, stride: int) -> tuple[int, int, int, int]:
    """The padding of a "SAME" convolution in ONNX's order: top, left, bottom, right."""
    before, after = same_padding(size, kernel_px, stride)
    return before, before, after, after
