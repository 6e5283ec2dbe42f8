"""The running stack, as its supervisor tells it; what would be reachable where it does not run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dreamseed_cli.core.counting import counted
from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.doctor.finding import Finding, Level, off, ok, problem, warning
from dreamseed_cli.gateway.security.expiry import survey
from dreamseed_cli.gateway.security.folder import CertificateFolder
from dreamseed_cli.gateway.security.pem import WARN_DAYS, parse_certificates
from dreamseed_cli.profile.schema import Profile, Tls
from dreamseed_cli.supervisor.control import fetch_snapshot
from dreamseed_cli.supervisor.orphans import left_by_killed
from dreamseed_cli.supervisor.running import require_running

_AREA = "stack"
_RENEW = "dreamseed certs create --renew."
_SERVICE_LEVELS = {"ready": Level.OK, "outbox": Level.OK, "off": Level.OFF}


def stack(profile: Profile, state: StateDir) -> Iterator[Finding]:
    """Engines and services. A stack that does not run is no fault: nobody may have started it. One whose
    supervisor was killed is: what it left serves, and nobody watches it.
    """
    try:
        require_running(state)
    except DreamseedError:
        left = left_by_killed(state)
        if left is not None:
            yield problem(_AREA, "stack", left.cause, left.remedy)
        else:
            yield off(_AREA, "stack", "does not run here (dreamseed serve starts it)")
        return
    snapshot = fetch_snapshot(state)
    if snapshot.profile != profile.name:
        said = f"the stack runs '{snapshot.profile}', all this is of '{profile.name}'"
        yield warning(_AREA, "profile", said, "Look again with the --profile that serve was given.")
    ready = snapshot.ready
    said = f"{ready} of {len(snapshot.replicas)} ready"
    if not snapshot.replicas:
        yield warning(_AREA, "engines", "the stack is starting", "Look again in a minute; dreamseed status.")
    elif ready < len(snapshot.replicas):
        yield (warning if ready else problem)(_AREA, "engines", said, "dreamseed status says why.")
    else:
        yield ok(_AREA, "engines", said)
    for service in snapshot.services:
        level = _SERVICE_LEVELS.get(service.state, Level.PROBLEM)
        remedy = "" if level is not Level.PROBLEM else f"dreamseed status; dreamseed logs {service.name}."
        told = f"{service.mode}, {service.state}{f': {service.detail}' if service.detail else ''}"
        yield Finding(_AREA, service.name, level, told, remedy)


def certificates(profile: Profile) -> Iterator[Finding]:
    """Those the gateway serves with, then the user's folder. Where the gateway needs none, none is missed."""
    now, tls = datetime.now(UTC), profile.gateway.security.tls
    if tls is not None:
        yield _served(tls, now)
    entries = survey(CertificateFolder.locate(None), now)
    for one in entries:
        left = "" if one.days_left is None else f", {counted(one.days_left, 'day')} left"
        said = f"{one.condition.value}{left}"
        if one.condition.alarming:
            yield problem("security", one.file.name, said, one.problem or _RENEW)
        else:
            yield ok("security", one.file.name, said)
    if not entries and tls is None:
        yield off("security", "certificates", "none: the gateway is on loopback")


def _served(tls: Tls, now: datetime) -> Finding:
    """Whether the files of gateway.security.tls would serve, and how long."""
    from dreamseed_cli.gateway.security.server import load_bundle

    name = "gateway's TLS"
    try:
        bundle = load_bundle(tls, now)
    except DreamseedError as error:
        said = f"{error.place}: {error.cause}"
        if isinstance(error.__cause__, PermissionError):
            return warning("security", name, said, "Look as the gateway's user, or as root.")
        return problem("security", name, said, error.remedy or _RENEW)
    ends = [bundle.not_after]
    if bundle.client_ca is not None:
        authority = parse_certificates(bundle.client_ca, Path(tls.client_ca or ""))
        ends += [one.not_valid_after_utc for one in authority]
    days_left = (min(ends) - now) // timedelta(days=1)
    said = f"{tls.certificate}, {counted(days_left, 'day')} left until it or its client_ca ends"
    return ok("security", name, said) if days_left >= WARN_DAYS else problem("security", name, said, _RENEW)
