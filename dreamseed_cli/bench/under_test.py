"""What is measured, resolved from what the operator said: the addresses, and who answers there."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import msgspec

from dreamseed_cli.bench.own_stack import StackUnderTest
from dreamseed_cli.bench.records import Ending, Job, Record
from dreamseed_cli.bench.served_model import served_model
from dreamseed_cli.bench.shapes import TargetSpec
from dreamseed_cli.bench.target.opening import open_target
from dreamseed_cli.bench.where import this_device
from dreamseed_cli.core.errors import FailedError, MissingError, UsageError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.engine.types import Endpoint
from dreamseed_cli.gateway.settings import ServiceAddresses
from dreamseed_cli.plan.tables import cards
from dreamseed_cli.profile.schema import EmulatedEngine, Profile, RemoteEngine, VllmEngine
from dreamseed_cli.supervisor.running import gateway_settings
from dreamseed_cli.supervisor.state import read_supervisor

_FIRST_ANSWER_S = 60.0


@dataclass(frozen=True)
class UnderTest:
    """Everything about the target that the suites and the result need.

    replicas: the stack's single engines, past the gateway. endpoints: whose metrics are watched.
    foreign: somebody's server, of which nothing else is known. door: where our gateway or front tells how
    many requests it has; None for somebody else's server.
    """

    spec: TargetSpec
    profile: Profile | None = None
    replicas: dict[str, TargetSpec] = field(default_factory=dict)
    endpoints: tuple[Endpoint, ...] = ()
    door: Endpoint | None = None
    services: ServiceAddresses | None = None
    simulated: bool = False
    foreign: bool = False

    @property
    def device(self) -> str:
        """What computes: for emulated engines the card that they stand for, and what emulates it."""
        here = this_device(self.profile)
        engine = self.profile.engine if self.profile else None
        if not isinstance(engine, EmulatedEngine) or self.profile is None:
            return here
        card = cards().get(self.profile.box.gpu_model or "")
        name = card.title if card else "a card"
        return f"{engine.replicas} x {name} (emulated on {here})"

    @property
    def on_cards(self) -> bool:
        """Whether the engines compute on this machine's cards: only then is what those draw theirs."""
        engine = self.profile.engine if self.profile else None
        return isinstance(engine, VllmEngine) and engine.device == "cuda"

    @property
    def note(self) -> str:
        """What goes with the provenance: the emulated card's source, or that no card was in it."""
        engine = self.profile.engine if self.profile else None
        if isinstance(engine, EmulatedEngine):
            return engine.card.source
        return "CPU" if isinstance(engine, VllmEngine) and engine.device == "cpu" else ""


def spec_of(address: str, *, model: str, api_key_env: str | None, ca_file: Path | None) -> TargetSpec:
    """The target that `--target` names: http(s)://HOST[:PORT][/BASE], unix:PATH, or HOST:PORT (gRPC)."""
    make = partial(
        TargetSpec, model=model, api_key_env=api_key_env, ca_file=str(ca_file) if ca_file else None
    )
    if address.startswith(("http://", "https://")):
        base = address.rstrip("/").removesuffix("/v1")
        return make(kind="openai", address=base)
    if address.startswith("unix:"):
        return make(kind="openai", address=address)
    host, _, port = address.removeprefix("grpc://").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(
            f"'{address}' is no address",
            place="--target",
            remedy="Write http://HOST:PORT for an OpenAI-compatible server, HOST:PORT for the gRPC gateway.",
        )
    return make(kind="grpc", address=f"{host}:{port}")


def of_stack(stack: StackUnderTest, api_key_env: str | None) -> UnderTest:
    """A stack of ours: its gateway, and every engine by itself."""
    if stack.away:
        raise FailedError(
            f"{', '.join(stack.away)} take no requests: what is left would be measured",
            place=stack.gateway,
            remedy="See `dreamseed status`; restart them, or wait until they are ready.",
        )
    engine = stack.profile.engine if stack.profile else None
    past = {} if isinstance(engine, RemoteEngine) else dict(stack.replicas)
    return UnderTest(
        spec=TargetSpec(kind="grpc", address=stack.gateway, model=stack.model, api_key_env=api_key_env),
        profile=stack.profile,
        replicas={
            name: TargetSpec(
                kind="openai",
                address=str(endpoint),
                model=stack.model,
                api=engine.api if engine else "chat",
            )
            for name, endpoint in past.items()
        },
        endpoints=tuple(stack.replicas.values()),
        door=_door_of(stack.state),
        services=services_of(stack.state),
        simulated=stack.simulated,
    )


async def of_address(spec: TargetSpec, state: StateDir) -> UnderTest:
    """Somebody's server; the services of our own stack, if it is the gateway of the one that runs in `state`.

    Raises as `introduce`.
    """
    if spec.kind == "grpc":
        record = read_supervisor(state)
        if record is None or not record.alive() or record.gateway != spec.address:
            return await introduce(UnderTest(spec=spec, foreign=True))
        return await introduce(UnderTest(spec=spec, services=services_of(state), door=_door_of(state)))
    if not spec.model:
        spec = msgspec.structs.replace(spec, model=await served_model(spec))
    return await introduce(UnderTest(spec=spec, endpoints=(Endpoint.parse(spec.address),), foreign=True))


async def introduce(target: UnderTest) -> UnderTest:
    """One answer before anything is measured, which also tells whether it is simulated, and our front's.

    MissingError if nothing listens there, FailedError for whatever else is no answer.
    """
    spec = msgspec.structs.replace(target.spec, timeout_s=_FIRST_ANSWER_S)
    job = Job(number=0, workload="first", prompt="Why is the sky blue?", wanted_tokens=8)
    record = Record(number=0, workload="first", scheduled_s=0.0, wanted_tokens=8)
    asked = open_target(spec)
    epoch = time.monotonic()
    try:
        await asked.ask(job, record, lambda: time.monotonic() - epoch)
    finally:
        await asked.close()
    if record.ending is Ending.UNREACHABLE:
        raise MissingError(
            f"nothing answers there: {record.detail}",
            place=spec.address,
            remedy="Check the address, or leave --target out to measure a stack of this machine.",
        )
    if record.ending is not Ending.COMPLETE:
        raise FailedError(
            f"its first answer is none to measure ({record.ending.value}): {record.detail}",
            place=spec.address,
            remedy=_REMEDIES.get(record.ending, "See what its own log says."),
        )
    ours = _is_our_front(spec, record)
    return replace(
        target,
        spec=msgspec.structs.replace(target.spec, ours=ours),
        door=Endpoint.parse(spec.address) if ours else target.door,
        simulated=target.simulated or record.simulated,
    )


def _is_our_front(spec: TargetSpec, record: Record) -> bool:
    """No other OpenAI-compatible server says whether an answer came from a cache."""
    return spec.kind == "openai" and record.cache_hit is not None


_REMEDIES = {
    Ending.REJECTED: "Check the model's name, and the key that --api-key-env names.",
    Ending.WRONG_LENGTH: "It does not know `ignore_eos`; answers of a known length cannot be forced on it.",
    Ending.MISCOUNTED: "Its usage cannot be believed, so neither could a figure in tokens.",
}


def _door_of(state: StateDir) -> Endpoint | None:
    """Where a stack's gateway tells its metrics."""
    settings = gateway_settings(state)
    return Endpoint(socket=Path(settings.admin_socket)) if settings is not None else None


def services_of(state: StateDir) -> ServiceAddresses | None:
    """Where a stack's PostgreSQL and Redis are; None if it runs without, or none was ever here."""
    settings = gateway_settings(state)
    return settings.services if settings is not None else None
