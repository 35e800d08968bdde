"""How images are varied in training: a policy as plain data, and its engine on the device."""
