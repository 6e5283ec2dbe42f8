"""Servers that several modules here talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ups_daemons import Apcupsd, MadeUpUps, NisServer, apcupsd, nis_server


@pytest.fixture(scope="module")
def made_up() -> MadeUpUps:
    """The UPS behind the daemons."""
    return MadeUpUps()


@pytest.fixture(scope="module")
def server(made_up: MadeUpUps) -> Iterator[NisServer]:
    """A NIS server of the tests' own, which feeds the daemon."""
    with nis_server(made_up) as running:
        yield running


@pytest.fixture(scope="module")
def daemon(server: NisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apcupsd]:
    """The real apcupsd."""
    with apcupsd(tmp_path_factory.mktemp("apcupsd"), server.port) as running:
        yield running


@pytest.fixture
def ups_is_well(made_up: MadeUpUps, server: NisServer) -> None:
    """On mains, with everything answering, whatever the test before it did."""
    made_up.__init__()  # type: ignore[misc]
    server.answer, server.silent, server.drips = None, False, False
