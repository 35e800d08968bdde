"""The network as an ONNX graph, written out node by node from our own variables.

Input `images`: uint8 [n, 64, 64], glyphs in the published look, n free. Outputs `logits`
[n, classes] and `features` [n, d], float32. Weights keep their half precision in the file and
their layout in our variables; Cast and Transpose nodes turn them, which every runtime folds away
when it loads. They are either inside the model, or references into a bundle's params.npz, so that
a bundle holds its weights once.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kkanji_jax.array_types import Float32
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.files import sha256_of
from kkanji_jax.glyphs.glyph_image import GLYPH_PX
from kkanji_jax.model import protobuf
from kkanji_jax.model.protobuf import BFLOAT16, FLOAT, FLOAT16, INT64, UINT8, External
from kkanji_jax.model.variants import STAGES, get_variant, round_repeats
from kkanji_jax.saved.arrays import places_in

NORM_EPSILON = 1e-3  # efficientnet.NORM_EPSILON, a room that needs JAX; a test holds them equal
STEM_KERNEL_PX = 3
_HALF = {"float16": FLOAT16, "bfloat16": BFLOAT16}


def write_onnx(
    out: Path, model: Mapping[str, Any], class_index: ClassIndex, params: Path, dtype: str
) -> None:
    """Writes a model whose weights are those in the file `params`, which must stay beside it."""
    graph = _Graph()
    for name, place in places_in(params).items():
        content = External(params.name, place.offset, place.num_bytes)
        graph.weight(name, _HALF[dtype], place.shape, content)
    metadata = _metadata(class_index) | {"params_sha256": sha256_of(params)}
    out.write_bytes(_network(graph, model, len(class_index), metadata))


def onnx_bytes(
    model: Mapping[str, Any],
    class_index: ClassIndex,
    variables: Mapping[str, Float32[np.ndarray, "..."]],
) -> bytes:
    """The same model with its weights inside, in float32."""
    graph = _Graph()
    for name, array in variables.items():
        graph.weight(name, FLOAT, array.shape, np.ascontiguousarray(array, "<f4").tobytes())
    return _network(graph, model, len(class_index), _metadata(class_index))


def _metadata(class_index: ClassIndex) -> dict[str, str]:
    return {
        "index_digest": class_index.digest,
        "input": "uint8 [n, 64, 64]: white ink (255) on black, as CODH publishes its glyphs",
    }


class _Graph:
    """Nodes and tensors as they are added; every method returns the name of what it computes."""

    def __init__(self) -> None:
        self.nodes: list[bytes] = []
        self.tensors: list[bytes] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._stored: dict[str, int] = {}

    def weight(
        self, name: str, data_type: int, shape: Sequence[int], content: bytes | External
    ) -> None:
        self.shapes[name] = tuple(shape)
        self._stored[name] = data_type
        self.tensors.append(protobuf.tensor(name, data_type, shape, content))

    def constant(self, name: str, array: np.ndarray) -> str:
        data_type = INT64 if array.dtype == np.int64 else FLOAT
        self.tensors.append(protobuf.tensor(name, data_type, array.shape, array.tobytes()))
        return name

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(protobuf.node(op, inputs, output, **attributes))
        return output

    def value_of(self, name: str) -> str:
        """A weight in float32."""
        if name not in self._stored:
            raise ValueError(f"wanted a variable {name}: the weights are of another network")
        if self._stored[name] == FLOAT:
            return name
        return self.node("Cast", [name], f"{name}:float", to=FLOAT)

    def filters(self, name: str) -> str:
        """A convolution's weights, out x in x rows x columns, from ours in the opposite order."""
        value = self.value_of(name)
        if len(self.shapes[name]) == 4:
            return self.node("Transpose", [value], f"{name}:filters", perm=(3, 2, 0, 1))
        turned = self.node("Transpose", [value], f"{name}:turned", perm=(1, 0))
        return self.node("Unsqueeze", [turned, "last_two"], f"{name}:filters")

    def convolve(self, x: str, name: str, **attributes: Any) -> str:
        return self.node("Conv", [x, self.filters(name)], f"{name}:conv", **attributes)

    def normalise(self, x: str, name: str) -> str:
        paths = [f"params/{name}/scale", f"params/{name}/bias"]
        paths += [f"batch_stats/{name}/mean", f"batch_stats/{name}/var"]
        inputs = [x, *(self.value_of(path) for path in paths)]
        return self.node("BatchNormalization", inputs, name, epsilon=NORM_EPSILON)

    def silu(self, x: str) -> str:
        gate = self.node("Sigmoid", [x], f"{x}:sigmoid")
        return self.node("Mul", [x, gate], f"{x}:silu")

    def linear_1x1(self, x: str, name: str) -> str:
        """A pointwise convolution with a bias, on a 1x1 map."""
        inputs = [x, self.filters(f"{name}/kernel"), self.value_of(f"{name}/bias")]
        return self.node("Conv", inputs, name, kernel_shape=(1, 1))


def _same_pads(size: int, kernel_px: int, stride: int) -> tuple[int, tuple[int, int, int, int]]:
    """The output's side and TensorFlow's "SAME" padding: top, left, bottom, right."""
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel_px - size, 0)
    before, after = total // 2, total - total // 2
    return out, (before, before, after, after)


def resize_weights(size: int, out: int) -> Float32[np.ndarray, "out size"]:
    """The matrix of jax.image.resize(..., "linear", antialias=True) along one axis."""
    inverse = size / out
    centres = (np.arange(out, dtype=np.float32) + 0.5) * inverse - 0.5
    distance = np.abs(centres[:, None] - np.arange(size, dtype=np.float32)) / max(inverse, 1.0)
    weights = np.maximum(0, 1 - distance)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _network(
    graph: _Graph, model: Mapping[str, Any], num_classes: int, metadata: Mapping[str, str]
) -> bytes:
    """The forward pass of efficientnet.EfficientNet and of steps.network_input, in their order."""
    variant, size = get_variant(model["variant"]), model["image_px"]
    graph.constant("last_two", np.array([2, 3], np.int64))
    graph.constant("channel", np.array([1], np.int64))
    graph.constant("white", np.array(255, np.float32))
    x = graph.node("Cast", ["images"], "grey", to=FLOAT)
    x = graph.node("Div", [x, "white"], "pixels")
    if size != GLYPH_PX:
        weights = resize_weights(GLYPH_PX, size)
        x = graph.node("MatMul", [graph.constant("rows", weights), x], "fewer_rows")
        columns = graph.constant("columns", np.ascontiguousarray(weights.T))
        x = graph.node("MatMul", [x, columns], "resized")
    x = graph.node("Unsqueeze", [x, "channel"], "planes")

    size, pads = _same_pads(size, STEM_KERNEL_PX, model["stem_stride"])
    stride = (model["stem_stride"],) * 2
    x = graph.convolve(x, "params/stem_kernel", pads=pads, strides=stride)
    x = graph.silu(graph.normalise(x, "stem_norm"))
    number = 0
    for stage in STAGES:
        for repeat in range(round_repeats(stage.num_blocks, variant.depth)):
            stride = 1 if repeat else stage.stride
            x = _block(graph, x, f"blocks/{number}", stage.kernel_px, stride, size)
            size = -(-size // stride)
            number += 1
    x = graph.convolve(x, "params/head/kernel")
    x = graph.silu(graph.normalise(x, "head_norm"))
    x = graph.node("GlobalAveragePool", [x], "pooled")
    features = graph.node("Flatten", [x], "features", axis=1)
    kernel, bias = (graph.value_of(f"params/classifier/{leaf}") for leaf in ("kernel", "bias"))
    graph.node("Gemm", [features, kernel, bias], "logits")
    width = graph.shapes["params/classifier/kernel"][0]
    return protobuf.model(
        nodes=graph.nodes,
        tensors=graph.tensors,
        inputs=[protobuf.value("images", UINT8, ("n", GLYPH_PX, GLYPH_PX))],
        outputs=[
            protobuf.value("logits", FLOAT, ("n", num_classes)),
            protobuf.value("features", FLOAT, ("n", width)),
        ],
        metadata=metadata,
    )


def _block(graph: _Graph, x: str, name: str, kernel_px: int, stride: int, size: int) -> str:
    """MBConv `name` on a map of `size` x `size`."""
    inputs, path = x, f"params/{name}"
    kernel = f"{path}/depthwise_kernel"
    if f"{path}/expand/kernel" in graph.shapes:
        x = graph.convolve(x, f"{path}/expand/kernel")
        x = graph.silu(graph.normalise(x, f"{name}/expand_norm"))
    _, pads = _same_pads(size, kernel_px, stride)
    channels = graph.shapes[kernel][3]
    x = graph.convolve(x, kernel, pads=pads, strides=(stride, stride), group=channels)
    x = graph.silu(graph.normalise(x, f"{name}/depthwise_norm"))
    pooled = graph.node("GlobalAveragePool", [x], f"{path}/pooled")
    squeezed = graph.silu(graph.linear_1x1(pooled, f"{path}/squeeze"))
    gate = graph.node("Sigmoid", [graph.linear_1x1(squeezed, f"{path}/excite")], f"{path}/gate")
    x = graph.node("Mul", [x, gate], f"{path}/excited")
    x = graph.convolve(x, f"{path}/project/kernel")
    x = graph.normalise(x, f"{name}/project_norm")
    is_expanded = f"{path}/expand/kernel" in graph.shapes
    num_in = graph.shapes[f"{path}/expand/kernel"][0] if is_expanded else channels
    if stride != 1 or num_in != graph.shapes[f"{path}/project/kernel"][1]:
        return x
    return graph.node("Add", [x, inputs], f"{path}/sum")
