"""EfficientNet: variants, layers, initial values, loss, and the same network as an ONNX graph."""
