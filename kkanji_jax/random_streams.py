"""The random streams of training: every number that tells one stream from another stands here.

Randomness is addressed, not consumed. A key of a step is a function of (seed, step), a key of an
image one of (seed, address of the sample, copy); a stream folds its number into such a key. So a
resumed run draws what the run that was not stopped would have drawn. A number, once used, keeps
its meaning: a changed one changes every later run.
"""

# Folded into the key of a step.
DROP_PATH = 1  # dropout takes the key itself
FIRST_MICROBATCH = 2  # microbatch i of several: this + i

# Folded into the key of an image.
NOISE = 1  # the parameters of a warp take the key itself
MIXUP = 2
