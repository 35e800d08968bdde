"""The roofline of training: the speed at which a GPU's memory bandwidth is the limit."""

from collections.abc import Mapping
from typing import Any

# Bytes a training step's kernels read and write by image, by (variant, image_px, stem_stride,
# dtype): counted in the program compiled for one H100 at 1,024 images a step, by
# scripts/benchmarks/h100_structure.py.
STEP_BYTES = {
    ("b0", 64, 2, "bfloat16"): 22.1e6,
    ("b0", 64, 2, "float32"): 41.5e6,
}
# Bytes a second, from the vendor's data sheets, by JAX's name of the device.
MEMORY_BYTES_PER_S = {
    "NVIDIA A100-SXM4-40GB": 1.555e12,
    "NVIDIA A100-SXM4-80GB": 2.039e12,
    "NVIDIA H100 80GB HBM3": 3.35e12,
    "NVIDIA H100 PCIe": 2.0e12,
    "NVIDIA H200": 4.8e12,
}


def step_bytes(model: Mapping[str, Any]) -> float | None:
    """Memory traffic of a step in bytes per image, for a `model` section; None if not counted."""
    if model["last_stride"] != 2:
        return None
    fields = ("variant", "image_px", "stem_stride", "dtype")
    variant, image_px, stem_stride, dtype = (model[field] for field in fields)
    return STEP_BYTES.get((variant, image_px, stem_stride, dtype))


def images_per_s_limit(
    model: Mapping[str, Any], device_kind: str, num_devices: int
) -> float | None:
    """Images a second at full memory bandwidth of the devices; None if unknown."""
    moved, bandwidth = step_bytes(model), MEMORY_BYTES_PER_S.get(device_kind)
    return num_devices * bandwidth / moved if moved and bandwidth else None
