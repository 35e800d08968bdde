"""What computes a network's outputs for a recogniser: JAX, or ONNX Runtime."""
