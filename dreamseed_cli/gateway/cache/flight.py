"""One generation for all who ask the same at the same time (single flight), each at its own pace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from dreamseed_cli.engine.types import EngineTimeout, EngineUnavailable
from dreamseed_cli.gateway.call import Call, Delta


class Flight:
    """A generation under way, in a task of its own, and its passengers.

    It goes on while anybody is aboard. While it has given nothing yet, a passenger of a higher class takes it
    over: its call is generated instead, so nobody waits behind a lower class. One that can wait for longer
    extends the generation's time (`extend`: the call, its new deadline). `on_end` is called once, when the
    flight has landed or the last passenger has left it; nobody may board after a failure.
    """

    def __init__(
        self,
        generate: Callable[[Call], AsyncGenerator[Delta, None]],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        on_end: Callable[[Flight], None],
        extend: Callable[[Call, float], None],
    ) -> None:
        self.deltas: list[Delta] = []
        self.complete = False
        self.failure: Exception | None = None
        self.call: Call | None = None
        """The call that is generated: of the highest class that boarded in time."""
        self.deadline = 0.0
        """The latest of all who boarded, in time.monotonic() seconds."""
        self._passengers: set[Passenger] = set()
        self._ended = False
        self._task: asyncio.Task[None] | None = None
        self._generate = generate
        self._spawn = spawn
        self._on_end = on_end
        self._extend = extend

    def board(self, call: Call) -> Passenger:
        """Come along, from the answer's beginning."""
        passenger = Passenger(self, call)
        self._passengers.add(passenger)
        if self.call is None or (self._waits and call.priority > self.call.priority):
            self._take_off(passenger)
        elif call.deadline > self.deadline and not self._ended:
            self.deadline = call.deadline
            self._extend(self.call, call.deadline)
        return passenger

    def leave(self, passenger: Passenger) -> None:
        """The last one out ends the generation: its engine slot or queue place is free at once."""
        self._passengers.discard(passenger)
        if self._passengers:
            self._inherit(passenger)
            return
        self.abort(None)
        # An error holds the frames it came through, and they hold this flight.
        self.failure = None

    def abort(self, failure: Exception | None) -> None:
        """End it now, with `failure` for whoever is aboard; nothing if it has ended."""
        if not self._ended:
            if self._task is not None:
                self._task.cancel()
                # A cancelled task holds the error it ended with, and so this flight.
                self._task = None
            self._end(failure)

    def _inherit(self, passenger: Passenger) -> None:
        """What is still generated is now another's own. Whoever asks twice and leaves once would otherwise
        get a whole answer that no user's tokens are taken for.
        """
        if passenger.owns and not self._ended:
            passenger.owns = False
            next(iter(self._passengers)).owns = True

    @property
    def _waits(self) -> bool:
        return not self.deltas and not self._ended

    def _take_off(self, pilot: Passenger) -> None:
        if self._task is not None:
            self._task.cancel()
        self.deadline = max(passenger.call.deadline for passenger in self._passengers)
        for passenger in self._passengers:
            passenger.leads = passenger.owns = passenger is pilot
        self.call = msgspec.structs.replace(pilot.call, deadline=self.deadline)
        self._task = self._spawn(self._fly(self.call))

    async def _fly(self, call: Call) -> None:
        try:
            async with aclosing(self._generate(call)) as deltas:
                async for delta in deltas:
                    if not self._flies(call):
                        return
                    self.deltas.append(delta)
                    self._wake()
        except asyncio.CancelledError:
            if self._flies(call):
                self._end(EngineUnavailable("the generation was cancelled", place="gateway"))
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, every passenger raises it
            if self._flies(call):
                self._end(error)
        else:
            if self._flies(call):
                self.complete = True
                self._end(None)

    def _flies(self, call: Call) -> bool:
        """Whether it is still this call that is generated."""
        return call is self.call and not self._ended

    def _end(self, failure: Exception | None) -> None:
        self._ended = True
        self.failure = failure
        self._on_end(self)
        self._wake()

    def _wake(self) -> None:
        for passenger in self._passengers:
            passenger.wake()


class Passenger:
    """One call's place in a flight. leave() it in the end; at its deadline it leaves by itself."""

    def __init__(self, flight: Flight, call: Call) -> None:
        self.flight = flight
        self.call = call
        self.leads = False
        """Whether the flight's generation is this call's own. The flight keeps no word of it: it would hold
        the passenger, who holds the flight, and both would wait for the garbage collector.
        """
        self.owns = False
        """Whether the answer counts as generated for it: it leads, or whoever led has left."""
        self.got_text = False
        self._next = 0
        self.late = False
        self._waiter: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(max(0.0, call.deadline - time.monotonic()), self._expire)

    async def next(self) -> Delta | None:
        """What has come since, as one delta; None at the answer's end.

        Raises EngineTimeout, or the flight's failure: after what came before it, unless nothing of that was
        told yet to a passenger that may ask again.
        """
        flight = self.flight
        while True:
            if self.late:
                raise EngineTimeout("the answer was not complete in time", place="gateway")
            if flight.failure is not None and not (self.leads or self.got_text):
                raise flight.failure
            if self._next < len(flight.deltas):
                return self._take(flight.deltas[self._next :])
            if flight.failure is not None:
                raise flight.failure
            if flight.complete:
                return None
            self._waiter = self._loop.create_future()
            await self._waiter

    def leave(self) -> None:
        """Want no more."""
        self._timer.cancel()
        self.flight.leave(self)

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _take(self, deltas: Sequence[Delta]) -> Delta:
        self._next += len(deltas)
        delta = deltas[0] if len(deltas) == 1 else merged(deltas)
        self.got_text = self.got_text or bool(delta.text)
        return delta if self.owns else msgspec.structs.replace(delta, cache_hit=True)

    def _expire(self) -> None:
        self.late = True
        self.flight.leave(self)
        self.wake()


def merged(deltas: Sequence[Delta]) -> Delta:
    """Several pieces as one: their texts in a row, of everything else the last that is known."""
    last = {name: _last_known(deltas, name) for name in Delta.__struct_fields__}
    last["text"] = "".join([delta.text for delta in deltas])
    return Delta(**last)


def _last_known(deltas: Sequence[Delta], name: str) -> Any:
    for delta in reversed(deltas):
        value = getattr(delta, name)
        if value is not None:
            return value
    return None
