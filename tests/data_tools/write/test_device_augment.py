"""Copies written to files are, pixel for pixel, what training makes of the same originals."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_tools.write.assemble import Options, assemble
from kkanji_jax.augment.engine import augment, sample_keys
from kkanji_jax.augment.policy import get_policy
from kkanji_jax.data.balance import Plan
from kkanji_jax.data.batches import BatchShape
from kkanji_jax.data.records import address_of
from kkanji_jax.data.resident import IndexBatches, load_split

SEED = 3


def test_a_written_out_set_holds_the_pixels_that_training_would_make(source: Any, tmp_path: Path):
    source.add_kanji("U+6625", 6)
    source.add_kanji("U+6765", 3)
    plain, written = tmp_path / "plain", tmp_path / "written"
    assemble(source.folder, plain, Options(seed=SEED))
    manifest = assemble(source.folder, written, Options(seed=SEED, per_class=10)).manifest
    assert (manifest["engine"], manifest["policy"]) == ("device", "glyph_safe")

    # As kkanji_jax.train and kkanji_jax.training.step do it, in batches of another size.
    train = load_split(plain, "train")
    addresses = address_of(train.sample_ids)
    plan = Plan(train.labels, addresses, per_class=10, seed=SEED)
    shape = BatchShape(batch_size=5, steps_per_dispatch=1, num_dispatches=4)
    batches = IndexBatches(plan, shape, seed=SEED, fresh_copies=False)
    vary = jax.jit(partial(augment, policy=get_policy("glyph_safe")))
    seen = {}
    for number in range(4):
        batch = batches[number]
        rows, copies = batch["rows"][0, 0], batch["copies"][0, 0]
        keys = sample_keys(SEED, jnp.asarray(addresses[rows]), jnp.asarray(copies))
        images = vary(jnp.asarray(train.images[rows]), keys, jnp.asarray(copies))
        for row, copy, image in zip(rows, copies, np.asarray(images), strict=True):
            name = train.sample_ids[row] + (f"#{copy}" if copy else "")
            seen[name] = image
    found = load_split(written, "train")
    assert seen.keys() == set(found.sample_ids) and len(seen) == 20
    for name, image in zip(found.sample_ids, found.images, strict=True):
        np.testing.assert_array_equal(image, seen[name], err_msg=name)
    assert sum("#" in name for name in seen) > 8


def test_the_engine_is_part_of_what_a_dataset_is(source: Any, tmp_path: Path):
    source.add_kanji("U+6625", 4)
    out = tmp_path / "out"
    manifest = assemble(source.folder, out, Options(per_class=6, engine="host")).manifest
    assert manifest["engine"] == "host" and "--engine host" in manifest["command"]
    with pytest.raises(ValueError, match="of other options .engine: 'host' -> 'device'"):
        assemble(source.folder, out, Options(per_class=6, engine="device"))
