"""The augmentation policy applied on the host by albumentations: the reference engine.

It draws from the same distributions as `kkanji_jax.augment.engine`, but other numbers.
"""

import hashlib
import math
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from kkanji_jax.augment.policy import REFERENCE_PX, Policy


class HostAugmenter:
    """`augmenter(image, sample_id, copy)`: a pure function of (seed, sample_id, copy).

    Copy 0 is the image itself. Safe to call from any number of threads, and picklable. The first
    call imports albumentations, and switches off its look-up of newer versions on the internet.
    """

    def __init__(self, policy: Policy, seed: int) -> None:
        self.policy = policy
        self.seed = seed
        self._threads = threading.local()  # a pipeline shared by threads mixes their random states

    def __reduce__(self) -> tuple[Any, ...]:
        return HostAugmenter, (self.policy, self.seed)

    def __call__(
        self, image: UInt8[np.ndarray, "h w"], sample_id: str, copy: int
    ) -> UInt8[np.ndarray, "h w"]:
        if copy < 0:
            raise ValueError(f"copy must be 0 (the original) or more, not {copy} of {sample_id}")
        if copy == 0:
            return image.copy()
        pipeline = self._pipeline(image.shape[0])
        # Compose would give every transform the same seed, hence the same draws: a large rotation
        # would always come with a thick stroke. Each gets its own.
        for position, transform in enumerate(pipeline.transforms):
            transform.set_random_seed(_call_seed(self.seed, sample_id, copy, position))
        return pipeline(image=image)["image"]

    def augment_all(
        self,
        images: UInt8[np.ndarray, "b h w"],
        sample_ids: Sequence[str],
        copies: Int32[np.ndarray, " b"],
    ) -> UInt8[np.ndarray, "b h w"]:
        """Each image's copy of that number."""
        named = zip(images, sample_ids, copies.tolist(), strict=True)
        return np.stack([self(image, sample_id, copy) for image, sample_id, copy in named])

    def _pipeline(self, image_px: int) -> Any:
        """This thread's pipeline for images of that size."""
        pipelines = self._threads.__dict__
        key = str(image_px)
        if key not in pipelines:
            pipelines[key] = make_pipeline(self.policy, image_px)
        return pipelines[key]


def _call_seed(seed: int, sample_id: str, copy: int, position: int) -> int:
    address = f"{seed}\0{sample_id}\0{copy}\0{position}".encode()
    return int.from_bytes(hashlib.blake2b(address, digest_size=8).digest(), "little")


def make_pipeline(policy: Policy, image_px: int) -> Any:
    """The policy as an albumentations `Compose`, for square images of that side."""
    px = image_px / REFERENCE_PX
    transforms: list[Any] = []
    if policy.stroke_max_px or policy.soften_max or policy.sharpen_max:
        transforms.append(_strokes(policy, px))
    transforms.append(_affine(policy, px))
    if policy.elastic_std_px:
        transforms.append(_elastic(policy, image_px))
    A = _albumentations()
    if policy.cutout_prob:
        sides = (policy.cutout_min_frac, policy.cutout_max_frac)
        transforms.append(
            A.CoarseDropout(
                num_holes_range=(1, 1),
                hole_height_range=sides,
                hole_width_range=sides,
                fill=0,
                p=policy.cutout_prob,
            )
        )
    if policy.noise_std:
        std = policy.noise_std / 255
        transforms.append(A.GaussNoise(std_range=(std, std), p=1))
    return A.Compose(transforms)


def _albumentations() -> Any:
    """The library, without its look-up of newer versions, which it makes when it is imported."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def _border_mode(policy: Policy) -> int:
    import cv2

    return cv2.BORDER_REFLECT if policy.border == "reflect" else cv2.BORDER_CONSTANT


# The transforms derive from classes of a library that is imported when it is needed: so each class
# is made in a function.


def _strokes(policy: Policy, px: float) -> Any:
    """Blends with the 3x3 dilation or erosion, and with a 5x5 blur or away from it.

    `px` is the length that is one pixel of a reference image.
    """
    A = _albumentations()
    import cv2

    binomial = np.array([1, 4, 6, 4, 1], np.float32) / 16

    class Strokes(A.ImageOnlyTransform):
        def get_params(self) -> dict[str, Any]:
            width_px = self.py_random.uniform(-1.0, 1.0) * policy.stroke_max_px * px
            edge = self.py_random.uniform(-policy.sharpen_max, policy.soften_max) * px
            return {"width_px": width_px, "edge": edge}

        def apply(
            self, img: UInt8[np.ndarray, "h w *c"], width_px: float, edge: float, **params: object
        ) -> UInt8[np.ndarray, "h w *c"]:
            change = cv2.dilate if width_px > 0 else cv2.erode
            changed = change(img, np.ones((3, 3), np.uint8))
            if edge == 0:
                return cv2.addWeighted(img, 1 - abs(width_px), changed, abs(width_px), 0)
            blurred = cv2.sepFilter2D(
                img, cv2.CV_32F, binomial, binomial, borderType=cv2.BORDER_CONSTANT
            )
            share = 1 - abs(width_px) - edge
            mixed = cv2.addWeighted(img, share, changed, abs(width_px), 0, dtype=cv2.CV_32F)
            return cv2.addWeighted(mixed, 1, blurred, edge, 0, dtype=cv2.CV_8U)

    return Strokes(p=1)


def _affine(policy: Policy, px: float) -> Any:
    """`A.Affine` about the policy's pivot instead of the middle of the frame."""
    A = _albumentations()

    class GlyphAffine(A.Affine):
        def get_params_dependent_on_data(
            self, params: dict[str, Any], data: dict[str, Any]
        ) -> dict[str, Any]:
            pivot = ink_centroid(data["image"]) if policy.pivot == "ink" else np.zeros(2)
            return {
                "matrix": _draw_matrix(policy, px, pivot, self.py_random),
                "output_shape": params["shape"][:2],
            }

    return GlyphAffine(border_mode=_border_mode(policy), p=1)


def _elastic(policy: Policy, image_px: int) -> Any:
    """`A.ElasticTransform` with a field of known spread.

    The PyTorch original divides the noise by its maximum, and smooths x and y as one stacked array,
    so that at a large sigma each affects the other.
    """
    A = _albumentations()
    import cv2

    px = image_px / REFERENCE_PX
    sigma_px = policy.elastic_sigma_px * px
    smoother = cv2.GaussianBlur(  # the filter along one axis, as a matrix
        np.eye(image_px, dtype=np.float32),
        (1, 2 * round(4 * sigma_px) + 1),
        sigma_px,
        sigmaY=sigma_px,
        borderType=cv2.BORDER_REFLECT,
    )
    alpha = policy.elastic_std_px * px / float(np.mean(np.sum(smoother**2, axis=1)))

    class StrokeElastic(A.ElasticTransform):
        def get_params_dependent_on_data(
            self, params: dict[str, Any], data: dict[str, Any]
        ) -> dict[str, Any]:
            noise = self.random_generator.standard_normal((2, image_px, image_px), np.float32)
            shift_x, shift_y = self.alpha * (smoother @ noise @ smoother.T)
            coords = np.arange(image_px, dtype=np.float32)
            return {"map_x": coords + shift_x, "map_y": coords[:, None] + shift_y}

    return StrokeElastic(alpha=alpha, sigma=sigma_px, border_mode=_border_mode(policy), p=1)


def ink_centroid(image: UInt8[np.ndarray, "h w *c"]) -> np.ndarray:
    """(x, y) of the ink's centre of mass in px; the middle of the frame when there is none."""
    ink = image.reshape(image.shape[0], image.shape[1], -1).sum(axis=2, dtype=np.int64)
    total = ink.sum()
    if total == 0:
        return (np.array([ink.shape[1], ink.shape[0]]) - 1) / 2
    return (
        np.array([ink.sum(axis=axis) @ np.arange(ink.shape[1 - axis]) for axis in (0, 1)]) / total
    )


def _draw_matrix(policy: Policy, px: float, pivot: np.ndarray, random: Any) -> np.ndarray:
    """Forward 3x3 matrix: scale, shear, rotate about the pivot, then shift."""
    angle = math.radians(policy.rotation_max_deg) * random.uniform(-1.0, 1.0)
    shear = policy.shear_max * random.uniform(-1.0, 1.0)
    scale = random.uniform(policy.scale_min, policy.scale_max)
    root_aspect = policy.aspect_max ** (random.uniform(-1.0, 1.0) / 2)
    shift = [policy.translation_max_px * px * random.uniform(-1.0, 1.0) for _ in "xy"]
    rotate = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = rotate @ [[1, shear], [0, 1]] @ np.diag([scale * root_aspect, scale / root_aspect])
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = pivot + shift - linear @ pivot
    return matrix
