"""Records torch.optim.Adam(amsgrad=True) for tests/kkanji_jax/test_optim.py.

    python scripts/make_golden_amsgrad.py tests/golden/torch_amsgrad.npz

Needs torch (any CPU build) and never imports kkanji_jax. The gradients shrink and grow, so that the
running maximum matters.
"""

import sys

import numpy as np
import torch

NUM_STEPS, SIZE, LR = 40, 7, 0.05


def main(path: str) -> None:
    """Writes gradients [steps, size] and the parameters after each step [steps, size]."""
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


if __name__ == "__main__":
    main(sys.argv[1])
