"""Shared fixtures: nothing a test starts outlives it, and no test touches the user's own state."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import real_services
import structlog
from hypothesis import HealthCheck, is_hypothesis_test, settings
from untraced import children_untraced
from xdist.scheduler import LoadScopeScheduling

# Whoever runs the tests in the background may have SIGINT ignored, which every child would inherit: a
# command could then not be ended with Ctrl-C, which is what some tests do.
signal.signal(signal.SIGINT, signal.default_int_handler)

# One example may take a moment on a busy machine, and whether a change is good is no matter of luck: every
# run has the same examples. `--hypothesis-profile=search` draws new ones.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("search"), derandomize=True)
settings.load_profile("same")

_ORDER = (
    # Their bounds are the tightest: beside unit tests, which take one core.
    "tests/e2e/test_fault_matrix.py",
    "tests/e2e/test_soak.py",
    "tests/unit/",
    "tests/e2e/test_documented_examples.py",
    "tests/integration/",
    "",
)
_LAST = "tests/e2e/test_ups_shutdown.py"
"""It ends the vLLM that other tests share."""
_LIGHT = "test_documented_examples.py"
"""Its stack only stands there."""


class StacksApart(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Tests run in two processes (`make test`). Those that start whole stacks are all in one of them, one
    after another: two stacks at once starve each other on two cores. The rest goes by file, as its fixtures
    do.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return "stacks" if file.startswith("tests/e2e/") and not file.endswith(_LIGHT) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> StacksApart:
    """xdist's own groups would say the same, but do not work with this pytest."""
    return StacksApart(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In their order; and what is shown by hundreds of examples is not traced: that would take twice the
    time, and the lines it reaches are those of the other tests. Long simulations say so themselves
    (`no_cover`).
    """
    items.sort(key=lambda item: _turn(item.nodeid))
    for item in items:
        if is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("no_cover")


def _turn(nodeid: str) -> int:
    if nodeid.startswith(_LAST):
        return len(_ORDER)
    return next(turn for turn, at in enumerate(_ORDER) if nodeid.startswith(at))


def pytest_make_parametrize_id(val: object) -> str | None:
    """A token made for this run is no name for a test: the two processes would not agree on it."""
    made = (isinstance(val, str) and "dss_" in val) or (isinstance(val, bytes) and b"dss_" in val)
    return "a-token" if made else None


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has its own state folder; the cache (the prepared model) is shared."""
    monkeypatch.setenv("DREAMSEED_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture(autouse=True)
def _own_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that is run in here writes its log to what the test has for stderr, which is closed
    afterwards: no logger keeps it for the tests after this one.
    """
    before, configure = structlog.get_config(), structlog.configure

    def without_memory(**chosen: Any) -> None:
        configure(**chosen | {"cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", without_memory)
    yield
    configure(**before)


@pytest.fixture(scope="module")
def untraced_children() -> Iterator[None]:
    """Programs that the module starts are not traced: where they take most of its time, and other tests
    reach their lines as well.
    """
    with children_untraced():
        yield


@pytest.fixture
def untraced(no_cover: None, untraced_children: None) -> None:
    """Nor is the test itself: for load on whole stacks."""


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[real_services.RunningPostgres]:
    """One PostgreSQL for all tests that leave it running; those that break it start their own."""
    with real_services.own_postgres() as server:
        yield server


@pytest.fixture
def postgres_dsn(postgres_server: real_services.RunningPostgres) -> str:
    """A database of the test's own, empty."""
    return postgres_server.new_database()


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[real_services.RunningCluster]:
    """One Valkey cluster of three nodes for all tests that leave it running."""
    with (
        tempfile.TemporaryDirectory(prefix="ds-vk-") as folder,
        real_services.valkey_cluster(Path(folder)) as cluster,
    ):
        yield cluster


@pytest.fixture
def valkey(valkey_server: real_services.RunningCluster) -> real_services.RunningCluster:
    """The shared cluster, empty."""
    valkey_server.flush()
    return valkey_server


@pytest.fixture
def kafka() -> Iterator[real_services.MockKafka]:
    """Three brokers of the test's own."""
    cluster = real_services.MockKafka()
    yield cluster
    cluster.close()
