"""GET /v1/models asks the gateway whose key it is, as a request for an answer does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from api_harness import KEY, MODEL, front_here, scripted_gateway
from gateway_harness import gateway_here, settings

from dreamseed_cli.gateway.accounts.keys import new_key
from dreamseed_cli.gateway.front.service import Context, FrontService
from dreamseed_cli.gateway.refusals import CannotVerify, NotPermitted, Unauthenticated
from dreamseed_cli.profile.schema import Security

_REFUSALS = {
    "ds_wrong": Unauthenticated("the API key is not valid"),
    "ds_disabled": NotPermitted("the user is disabled"),
    "ds_unknown": CannotVerify("the key cannot be looked up at the moment"),
}


async def _check_user(context: Context) -> None:
    shown = dict(context.invocation_metadata() or ())["x-user-key"]
    if isinstance(shown, str) and shown in _REFUSALS:
        raise _REFUSALS[shown]


async def _models(url: str, key: str) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(url, headers=headers) as http, http.get("/v1/models") as reply:
        return reply.status, await reply.json()


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        ("ds_wrong", 401, "invalid_api_key"),
        ("ds_disabled", 403, "not_permitted"),
        ("ds_unknown", 503, "unavailable"),
    ],
)
async def test_a_key_that_gets_no_answer_gets_no_models(key: str, status: int, code: str) -> None:
    """In the gateway's words, even after another key was shown them; and a right key is not harmed."""
    service = FrontService([MODEL], lambda _: True, None, check_user=_check_user)
    async with (
        scripted_gateway(front=service) as gateway,
        front_here(gateway.port, gateway_retries="0") as front,
    ):
        assert (await _models(front.url, KEY))[0] == 200
        got, body = await _models(front.url, key)
        assert (got, body["error"]["code"]) == (status, code)
        for name in (MODEL, "other"):
            headers = {"authorization": f"Bearer {key}"}
            async with (
                aiohttp.ClientSession(front.url, headers=headers) as http,
                http.get(f"/v1/models/{name}") as reply,
            ):
                assert reply.status == status
        assert (await _models(front.url, KEY))[1]["data"][0]["id"] == MODEL


async def test_while_the_gateway_is_away_the_last_models_are_for_keys_that_it_took() -> None:
    """Nobody can check the others."""
    service = FrontService([MODEL], lambda _: True, None, check_user=_check_user)
    async with (
        scripted_gateway(front=service) as gateway,
        front_here(gateway.port, gateway_timeout_s="1.0") as front,
    ):
        assert (await _models(front.url, KEY))[0] == 200
        await gateway.stop()
        assert (await _models(front.url, KEY))[0] == 200
        assert (await _models(front.url, "ds_other"))[0] == 503


async def test_the_real_gateway_judges_the_key_that_the_front_passes_on(tmp_path: Path) -> None:
    """One of ours that nobody has, and one that cannot be ours: both are the client's mistake, not the
    front's, whose own token is right.
    """
    tokens = tmp_path / "tokens"
    tokens.write_text("a-service-token-of-32-characters-\n")
    tokens.chmod(0o600)
    security = Security(service_tokens_file=str(tokens), require_authentication=True)
    async with (
        gateway_here(settings(tmp_path, security=security)) as gateway,
        front_here(gateway.port, gateway_token="a-service-token-of-32-characters-") as front,
    ):
        for key in (new_key().text, "sk-other", "ds_short"):
            status, body = await _models(front.url, key)
            assert (status, body["error"]["code"]) == (401, "invalid_api_key"), key
