"""jaxtyping's array types, or stand-ins where jaxtyping is not installed.

The stand-ins are for modules that read images with only ONNX Runtime, NumPy and Pillow installed.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Float64, Int, Int8, Shaped, UInt8
else:
    try:
        from jaxtyping import Bool, Float, Float32, Float64, Int, Int8, Shaped, UInt8
    except ModuleNotFoundError:

        class _Unchecked:
            """`Float[np.ndarray, "n k"]` is then `np.ndarray`."""

            def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
                return item[0]

        Bool = Float = Float32 = Float64 = Int = Int8 = Shaped = UInt8 = _Unchecked

__all__ = ["Bool", "Float", "Float32", "Float64", "Int", "Int8", "Shaped", "UInt8"]
