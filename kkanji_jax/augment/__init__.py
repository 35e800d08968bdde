"""Image augmentation in training: policies as plain data, and the engine that applies them."""
