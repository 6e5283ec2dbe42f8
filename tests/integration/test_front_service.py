"""FrontService on a real PostgreSQL, over real gRPC: questions, money lent within a cap, refusals."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import math
import random
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
import real_services
from api_harness import any_user, front_service, scripted_gateway

from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.gateway.accounts.keys import new_key
from dreamseed_cli.gateway.front import (
    GET_QUESTION,
    LIST_MODELS,
    RECORD_REFUSALS,
    SETTLE_LEASE,
    TAKE_LEASE,
)
from dreamseed_cli.gateway.front.service import FrontService
from dreamseed_cli.gateway.proto.front_pb2 import (
    EndedRequest,
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

_CODE = grpc.StatusCode
_MONTH = "2026-11"
_CAP = 10_000_000


def _now() -> dt.datetime:
    return dt.datetime(2026, 11, 15, 12, tzinfo=dt.UTC)


class _Client:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.models = channel.unary_unary(
            LIST_MODELS, ListModelsRequest.SerializeToString, ListModelsResponse.FromString
        )
        self.question = channel.unary_unary(
            GET_QUESTION, GetQuestionRequest.SerializeToString, Question.FromString
        )
        self.settle = channel.unary_unary(
            SETTLE_LEASE, SettleLeaseRequest.SerializeToString, Lease.FromString
        )
        self.take_lease = channel.unary_unary(
            TAKE_LEASE, TakeLeaseRequest.SerializeToString, Lease.FromString
        )
        self._refusals = channel.unary_unary(
            RECORD_REFUSALS, RecordRefusalsRequest.SerializeToString, RecordRefusalsResponse.FromString
        )

    async def take(self, amount: int, **fields: Any) -> Lease:
        given: dict[str, Any] = {
            "lease_id": str(uuid.uuid4()),
            "month": _MONTH,
            "holder": "f1",
            "cap_micro_usd": _CAP,
        }
        return await self.take_lease(TakeLeaseRequest(amount_micro_usd=amount, **(given | fields)))

    async def record(self, *refusals: EndedRequest) -> None:
        await self._refusals(RecordRefusalsRequest(refusals=refusals))


@asynccontextmanager
async def _client(service: FrontService) -> AsyncIterator[_Client]:
    async with (
        scripted_gateway(front=service) as gateway,
        grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel,
    ):
        yield _Client(channel)


@pytest.fixture
def dsn(postgres_dsn: str) -> str:
    """A migrated database."""
    migrate(postgres_dsn)
    return postgres_dsn


@pytest.fixture
async def client(dsn: str) -> AsyncIterator[_Client]:
    """A client of the service in the middle of November 2026."""
    async with front_service(dsn, now=_now) as service, _client(service) as made:
        yield made


async def _refused(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


async def test_a_question_comes_as_it_is_stored(client: _Client, dsn: str) -> None:
    """Its JSON and its time; NOT_FOUND for one that is not there, INVALID_ARGUMENT for no id."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO questions VALUES ('q/1', %s, '2026-11-10 01:02:03.000004+00')",
            ('{"text": "수도는?", "options": [1, 2.50]}',),
        )
    question = await client.question(GetQuestionRequest(id="q/1"))
    assert json.loads(question.content) == {"text": "수도는?", "options": [1, 2.5]}
    moment = dt.datetime(2026, 11, 10, 1, 2, 3, tzinfo=dt.UTC)
    assert question.updated_at_us == int(moment.timestamp()) * 1_000_000 + 4
    assert await _refused(client.question(GetQuestionRequest(id="q2"))) is _CODE.NOT_FOUND
    for wrong in ("", "x" * 257, "a\0b"):
        assert await _refused(client.question(GetQuestionRequest(id=wrong))) is _CODE.INVALID_ARGUMENT


async def test_no_more_is_lent_than_the_cap_leaves(client: _Client) -> None:
    """What is lent counts until it is accounted for; what was not spent comes back."""
    first = await client.take(6_000_000)
    second = await client.take(6_000_000)
    third = await client.take(1)
    assert [lease.granted_micro_usd for lease in (first, second, third)] == [6_000_000, 4_000_000, 0]
    settled = await client.settle(SettleLeaseRequest(lease_id=first.lease_id, spent_micro_usd=1_500_000))
    assert settled.spent_micro_usd == 1_500_000
    assert (await client.take(9_000_000)).granted_micro_usd == 4_500_000
    assert (await client.take(1, month=_MONTH)).granted_micro_usd == 0


async def test_asking_twice_lends_once_and_the_first_account_stands(client: _Client) -> None:
    """An answer that got lost may be asked for again, with the same id and the same outcome."""
    lease_id = str(uuid.uuid4())
    assert await client.take(3_000_000, lease_id=lease_id) == await client.take(9_000_000, lease_id=lease_id)
    assert (await client.take(_CAP)).granted_micro_usd == 7_000_000
    for spent in (2_000_000, 5):
        lease = await client.settle(SettleLeaseRequest(lease_id=lease_id, spent_micro_usd=spent))
        assert lease.spent_micro_usd == 2_000_000
    again = await client.take(3_000_000, lease_id=lease_id)
    assert (again.granted_micro_usd, again.spent_micro_usd) == (3_000_000, 2_000_000)
    unknown = SettleLeaseRequest(lease_id=str(uuid.uuid4()), spent_micro_usd=1)
    assert await _refused(client.settle(unknown)) is _CODE.NOT_FOUND


def _answer(**fields: Any) -> EndedRequest:
    given: dict[str, Any] = {
        "event_id": str(uuid.uuid4()),
        "request_id": "r1",
        "outcome": "finished",
        "priority": "premium",
        "workload": "question",
        "model": "other",
        "prompt_tokens": 3,
        "completion_tokens": 7,
        "arrived_at": _now().timestamp(),
        "duration_s": 0.5,
    }
    return EndedRequest(**given | fields)


def _events(dsn: str) -> list[dict[str, Any]]:
    """The outbox's, in their order; each has its row in `requests`."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT event_id, key, payload FROM outbox ORDER BY sequence").fetchall()
        requests = connection.execute("SELECT event_id, user_id FROM requests").fetchall()
    payloads = [json.loads(row[2]) for row in found]
    assert [(each["event_id"], each["user_id"]) for each in payloads] == [row[:2] for row in found]
    assert sorted(requests) == sorted(row[:2] for row in found)
    return payloads


async def test_answers_that_come_with_an_account_become_events_once(client: _Client, dsn: str) -> None:
    """The user is the key's, revoked or not; a key of nobody's has none. Sent again, nothing is added, though
    the front may have more to tell by then.
    """
    owned, revoked = new_key(), new_key()
    with psycopg.connect(dsn) as connection:
        connection.execute("INSERT INTO users (id, tier) VALUES ('u1', 'paid'), ('u2', 'free')")
        connection.execute(
            "INSERT INTO api_keys (user_id, hash, prefix, revoked_at) VALUES ('u1', %s, '', NULL),"
            " ('u2', %s, '', now())",
            (owned.hash, revoked.hash),
        )
    lease = await client.take(3_000_000)
    answers = [
        _answer(key_hash=owned.hash, ttft_s=0.25, finish_reason="stop"),
        _answer(key_hash=revoked.hash, outcome="failed", reason="fallback_failed"),
        _answer(key_hash=new_key().hash),
        _answer(user_id="named"),
    ]
    request = SettleLeaseRequest(lease_id=lease.lease_id, spent_micro_usd=5, answers=answers)
    for _ in range(2):
        assert (await client.settle(request)).spent_micro_usd == 5
    events = _events(dsn)
    assert [event["event_id"] for event in events] == [answer.event_id for answer in answers]
    assert [event["user_id"] for event in events] == ["u1", "u2", "", "named"]
    assert [event["outcome"] for event in events] == ["finished", "failed", "finished", "finished"]
    first = events[0]
    assert (first["source"], first["schema_version"], first["model"]) == ("fallback", 1, "other")
    assert (first["ttft_s"], first["duration_s"], first["completion_tokens"]) == (0.25, 0.5, 7)
    request.answers.append(_answer())
    assert (await client.settle(request)).spent_micro_usd == 5
    assert len(_events(dsn)) == 5


async def test_answers_of_a_lease_that_is_not_there_are_kept(client: _Client, dsn: str) -> None:
    """A database that was restored to before the lease still gets them."""
    request = SettleLeaseRequest(lease_id=str(uuid.uuid4()), answers=[_answer()])
    assert await _refused(client.settle(request)) is _CODE.NOT_FOUND
    assert len(_events(dsn)) == 1


async def test_an_answer_that_is_not_in_order_leaves_nothing_behind(client: _Client, dsn: str) -> None:
    """Neither the account nor the other answers, whether we or PostgreSQL refuse it; the breaker stays
    closed.
    """
    lease = await client.take(3_000_000)
    for wrong in [_answer(event_id="seven"), *[_answer(arrived_at=1e300)] * 6, _answer(duration_s=math.nan)]:
        request = SettleLeaseRequest(
            lease_id=lease.lease_id, spent_micro_usd=5, answers=[_answer(), wrong, _answer()]
        )
        assert await _refused(client.settle(request)) is _CODE.INVALID_ARGUMENT
    assert _events(dsn) == []
    settled = await client.settle(SettleLeaseRequest(lease_id=lease.lease_id, spent_micro_usd=7))
    assert settled.spent_micro_usd == 7


def _refusal(**fields: Any) -> EndedRequest:
    given: dict[str, Any] = {
        "event_id": str(uuid.uuid4()),
        "request_id": "r1",
        "outcome": "rejected",
        "reason": "invalid_json",
        "priority": "unknown",
        "arrived_at": _now().timestamp(),
        "duration_s": 0.5,
    }
    return EndedRequest(**given | fields)


async def test_refusals_of_a_front_become_events_once(client: _Client, dsn: str) -> None:
    """The user is the key's and else nobody, the model is the gateway's; sent again, nothing is added."""
    key = new_key()
    with psycopg.connect(dsn) as connection:
        connection.execute("INSERT INTO users (id, tier) VALUES ('u1', 'paid')")
        connection.execute("INSERT INTO api_keys (user_id, hash, prefix) VALUES ('u1', %s, '')", (key.hash,))
    refusals = [
        _refusal(key_hash=key.hash, count=7),
        _refusal(key_hash=new_key().hash),
        _refusal(user_id="u1"),
    ]
    for _ in range(2):
        await client.record(*refusals)
    events = _events(dsn)
    assert [event["event_id"] for event in events] == [each.event_id for each in refusals]
    assert [(event["user_id"], event["count"]) for event in events] == [("u1", 7), ("", 1), ("", 1)]
    assert {
        (event["source"], event["model"], event["workload"], event["schema_version"]) for event in events
    } == {("front", "served", "other", 1)}
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT sum(count), min(source) FROM requests").fetchone() == (9, "front")


async def test_refusals_that_are_not_in_order_leave_nothing_behind(client: _Client, dsn: str) -> None:
    """Neither the others, whether we or PostgreSQL refuse it; the breaker stays closed."""
    for wrong in [_refusal(outcome="finished"), *[_refusal(arrived_at=1e300)] * 6]:
        assert await _refused(client.record(_refusal(), wrong)) is _CODE.INVALID_ARGUMENT
    assert _events(dsn) == []
    await client.record(_refusal())
    assert len(_events(dsn)) == 1


async def test_a_schema_that_is_too_old_for_refusals_holds_up_no_questions(client: _Client, dsn: str) -> None:
    """They wait at the front until somebody runs `dreamseed db migrate`."""
    with psycopg.connect(dsn) as connection:
        connection.execute("ALTER TABLE requests DROP COLUMN count")
    for _ in range(7):
        assert await _refused(client.record(_refusal())) is _CODE.UNAVAILABLE
    assert await _refused(client.question(GetQuestionRequest(id="q"))) is _CODE.NOT_FOUND


async def test_where_no_events_are_kept_answers_are_recorded_all_the_same(dsn: str) -> None:
    """As the gateway's own requests are."""
    async with front_service(dsn, keep_events=False, now=_now) as service, _client(service) as client:
        lease = await client.take(3_000_000)
        await client.settle(SettleLeaseRequest(lease_id=lease.lease_id, answers=[_answer()]))
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT request_id FROM requests").fetchall() == [("r1",)]
        assert connection.execute("SELECT FROM outbox").fetchall() == []


async def test_only_sensible_leases_are_lent(client: _Client) -> None:
    """Wrong months, amounts and names are INVALID_ARGUMENT, and nothing is lent by them."""
    wrong: list[dict[str, Any]] = [
        {"month": "2026-10"},
        {"month": "2026-12"},
        {"month": "2026-13"},
        {"month": "November"},
        {"lease_id": "seven"},
        {"amount_micro_usd": 0},
        {"amount_micro_usd": -5},
        {"amount_micro_usd": 10**15},
        {"cap_micro_usd": -1},
        {"holder": "h" * 300},
    ]
    for fields in wrong:
        amount = fields.pop("amount_micro_usd", 1)
        assert await _refused(client.take(amount, **fields)) is _CODE.INVALID_ARGUMENT, fields
    assert (await client.take(_CAP)).granted_micro_usd == _CAP


async def test_fronts_that_ask_at_once_never_get_more_than_the_cap(client: _Client, dsn: str) -> None:
    """Sixty fronts take and settle at the same time, three times over: the table never holds more than the
    cap, though more was lent in all, since what was not spent is lent again.
    """
    chance = random.Random(7)  # noqa: S311 - spreads the cases, hides nothing

    async def front() -> None:
        lease = await client.take(chance.randrange(1, 2_000_000))
        if lease.granted_micro_usd and chance.random() < 0.7:
            spent = chance.randrange(0, lease.granted_micro_usd + 1)
            await client.settle(SettleLeaseRequest(lease_id=lease.lease_id, spent_micro_usd=spent))

    for _ in range(3):
        await asyncio.gather(*(front() for _ in range(60)))
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT sum(coalesce(spent_usd, granted_usd)), sum(granted_usd) FROM fallback_leases"
        ).fetchone()
    assert row is not None
    assert row[0] <= 10 < row[1]


async def test_callers_that_are_not_trusted_get_nothing(dsn: str) -> None:
    """PERMISSION_DENIED for every method, before anything is looked up."""
    async with front_service(dsn) as trusting:
        service = FrontService(["m"], lambda _: False, trusting._store, check_user=any_user)
        async with _client(service) as client:
            for call in (
                client.models(ListModelsRequest()),
                client.question(GetQuestionRequest(id="q")),
                client.take(5),
                client.settle(SettleLeaseRequest(lease_id=str(uuid.uuid4()))),
                client.record(_refusal()),
            ):
                assert await _refused(call) is _CODE.PERMISSION_DENIED


async def test_without_postgres_models_are_still_told() -> None:
    """A stack without a database says that it has none; the models' names need none. As of all requests,
    nothing is kept of those that a front refused, which is no reason for it to come with them again.
    """
    async with _client(FrontService(["a", "b"], lambda _: True, None, check_user=any_user)) as client:
        assert list((await client.models(ListModelsRequest())).names) == ["a", "b"]
        call = client.question(GetQuestionRequest(id="q"))
        assert await _refused(call) is _CODE.FAILED_PRECONDITION
        await client.record(_refusal())


async def test_a_postgres_that_hangs_is_unavailable_in_bounded_time() -> None:
    """A stopped server answers nobody: the call ends all the same, and works again afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="ds-pf-") as folder,
        real_services.postgres(Path(folder)) as server,
    ):
        dsn = server.new_database()
        migrate(dsn)
        async with front_service(dsn) as service, _client(service) as client:
            request = GetQuestionRequest(id="q")
            assert await _refused(client.question(request)) is _CODE.NOT_FOUND
            server.pause()
            try:
                assert await _refused(client.question(request, timeout=20)) is _CODE.UNAVAILABLE
            finally:
                server.resume()
            assert await _refused(client.question(request)) is _CODE.NOT_FOUND
