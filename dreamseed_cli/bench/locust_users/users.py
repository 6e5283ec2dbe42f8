"""The user: asks, reads, pauses, asks again. Runs in Locust's workers only."""

from __future__ import annotations

import random
import time
from typing import Any, ClassVar

import msgspec
from locust import FastHttpUser, task
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS, ResponseContextManager

from dreamseed_cli.bench.locust_users.desk import Desk
from dreamseed_cli.bench.locust_users.endings import cause_of, of_answer, of_failure
from dreamseed_cli.bench.locust_users.events import Answer, completion_tokens, has_text
from dreamseed_cli.bench.locust_users.plan import Kind, first_pause, next_pause
from dreamseed_cli.bench.locust_users.samples import HELD, REVALIDATED, SIMULATED, Sample
from dreamseed_cli.bench.records import Ending
from dreamseed_cli.bench.target.judge import of_status

_CHAT = "/v1/chat/completions"


class Learner(FastHttpUser):
    """One user of the service, with a connection and a memory of seen questions of its own."""

    desk: ClassVar[Desk]
    insecure = False

    def __init__(self, environment: Any) -> None:
        self._number = self.desk.enter()
        self._luck: random.Random = self.desk.luck(self._number)
        self._etags: dict[str, str] = {}
        self._flags = 0
        self.host = self.desk.front(self._number)
        super().__init__(environment)
        self._due_s = time.monotonic() + self.desk.pause_s * first_pause(self._luck)

    def wait_time(self) -> float:
        """Seconds until the next request is due."""
        return max(0.0, self._due_s - time.monotonic())

    @task
    def ask(self) -> None:
        """One request, if one is due (the first time none is)."""
        begun = time.monotonic()
        if begun < self._due_s:
            return
        kind = self.desk.choose(self._luck)
        sample = Sample(kind, self._number, self._due_s, begun, flags=self._flags)
        try:
            self._run(sample)
            sample.end_s = time.monotonic()
        finally:
            self.desk.recorder.add(sample)
        self._due_s += self.desk.pause_s * next_pause(self._luck)
        self._flags = HELD if self._due_s < sample.end_s else 0
        self._due_s = max(self._due_s, sample.end_s)

    def _run(self, sample: Sample) -> None:
        try:
            if sample.kind is Kind.STATIC:
                self._get("/healthz", sample)
            elif sample.kind is Kind.QUESTION:
                self._question(sample)
            elif sample.kind is Kind.GRPC_STREAM:
                self._generate(sample)
            else:
                self._chat(sample, stream=sample.kind is Kind.CHAT_STREAM)
        except FAILURE_EXCEPTIONS as error:
            _note_failure(error, sample)

    def _question(self, sample: Sample) -> None:
        question = self._luck.choice(self.desk.errand.questions)
        known = self._etags.get(question)
        headers = {"if-none-match": known} if known else {}
        etag = self._get(f"/v1/questions/{question}", sample, headers)
        if etag:
            self._etags[question] = etag

    def _get(self, path: str, sample: Sample, headers: dict[str, str] | None = None) -> str | None:
        """The reply's ETag."""
        with self.client.get(path, name=sample.kind.value, headers=headers, catch_response=True) as reply:
            if not _accepted(reply, sample):
                return None
            sample.ending = Ending.COMPLETE
            sample.flags |= REVALIDATED if reply.status_code == 304 else 0
            etag: str | None = reply.headers.get("etag") if reply.headers else None
        return etag

    def _chat(self, sample: Sample, *, stream: bool) -> None:
        body = self.desk.chat_body(self.desk.prompt(self._luck), stream=stream)
        with self.client.post(
            _CHAT,
            json=body,
            headers=self.desk.ai_headers,
            stream=stream,
            name=sample.kind.value,
            catch_response=True,
        ) as reply:
            if _accepted(reply, sample):
                answer = self._read_stream(reply, sample) if stream else _read_whole(reply)
                sample.flags |= SIMULATED if answer.simulated else 0
                sample.tokens = answer.tokens
                sample.ending, sample.detail = answer.ending(), answer.detail
                if sample.ending is Ending.COMPLETE:
                    sample.ending = of_answer(answer.tokens, self.desk.wanted_tokens, text=answer.text_begun)
            if stream:  # Locust's own figure ends with the headers.
                reply.request_meta["response_time"] = (time.monotonic() - sample.begun_s) * 1000
            if sample.ending is not Ending.COMPLETE:
                reply.failure(sample.ending.value)

    def _read_stream(self, reply: ResponseContextManager, sample: Sample) -> Answer:
        answer = Answer()
        try:
            while line := reply.stream.readline(b"\n"):
                before = answer.text_begun
                answer.feed(bytes(line))
                if answer.text_begun and not before:
                    sample.first_s = time.monotonic()
        except FAILURE_EXCEPTIONS as error:
            answer.failure, answer.detail = of_failure(error), _words(error)
        return answer

    def _generate(self, sample: Sample) -> None:
        line, errand = self.desk.line, self.desk.errand
        if line is None:
            return
        line.ask(self.desk.prompt(self._luck), errand.plan.answer_tokens, sample)
        self.environment.events.request.fire(
            request_type="gRPC",
            name=sample.kind.value,
            response_time=(time.monotonic() - sample.begun_s) * 1000,
            response_length=0,
            exception=None if sample.ending is Ending.COMPLETE else RuntimeError(sample.ending.value),
            context={},
        )


def _accepted(reply: ResponseContextManager, sample: Sample) -> bool:
    """Whether an answer is no failure so far (a stream has only begun); else `sample` says how it ended."""
    error = reply.request_meta["exception"]
    if reply.status_code == 0 or (error is not None and reply.status_code < 400):
        _note_failure(error, sample)
        return False
    ending = of_status(reply.status_code)
    if ending is not Ending.COMPLETE:
        sample.ending = ending
        sample.detail = f"HTTP {reply.status_code}: {bytes(reply.content or b'')[:100]!r}"
    return ending is Ending.COMPLETE


def _read_whole(reply: ResponseContextManager) -> Answer:
    answer = Answer(done=True)
    try:
        document = msgspec.json.decode(reply.content or b"")
        answer.tokens, answer.text_begun = completion_tokens(document), has_text(document, "message")
    except msgspec.DecodeError:
        answer.failure, answer.detail = Ending.BROKEN, "the answer is no JSON"
    if reply.headers is not None:
        answer.simulated = reply.headers.get("x-dreamseed-provenance") == "simulated"
    return answer


def _note_failure(error: BaseException, sample: Sample) -> None:
    sample.ending, sample.detail = of_failure(error), _words(error)


def _words(error: BaseException) -> str:
    cause = cause_of(error)
    return f"{type(cause).__name__}: {str(cause)[:100]}"
