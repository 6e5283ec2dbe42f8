"""What is refused before anything is started."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from dreamseed_cli.core import nvml
from dreamseed_cli.core.errors import DreamseedError, ErrorGroup, MissingError, UsageError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.profile.load import load_profile, parse_profile
from dreamseed_cli.profile.schema import Gateway, Postgres, Profile, Redis, RemoteEngine, Services
from dreamseed_cli.supervisor.preflight import require_everything, require_port, require_reachable


def _require(profile: Profile) -> None:
    require_everything(profile, StateDir(Path("/state")))


def _laptop(**engine: Any) -> Profile:
    """Without services, which are asked for in tests of their own."""
    profile = load_profile("laptop")
    services = Services(postgres=Postgres(mode="off"), redis=Redis(mode="off"))
    changed = profile.engine.model_copy(update=engine)
    return profile.model_copy(update={"engine": changed, "services": services})


def _remote(*urls: str, **engine: Any) -> RemoteEngine:
    data = {"kind": "remote", "urls": list(urls), "model": "m", **engine}
    made = parse_profile({"name": "far", "description": "x", "engine": data}, source="test").engine
    assert isinstance(made, RemoteEngine)
    return made


def test_the_default_profile_passes_where_vllm_is_installed() -> None:
    """Nothing is missing for the CPU, nor for emulated cards."""
    _require(load_profile("laptop"))
    _require(load_profile("emulated-rtx5090x3"))


def test_vllm_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is what works for this device; services that are missing are told in the same round."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ErrorGroup, match="DREAMSEED_ENGINE=cpu make setup") as refusal:
        _require(load_profile("laptop"))
    assert {error.place for error in refusal.value.causes()} == {
        "vllm",
        "services.postgres",
        "services.redis",
    }
    assert refusal.value.exit_code == 3


def test_a_model_folder_that_is_not_there() -> None:
    """The message holds the path as the profile has it."""
    with pytest.raises(MissingError, match=r"\./no/such/model"):
        _require(_laptop(model="./no/such/model"))


def test_a_model_folder_that_is_there(tmp_path: Path) -> None:
    """A folder with a config.json is taken for a model."""
    (tmp_path / "config.json").write_text("{}")
    _require(_laptop(model=str(tmp_path)))


def test_docker_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only the docker launcher needs it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    _require(_laptop())
    with pytest.raises(MissingError, match="docker"):
        _require(_laptop(launcher="docker"))


def test_all_that_is_missing_for_cards_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cards and with vLLM's CPU build, both are told in one round."""
    monkeypatch.setattr("importlib.metadata.version", lambda _: "0.32.0")
    monkeypatch.setattr(nvml, "look", lambda _: nvml.Seen())
    with pytest.raises(ErrorGroup) as refusal:
        _require(load_profile("rtx5090x3"))
    said = str(refusal.value)
    assert "build for processors" in said
    assert "needs 3 cards" in said
    assert refusal.value.exit_code == 3


def test_the_document_profile_is_refused_with_its_arithmetic() -> None:
    """Tensor parallel 3 cannot divide 40 heads: said before vLLM has loaded for a minute."""
    with pytest.raises(DreamseedError, match="40"):
        _require(load_profile("rtx5090x3-document"))


def test_an_api_key_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is named; its value never is."""
    profile = parse_profile(
        {
            "name": "far",
            "description": "x",
            "engine": {"kind": "remote", "urls": ["https://a"], "model": "m", "api_key_env": "DS_TEST_KEY"},
        },
        source="test",
    )
    with pytest.raises(MissingError, match="DS_TEST_KEY"):
        _require(profile)
    monkeypatch.setenv("DS_TEST_KEY", "secret")
    _require(profile)


def test_a_connection_string_that_is_not_set_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is named; of its value, which may hold a password, nothing is quoted."""
    services = Services(postgres=Postgres(mode="external", dsn_env="DS_TEST_DSN"), redis=Redis(mode="off"))
    profile = _laptop().model_copy(update={"services": services})
    with pytest.raises(MissingError, match="DS_TEST_DSN"):
        _require(profile)
    monkeypatch.setenv("DS_TEST_DSN", "post gres secret")
    with pytest.raises(UsageError, match="DS_TEST_DSN") as refusal:
        _require(profile)
    assert "secret" not in str(refusal.value)
    monkeypatch.setenv("DS_TEST_DSN", "host=/tmp user=x")
    _require(profile)


async def test_remote_engines_of_which_none_can_be_reached() -> None:
    """Each address is named with its own cause; one that answers is enough."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        open_url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with socket.create_server(("127.0.0.1", 0)) as other:
            closed_url = f"http://127.0.0.1:{other.getsockname()[1]}"
        await require_reachable(_remote(open_url, closed_url))
        with pytest.raises(MissingError, match=closed_url):
            await require_reachable(_remote(closed_url))


def test_a_free_port_and_any_port() -> None:
    """Port 0 takes whatever is free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    require_port(Gateway(port=port))
    require_port(Gateway(port=0))


def test_a_port_in_use_names_its_holder() -> None:
    """It is this very process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UsageError, match=r"in use by .*\(pid \d+\)"):
            require_port(Gateway(port=port))


def test_an_address_of_another_machine() -> None:
    """One can only listen on one's own addresses (192.0.2.0/24 is for documentation)."""
    with pytest.raises(UsageError, match=r"gateway\.host"):
        require_port(Gateway(host="192.0.2.1", port=50051))
