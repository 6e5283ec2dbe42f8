"""FrontService on grpc.aio: for callers that are trusted to speak for users, and for nobody else."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from dreamseed_cli.core.dependency import DependencyDown
from dreamseed_cli.gateway.events.store import RecordsRefused
from dreamseed_cli.gateway.front import FRONT_SERVICE, POSTGRES_AWAY
from dreamseed_cli.gateway.front.ended import read_answers, read_refusals
from dreamseed_cli.gateway.front.fields import WrongField, read_uuid, require_amount, require_name
from dreamseed_cli.gateway.front.money import from_micro, lendable_months, month_of, to_micro
from dreamseed_cli.gateway.front.store import FrontStore, StoredLease
from dreamseed_cli.gateway.proto import REASON_KEY
from dreamseed_cli.gateway.proto.front_pb2 import (
    GetQuestionRequest,
    Lease,
    ListModelsRequest,
    ListModelsResponse,
    Question,
    RecordRefusalsRequest,
    RecordRefusalsResponse,
    SettleLeaseRequest,
    TakeLeaseRequest,
)
from dreamseed_cli.gateway.refusals import Refusal
from dreamseed_cli.gateway.status import grpc_status

Context = grpc.aio.ServicerContext[bytes, Any]
_Request = TypeVar("_Request", bound=Message)
_Answer = TypeVar("_Answer", bound=Message)


class FrontService:
    """models: the names that can be asked for. trusted: whether a call's caller may use this service at all.
    store: None where the stack has no PostgreSQL. check_user: raises a Refusal for a user of the front's that
    may ask for nothing. now: the present, in UTC.
    """

    def __init__(
        self,
        models: Sequence[str],
        trusted: Callable[[Context], bool],
        store: FrontStore | None,
        *,
        check_user: Callable[[Context], Awaitable[None]],
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._models = tuple(models)
        self._trusted = trusted
        self._store = store
        self._now = now
        self._check_user = check_user

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server registers."""
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "ListModels": self._method(ListModelsRequest, self._list_models),
            "GetQuestion": self._method(GetQuestionRequest, self._get_question),
            "TakeLease": self._method(TakeLeaseRequest, self._take_lease),
            "SettleLease": self._method(SettleLeaseRequest, self._settle_lease),
            "RecordRefusals": self._method(RecordRefusalsRequest, self._record_refusals),
        }
        return grpc.method_handlers_generic_handler(FRONT_SERVICE, methods)

    def _method(
        self, kind: type[_Request], answer: Callable[[_Request, Context], Awaitable[_Answer]]
    ) -> grpc.RpcMethodHandler[bytes, _Answer]:
        async def serve(message: bytes, context: Context) -> _Answer:
            if not self._trusted(context):
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this service is for the front alone")
            try:
                return await answer(kind.FromString(message), context)
            except DecodeError:
                said = f"the message is not a {kind.DESCRIPTOR.name}"
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, said)
            except WrongField as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            except Refusal as refusal:
                trailer = ((REASON_KEY, refusal.reason),)
                await context.abort(*grpc_status(refusal), trailer)
            except DependencyDown:
                trailer = ((REASON_KEY, POSTGRES_AWAY),)
                await context.abort(grpc.StatusCode.UNAVAILABLE, "PostgreSQL does not answer", trailer)

        return grpc.unary_unary_rpc_method_handler(
            serve, response_serializer=lambda message: message.SerializeToString()
        )

    async def _list_models(self, request: ListModelsRequest, context: Context) -> ListModelsResponse:
        await self._check_user(context)
        return ListModelsResponse(names=self._models)

    async def _get_question(self, request: GetQuestionRequest, context: Context) -> Question:
        require_name("id", request.id, shortest=1)
        found = await (await self._postgres(context)).question(request.id)
        if found is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no question of this id")
        return Question(id=found.id, content=found.content.encode(), updated_at_us=found.updated_at_us)

    async def _take_lease(self, request: TakeLeaseRequest, context: Context) -> Lease:
        wish = _wish(request, self._now())
        store = await self._postgres(context)
        return _lease(await store.take(wish, holder=request.holder, cap=from_micro(request.cap_micro_usd)))

    async def _settle_lease(self, request: SettleLeaseRequest, context: Context) -> Lease:
        lease_id = read_uuid("lease_id", request.lease_id)
        require_amount("spent_micro_usd", request.spent_micro_usd, least=0)
        answers = read_answers(request.answers)
        store = await self._postgres(context)
        try:
            settled = await store.settle(lease_id, from_micro(request.spent_micro_usd), answers)
        except RecordsRefused as error:
            raise WrongField(f"answers: {error.cause}") from error
        if settled is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no lease of this id")
        return _lease(settled)

    async def _record_refusals(
        self, request: RecordRefusalsRequest, context: Context
    ) -> RecordRefusalsResponse:
        refusals = read_refusals(request.refusals, self._models[0])
        if self._store is not None:
            try:
                await self._store.record(refusals)
            except RecordsRefused as error:
                raise WrongField(f"refusals: {error.cause}") from error
        return RecordRefusalsResponse()

    async def _postgres(self, context: Context) -> FrontStore:
        if self._store is None:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this stack runs without PostgreSQL")
        return self._store


def _wish(request: TakeLeaseRequest, now: dt.datetime) -> StoredLease:
    """What is to be lent. Raises WrongField."""
    try:
        month = month_of(request.month)
    except ValueError as error:
        raise WrongField(f"month: {error}") from error
    if month not in lendable_months(now):
        raise WrongField(f"month {request.month}: its money is not lent now")
    require_name("holder", request.holder)
    require_amount("amount_micro_usd", request.amount_micro_usd, least=1)
    require_amount("cap_micro_usd", request.cap_micro_usd, least=0)
    return StoredLease(read_uuid("lease_id", request.lease_id), month, from_micro(request.amount_micro_usd))


def _lease(stored: StoredLease) -> Lease:
    return Lease(
        lease_id=str(stored.id),
        month=f"{stored.month:%Y-%m}",
        granted_micro_usd=to_micro(stored.granted),
        spent_micro_usd=None if stored.spent is None else to_micro(stored.spent),
    )
