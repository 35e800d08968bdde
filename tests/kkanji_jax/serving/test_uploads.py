"""Bodies become files to read; what a body costs is in proportion to its bytes."""

import tracemalloc

import pytest

from kkanji_jax.serving.limits import Limits, Refusal
from kkanji_jax.serving.uploads import JSON, uploads_of

NUM = 30_000
BODIES = {
    "images without content": b'{"images": [%s]}' % b",".join([b"{}"] * NUM),
    "boxes without sides": b'{"images": [{"content": "AA==", "boxes": [%s]}]}'
    % b",".join([b"{}"] * NUM),
    "unknown fields": b"{%s}" % b",".join(b'"%d": 0' % number for number in range(NUM)),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_of_very_many_parts_is_refused_without_an_error_for_each(name: str):
    body = BODIES[name]
    tracemalloc.start()
    try:
        with pytest.raises(Refusal) as refused:
            uploads_of(body, JSON, Limits())
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused.value.status in (413, 422)
    # An object of Python for three bytes of JSON; an error for each was several hundred.
    assert peak_bytes < 60 * len(body)
