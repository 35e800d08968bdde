"""A connection to a cluster, or the start of one here, and what is said when there is none."""

import os
import signal
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from kkanji_jax.ray_cluster import ADDRESS, connected

NICENESS = "RAY_worker_niceness"


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A Ray whose `init` fails; what it was called with."""
    called: dict[str, Any] = {}

    def init(**options: Any) -> None:
        called.update(options)
        raise ConnectionError("nothing\nanswers")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    for name in (ADDRESS, NICENESS, "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "")  # restored at the end
        monkeypatch.delenv(name)
    return called


def refusal(address: str | None) -> str:
    with pytest.raises(ValueError) as refused, connected(address):
        pass
    return str(refused.value)


def test_a_cluster_that_does_not_start_here_is_not_one_that_does_not_answer(refusing: Any):
    assert refusal(None) == "cannot start Ray on this machine: nothing answers"
    assert refusing["address"] == "local"
    assert os.environ[NICENESS] == "0" and os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.mark.parametrize("is_given", [True, False])
def test_a_cluster_that_does_not_answer_is_named(is_given: bool, refusing: Any, monkeypatch):
    if not is_given:
        monkeypatch.setenv(ADDRESS, "first:6379")
    told = refusal("first:6379" if is_given else None)
    assert told.startswith("cannot reach a Ray cluster at first:6379: nothing answers; if it needs")
    assert refusing["address"] == "first:6379"
    assert NICENESS not in os.environ, "it is of the cluster, and was set where that was started"


def priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray leaves sockets and files open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_cluster_started_here_works_at_the_priority_of_its_command(
    monkeypatch: pytest.MonkeyPatch,
):
    ray = pytest.importorskip("ray")
    for name in (ADDRESS, NICENESS):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    before = signal.getsignal(signal.SIGTERM)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        with connected(None, 1):
            assert ray.get(ray.remote(priority).remote()) == priority()
            assert signal.getsignal(signal.SIGTERM) is before
    finally:
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
