"""Records what PyTorch and timm compute, for the tests to compare with.

    python tests/golden/make/pytorch.py [FOLDER]    # FOLDER is tests/golden when left out

Needs torch and timm, which itself wants torchvision; any CPU builds of one release do. Never
imports kkanji_jax: what it records is an independent implementation's. Every weight and statistic
is a formula of its name in timm and its shape (`fill`), so a file holds nothing but logits.
"""

import hashlib
import math
import sys
from pathlib import Path

import numpy as np
import timm  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]

NUM_CLASSES, IMAGE_PX = 48, 64
# Kernels have variance GAIN / fan_in. Chosen for logits of size 1: a little less, and the biases
# drown the image; a little more, and every block multiplies it.
GAINS = {"b0": 2.6, "b1": 2.35, "b3": 2.2}
NUM_STEPS, SIZE, LR = 40, 7, 0.05


def normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers, float64, from Philox keyed by the 8-byte BLAKE2b of `name`."""
    key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    return np.random.Generator(np.random.Philox(key)).standard_normal(shape)


def fill(name: str, shape: tuple[int, ...], gain: float) -> np.ndarray:
    """The value of timm's array `name`, float32. The tests of the network have it too."""
    values = normal(name, shape)
    if name.endswith("running_var"):
        values = 0.5 + np.abs(values)
    elif name.endswith(("running_mean", "bias")):
        values = 0.1 * values
    elif len(shape) == 1:
        values = 1.0 + 0.2 * values
    else:
        values = values * math.sqrt(gain / math.prod(shape[1:]))
    return values.astype(np.float32)


def images() -> np.ndarray:
    """Two images of 8x8 random squares, [2, 64, 64, 1]: their statistics differ widely."""
    squares = np.kron(normal("images", (2, 8, 8)), np.ones((8, 8)))
    return squares[..., None].astype(np.float32)


def record_efficientnet(variant: str, path: Path) -> None:
    """Writes `logits` [2, NUM_CLASSES] of tf_efficientnet_<variant> in eval mode on `images()`."""
    network = timm.create_model(
        f"tf_efficientnet_{variant}", in_chans=1, num_classes=NUM_CLASSES
    ).eval()
    for name, array in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            array.copy_(torch.from_numpy(fill(name, tuple(array.shape), GAINS[variant])))
    with torch.inference_mode():
        logits = network(torch.from_numpy(images().transpose(0, 3, 1, 2))).numpy()
    spread, difference = logits.std(), np.abs(logits[0] - logits[1]).mean()
    print(f"{path.name}: spread {spread:.3f}, the two images differ by {difference:.3f}")
    if not (0.3 < spread < 10 and difference > 0.1 * spread):
        raise ValueError(f"{path.name}: logits must be of size 1 and depend on the image")
    np.savez(path, logits=logits)


def record_amsgrad(path: Path) -> None:
    """Writes gradients [steps, size] and torch.optim.Adam(amsgrad=True)'s parameters after each.

    The gradients shrink and grow, so that the running maximum matters.
    """
    rng = np.random.default_rng(0)
    scale = np.where(np.arange(NUM_STEPS) % 13 == 0, 30.0, 0.3)[:, None]
    gradients = (rng.normal(size=(NUM_STEPS, SIZE)) * scale).astype(np.float32)
    start = rng.normal(size=SIZE).astype(np.float32)
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = torch.optim.Adam([parameter], lr=LR, betas=(0.9, 0.99), eps=1e-8, amsgrad=True)
    parameters = []
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        parameters.append(parameter.detach().numpy().copy())
    np.savez(path, lr=LR, start=start, gradients=gradients, parameters=np.stack(parameters))


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for variant in GAINS:
        record_efficientnet(variant, folder / f"efficientnet_{variant}.npz")
    record_amsgrad(folder / "torch_amsgrad.npz")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
