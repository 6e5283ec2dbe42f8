"""The list of looks, in the order in which they are shown."""

from __future__ import annotations

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.doctor import around, data, engine, host, services, stack
from dreamseed_cli.doctor.database import database
from dreamseed_cli.doctor.examine import Look
from dreamseed_cli.doctor.model import model
from dreamseed_cli.doctor.tunnel import tunnel
from dreamseed_cli.profile.schema import Profile


def looks(profile: Profile, state: StateDir) -> dict[tuple[str, str], Look]:
    """Area and name of each: what is shown where a look itself fails."""
    return {
        ("host", "Python"): host.python,
        ("host", "open files"): lambda: host.files(profile),
        ("host", "clock"): lambda: host.clock(profile),
        ("host", "state folder"): lambda: host.state_folder(state),
        ("host", "disk"): lambda: host.disk(state),
        ("host", "NVMe"): lambda: host.disk_health(profile),
        ("engine", "needs"): lambda: engine.packages(profile, state),
        ("engine", "cards"): lambda: engine.cards(profile),
        ("engine", "compiler"): lambda: engine.compiler(profile),
        ("engine", "model"): lambda: model(profile),
        ("engine", "plan"): lambda: engine.plan(profile),
        ("power", "budget"): lambda: engine.power(profile),
        ("stack", "port"): lambda: engine.port(profile, state),
        ("stack", "stack"): lambda: stack.stack(profile, state),
        ("stack", "Redis Cluster"): lambda: services.redis(profile, state),
        ("stack", "brokers"): lambda: services.brokers(profile, state),
        ("security", "certificates"): lambda: stack.certificates(profile),
        ("data", "PostgreSQL"): lambda: database(profile, state),
        ("backup", "store"): lambda: data.store(profile),
        ("backup", "schedule"): lambda: data.schedule(profile),
        ("backup", "drills"): lambda: data.drills(profile, state),
        ("around", "UPS"): lambda: around.ups(profile),
        ("around", "tunnel"): lambda: tunnel(profile),
        ("around", "units"): lambda: around.units(profile),
    }
