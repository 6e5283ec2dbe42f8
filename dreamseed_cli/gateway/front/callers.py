"""Who asks FrontService, and for whom: the front shows its own evidence and passes on its user's API key."""

from __future__ import annotations

from typing import Any

import grpc

from dreamseed_cli.gateway.accounts.gate import Gate
from dreamseed_cli.gateway.refusals import Unauthenticated
from dreamseed_cli.gateway.security.caller import CallerCheck
from dreamseed_cli.gateway.security.channel import USER_KEY_KEY

Context = grpc.aio.ServicerContext[bytes, Any]


class FrontCallers:
    """The same rules as for requests: a key that may not ask for an answer may not ask here either."""

    def __init__(self, callers: CallerCheck, gate: Gate) -> None:
        self._callers = callers
        self._gate = gate

    def trusted(self, context: Context) -> bool:
        """Whether the caller itself may speak for users, whatever key it passes on."""
        own = [pair for pair in context.invocation_metadata() or () if pair[0] != USER_KEY_KEY]
        try:
            return self._callers.credentials(context, own).trusted
        except Unauthenticated:
            return False

    async def check_user(self, context: Context) -> None:
        """Look at the user's key, if one is passed on. Raises Unauthenticated, NotPermitted, CannotVerify."""
        shown = self._callers.credentials(context, context.invocation_metadata())
        if shown.api_key is not None:
            await self._gate.bearer(shown.api_key)
