"""The random streams of training: the number of each stream.

The key of a step is a function of (seed, step), the key of an image one of (seed, address of the
sample, copy); a stream folds its number into such a key. Nothing depends on the order of draws, so
a resumed run draws what an uninterrupted run would have drawn. Never change or reuse a number: that
would change every later run.
"""

MAX_SEED = 2**32 - 1  # a key of JAX takes 32 bits, and leaves out all above them

# Folded into the key of a step.
DROP_PATH = 1  # dropout takes the key itself
FIRST_MICROBATCH = 2  # microbatch i of several: this + i

# Folded into the key of an image.
NOISE = 1  # the parameters of a warp take the key itself
MIXUP = 2
