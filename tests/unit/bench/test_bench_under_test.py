"""What `--target` and a stack are resolved to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dreamseed_cli.bench.lock import only_bench
from dreamseed_cli.bench.record_run import chosen_suites
from dreamseed_cli.bench.shapes import TargetSpec
from dreamseed_cli.bench.suites import SUITES, load_suite
from dreamseed_cli.bench.under_test import UnderTest, introduce, of_address, require_fitting, spec_of
from dreamseed_cli.core.errors import MissingError, UsageError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.profile.load import load_profile


@pytest.mark.parametrize(
    ("address", "kind", "resolved"),
    [
        ("http://a:8000", "openai", "http://a:8000"),
        ("https://a/base/v1/", "openai", "https://a/base"),
        ("unix:/run/r0.sock", "openai", "unix:/run/r0.sock"),
        ("127.0.0.1:50051", "grpc", "127.0.0.1:50051"),
        ("grpc://gpu.example:50051", "grpc", "gpu.example:50051"),
        ("[::1]:50051", "grpc", "[::1]:50051"),
    ],
)
def test_an_address_says_what_is_spoken_there(address: str, kind: str, resolved: str) -> None:
    """The version's path is the protocol's own, and is taken off."""
    spec = spec_of(address, model="m", api_key_env="KEY", ca_file=Path("/ca.pem"))
    assert (spec.kind, spec.address) == (kind, resolved)
    assert (spec.model, spec.api_key_env, spec.ca_file) == ("m", "KEY", "/ca.pem")


@pytest.mark.parametrize(
    "address",
    [
        *("gpu", "gpu:", ":50051", "gpu:x", "gpu:0", "gpu:99999", "ftp://gpu", "gpu:50051/", ""),
        *("http://", "http://gpu:x", "http://gpu:99999", "https://:443"),
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    """With both forms in the remedy."""
    with pytest.raises(UsageError, match="HOST:PORT"):
        spec_of(address, model="", api_key_env=None, ca_file=None)


@pytest.mark.parametrize(
    "address", ["http://ann:secret@gpu:8000", "https://ann:secret@gpu:x/v1", "ann:secret@gpu:50051"]
)
def test_a_password_is_neither_taken_nor_shown(address: str) -> None:
    """The target stands in the result and in its page."""
    with pytest.raises(UsageError, match="no result may show") as refused:
        spec_of(address, model="", api_key_env=None, ca_file=None)
    assert "secret" not in f"{refused.value} {refused.value.place} {refused.value.remedy}"
    assert "--api-key-env" in refused.value.remedy


def test_suites_run_in_their_order_and_once() -> None:
    """However often and in whatever order they were named."""
    assert chosen_suites(["db,engine", "engine"]) == ("engine", "db")
    assert chosen_suites(["all"]) == tuple(SUITES)
    with pytest.raises(UsageError, match="'motor'"):
        chosen_suites(["motor"])


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_is_there(name: str) -> None:
    """The table names modules and functions by text."""
    assert callable(load_suite(name))


def test_an_emulated_card_is_named_with_what_emulates_it() -> None:
    """So that no reader takes the figures for the card's own."""
    target = UnderTest(
        TargetSpec(kind="grpc", address="a:1"), load_profile("emulated-rtx5090x3"), simulated=True
    )
    assert "3 x NVIDIA GeForce RTX 5090 (emulated on " in target.device
    assert "roofline" in target.note


async def test_a_server_that_is_not_there_is_missing() -> None:
    """Before anything is measured, with the address."""
    with pytest.raises(MissingError) as caught:
        await introduce(UnderTest(TargetSpec(kind="openai", address="http://127.0.0.1:9", model="m")))
    assert caught.value.place == "http://127.0.0.1:9"


async def test_the_cause_is_told_without_the_clients_inner_life() -> None:
    """One word of the system's, where the model is asked for first."""
    with pytest.raises(MissingError) as caught:
        await of_address(TargetSpec(kind="openai", address="http://127.0.0.1:9"), StateDir(Path("/nowhere")))
    assert caught.value.cause == "nothing answers there: connection refused"


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"target": "a:1", "stack": True}, "--target"),
        ({"model": "m"}, "--model"),
        ({"ca": Path("/ca.pem")}, "--ca"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(options: dict[str, Any], place: str) -> None:
    """A stack is chosen by its profile, somebody's server by its address."""
    given = {"target": None, "model": None, "ca": None, "stack": False} | options
    with pytest.raises(UsageError) as caught:
        require_fitting(**given)
    assert caught.value.place == place


def test_an_authority_is_read_before_anything_starts(tmp_path: Path) -> None:
    """A file that is not there, and one that holds no certificate."""
    with pytest.raises(MissingError, match="cannot be read"):
        require_fitting("https://a", model=None, ca=tmp_path / "none.pem", stack=False)
    (tmp_path / "odd.pem").write_text("none")
    with pytest.raises(UsageError, match="holds no certificate"):
        require_fitting("https://a", model=None, ca=tmp_path / "odd.pem", stack=False)


def test_two_benches_do_not_measure_each_other(tmp_path: Path) -> None:
    """The second one is refused while the first one lasts, and a folder that cannot be made is named."""
    home = tmp_path / "bench"
    with only_bench(home), pytest.raises(UsageError, match="another bench"), only_bench(home):
        pass
    with only_bench(home):
        (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"), only_bench(tmp_path / "file"):
        pass
