"""How arrays lie on devices: whole on each, or split along one axis."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kkanji_jax.parallel import mesh as mesh_lib


@pytest.fixture(scope="module")
def mesh() -> Any:
    return mesh_lib.make_mesh(jax.devices()[:4])


def test_a_mesh_is_over_all_devices_unless_some_are_chosen(mesh: Any) -> None:
    assert mesh.size == 4 and mesh_lib.make_mesh().size == jax.device_count()
    assert mesh.axis_names == (mesh_lib.AXIS,)


def test_what_is_replicated_is_whole_on_every_device(mesh: Any) -> None:
    tree = {"a": np.arange(6.0), "b": np.asarray(3, np.int32)}
    placed = mesh_lib.replicate(tree, mesh)
    for name, leaf in placed.items():
        assert len(leaf.addressable_shards) == 4
        for shard in leaf.addressable_shards:
            np.testing.assert_array_equal(shard.data, tree[name])


@pytest.mark.parametrize("axis", [0, 2])
def test_a_batch_is_split_in_order_along_the_axis_that_is_named(axis: int, mesh: Any) -> None:
    rows = np.arange(8 * 8 * 8).reshape(8, 8, 8)
    placed = mesh_lib.to_global({"rows": rows}, mesh, axis)["rows"]
    shards = sorted(placed.addressable_shards, key=lambda shard: shard.device.id)
    assert [shard.data.shape[axis] for shard in shards] == [2] * 4
    np.testing.assert_array_equal(np.concatenate([s.data for s in shards], axis), rows)


def test_a_whole_batch_is_split_along_its_first_axis(mesh: Any) -> None:
    images, labels = np.arange(24).reshape(8, 3), np.arange(8)
    with jax.transfer_guard("disallow"):  # the copies are explicit
        placed = mesh_lib.split_whole((images, labels), mesh)
    for leaf, expected in zip(placed, (images, labels), strict=True):
        first = min(leaf.addressable_shards, key=lambda shard: shard.device.id)
        np.testing.assert_array_equal(first.data, expected[:2])
        np.testing.assert_array_equal(leaf, expected)


@pytest.mark.parametrize(("batch_size", "microbatches"), [(4, 1), (8, 2), (24, 3)])
def test_a_batch_that_divides_is_taken(batch_size: int, microbatches: int, mesh: Any) -> None:
    mesh_lib.check_divides(batch_size, mesh, microbatches)


@pytest.mark.parametrize(
    ("batch_size", "microbatches", "message"),
    [
        (6, 1, "divide by 4 devices, got 6"),
        (12, 2, "divide by 2 microbatches x 4 devices, got 12"),
    ],
)
def test_a_batch_that_does_not_divide_is_refused(
    batch_size: int, microbatches: int, message: str, mesh: Any
) -> None:
    with pytest.raises(ValueError, match=message):
        mesh_lib.check_divides(batch_size, mesh, microbatches)


@pytest.fixture
def options(mesh: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    return mesh_lib.compiler_options(mesh)


def test_a_cpu_is_given_options_of_a_cpu(options: dict[str, Any]) -> None:
    assert options["xla_cpu_enable_fast_math"] is True
    assert all(name.startswith("xla_cpu_") for name in options)


def test_an_option_that_the_user_names_is_the_users(
    mesh: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false --xla_dump_to=x")
    left = mesh_lib.compiler_options(mesh)
    assert options.items() - left.items() == {("xla_cpu_enable_fast_math", True)}
    assert left.items() < options.items()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_still_seen(bad: float, options: dict[str, Any]) -> None:
    """Optimised, as in a run: here tests compile without."""

    def look(x: Any) -> Any:
        total = jnp.sum(jnp.log1p(jnp.square(x)))  # infinite, or not a number
        return jnp.isfinite(total), jnp.isnan(x[1]), jnp.where(jnp.isnan(x), 0.0, x)

    compiled = jax.jit(look, compiler_options=options | {"xla_backend_optimization_level": 3})
    is_finite, is_nan, replaced = compiled(np.asarray([1.0, bad, 2.0], np.float32))
    assert not is_finite and is_nan == np.isnan(bad)
    assert replaced[1] == (0.0 if np.isnan(bad) else bad)
