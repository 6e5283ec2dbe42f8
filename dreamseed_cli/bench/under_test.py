"""What is measured, resolved from what the operator said: the addresses, and who answers there."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from dreamseed_cli.bench.own_stack import StackUnderTest, running_stack
from dreamseed_cli.bench.records import Ending, Job, Record
from dreamseed_cli.bench.served_model import served_model
from dreamseed_cli.bench.shapes import TargetSpec
from dreamseed_cli.bench.target.key import Access, access_to
from dreamseed_cli.bench.target.opening import open_target
from dreamseed_cli.bench.where import this_device
from dreamseed_cli.core.errors import FailedError, MissingError, UsageError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.engine.types import Endpoint
from dreamseed_cli.gateway.security.pem import parse_certificates, read_file
from dreamseed_cli.gateway.settings import ServiceAddresses
from dreamseed_cli.plan.tables import cards
from dreamseed_cli.profile.schema import EmulatedEngine, Profile, RemoteEngine, VllmEngine
from dreamseed_cli.supervisor.running import gateway_settings
from dreamseed_cli.supervisor.state import read_supervisor

_FIRST_ANSWER_S = 60.0
_FIRST_QUESTION = "Answer with one word only: what is the capital of France?"
_FIRST_TOKENS = 32
# How a request is refused that has a field too many.
_WRONG_REQUEST = ("HTTP 400", "HTTP 422", "INVALID_ARGUMENT")


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
    def access(self) -> Access:
        """What the endpoints open to."""
        engine = self.profile.engine if self.profile else None
        if isinstance(engine, RemoteEngine) and engine.api_key_env:
            return Access(api_key=os.environ.get(engine.api_key_env))
        return access_to(self.spec)

    @property
    def on_cards(self) -> bool:
        """Whether the engines compute on this machine's cards: only then is what those draw theirs."""
        return self.profile is not None and self.profile.card_engine is not None

    @property
    def note(self) -> str:
        """What goes with the provenance: the emulated card's source, or that no card was in it."""
        engine = self.profile.engine if self.profile else None
        if isinstance(engine, EmulatedEngine):
            return engine.card.source
        return "CPU" if isinstance(engine, VllmEngine) and engine.device == "cpu" else ""


def spec_of(address: str, *, model: str, api_key_env: str | None, ca_file: Path | None) -> TargetSpec:
    """The target that `--target` names: http(s)://HOST[:PORT][/BASE], unix:PATH, or HOST:PORT (gRPC).

    UsageError for anything else, and for an address with a password in it: a result would publish it.
    """
    make = partial(
        TargetSpec, model=model, api_key_env=api_key_env, ca_file=str(ca_file) if ca_file else None
    )
    if address.startswith("unix:"):
        return make(kind="openai", address=address)
    if address.startswith(("http://", "https://")):
        _require_place(address)
        base = address.rstrip("/").removesuffix("/v1")
        return make(kind="openai", address=base)
    place = address.removeprefix("grpc://")
    _require_place(f"grpc://{place}", with_port=True)
    return make(kind="grpc", address=place)


def _require_place(url: str, *, with_port: bool = False) -> None:
    """A host, and a port that there can be: gRPC takes 65,616 for 80."""
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise UsageError(
            "it holds a user or a password, which no result may show",
            place="--target",
            remedy="Leave them out, and name the variable with the server's key: --api-key-env.",
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if not host or port == 0 or (with_port and (port is None or parts.path)):
        raise UsageError(
            f"'{url.removeprefix('grpc://')}' is no address",
            place="--target",
            remedy="Write http://HOST:PORT for an OpenAI-compatible server, HOST:PORT for the gRPC gateway.",
        )


def require_fitting(target: str | None, *, model: str | None, ca: Path | None, stack: bool) -> None:
    """The options go together. stack: whether one of them says which stack to start.

    UsageError if one would be ignored; UsageError or MissingError if `ca` holds no certificate.
    """
    if target is not None and stack:
        raise UsageError(
            "what runs there has its own profile and cards",
            place="--target",
            remedy="Leave --profile and --gpus out, or --target, to start a stack.",
        )
    foreign = [name for name, given in (("--model", model), ("--ca", ca)) if given is not None]
    if target is None and foreign:
        raise UsageError(
            "it belongs to a server that --target names",
            place=foreign[0],
            remedy="Name the server, or choose what a stack runs with --profile.",
        )
    if ca is not None:
        parse_certificates(read_file(ca), ca)


def of_stack(stack: StackUnderTest, api_key_env: str | None) -> UnderTest:
    """A stack of ours: its gateway, and every engine by itself."""
    if stack.away:
        raise FailedError(
            f"without requests: {', '.join(stack.away)}; only what is left would be measured",
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
    """Somebody's server; the engines and services of our own stack, if it is the gateway of the one that runs
    in `state`.

    Raises as `introduce` and `running_stack`.
    """
    if spec.kind == "grpc":
        record = read_supervisor(state)
        if record is None or not record.alive() or record.gateway != spec.address:
            return await introduce(UnderTest(spec=spec, foreign=True))
        # It asks the supervisor in a loop of its own.
        stack = await asyncio.to_thread(running_stack, state)
        engines = tuple(stack.replicas.values()) if stack is not None else ()
        return await introduce(
            UnderTest(spec=spec, endpoints=engines, services=services_of(state), door=_door_of(state))
        )
    if not spec.model:
        spec = msgspec.structs.replace(spec, model=await served_model(spec))
    return await introduce(UnderTest(spec=spec, endpoints=(Endpoint.parse(spec.address),), foreign=True))


async def introduce(target: UnderTest) -> UnderTest:
    """One answer before anything is measured, which also tells whether it is simulated, our front's, and of a
    length that can be forced.

    MissingError if nothing listens there, FailedError for whatever else is no answer.
    """
    spec, record = await _met(target.spec)
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
        spec=msgspec.structs.replace(spec, ours=ours),
        door=Endpoint.parse(spec.address) if ours else target.door,
        simulated=target.simulated or record.simulated,
    )


async def _met(spec: TargetSpec) -> tuple[TargetSpec, Record]:
    """Its first answer, and how it is to be asked: without vLLM's extensions if it refuses them, or lets the
    answer end before its forced length.
    """
    record = await _first_answer(spec)
    refused = record.ending is Ending.REJECTED and record.detail.startswith(_WRONG_REQUEST)
    if not refused and record.ending is not Ending.WRONG_LENGTH:
        return spec, record
    plain = msgspec.structs.replace(spec, vllm=False)
    without = await _first_answer(plain)
    if refused and without.ending is not Ending.COMPLETE:
        return spec, record
    return plain, without


async def _first_answer(spec: TargetSpec) -> Record:
    """To a question that has a short one: a model that may end where it likes does not fill its length."""
    job = Job(number=0, workload="first", prompt=_FIRST_QUESTION, wanted_tokens=_FIRST_TOKENS)
    record = Record(number=0, workload="first", scheduled_s=0.0, wanted_tokens=_FIRST_TOKENS)
    asked = open_target(msgspec.structs.replace(spec, timeout_s=_FIRST_ANSWER_S))
    epoch = time.monotonic()
    try:
        await asked.ask(job, record, lambda: time.monotonic() - epoch)
    finally:
        await asked.close()
    return record


def _is_our_front(spec: TargetSpec, record: Record) -> bool:
    """No other OpenAI-compatible server says whether an answer came from a cache."""
    return spec.kind == "openai" and record.cache_hit is not None


_REMEDIES = {
    Ending.REJECTED: "Check the model's name, and the key that --api-key-env names.",
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
