"""`dreamseed ask`: one question through the whole path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dreamseed_cli.commands.options import JsonFlag, StateDirOption
from dreamseed_cli.core.counting import counted
from dreamseed_cli.core.result import Figure, Provenance, Result

if TYPE_CHECKING:
    from dreamseed_cli.gateway.client import Answer, GatewayClient


def ask(
    question: Annotated[str, typer.Argument(help="What to ask. '-' reads it from standard input.")],
    stream: Annotated[bool, typer.Option(help="Print the answer as it is generated.")] = True,
    max_tokens: Annotated[int, typer.Option(help="The longest answer, in tokens.")] = 200,
    temperature: Annotated[float, typer.Option(help="0 is greedy: always the same answer.")] = 0.7,
    system: Annotated[str | None, typer.Option(help="The system prompt.", show_default=False)] = None,
    timeout: Annotated[float, typer.Option(min=0.001, help="The deadline, in seconds.")] = 30.0,
    address: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of a gateway. Default: the running stack's.", show_default=False),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            "--ca",
            help="The authority of the gateway's certificate (PEM): speak TLS. Beyond loopback TLS is always "
            "spoken; default there: the public authorities.",
            show_default=False,
        ),
    ] = None,
    cert: Annotated[
        Path | None,
        typer.Option("--cert", help="A client certificate (PEM), with --key.", show_default=False),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="The client certificate's key (PEM).", show_default=False)
    ] = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Ask the running model a question and print its answer.

    A service token or an API key is taken from the environment variable DREAMSEED_TOKEN.
    """
    import asyncio
    import os
    import sys

    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.gateway.client import GatewayClient
    from dreamseed_cli.gateway.security.channel import ClientSecurity
    from dreamseed_cli.supervisor.running import gateway_address

    security = ClientSecurity(ca, cert, key, token=os.environ.get("DREAMSEED_TOKEN") or None)
    target = address or gateway_address(StateDir.locate(state_dir))
    prompt = sys.stdin.read() if question == "-" else question
    fields: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "timeout_s": timeout}
    if system is not None:
        fields["system_prompt"] = system

    async def once() -> Answer:
        async with GatewayClient(target, security) as client:
            if stream:
                return await _streamed(client, prompt, fields, silent=as_json)
            return await client.generate(prompt, **fields)

    answer = asyncio.run(once())
    if as_json:
        return Result(_data(answer))
    if not stream:
        typer.echo(answer.text)
    _print_footer(answer)
    return Result(_data(answer))


async def _streamed(client: GatewayClient, prompt: str, fields: dict[str, Any], *, silent: bool) -> Answer:
    call = client.ask(prompt, **fields)
    begun = False
    try:
        async for text in call:
            begun = begun or bool(text)
            if not silent:
                typer.echo(text, nl=False)
    finally:
        if begun and not silent:
            typer.echo()  # also after a failure midway: its message starts on a line of its own
    return call.answer


def _figures(answer: Answer) -> dict[str, Figure]:
    provenance = Provenance.SIMULATED if answer.simulated else Provenance.MEASURED
    figures = {"latency": Figure(answer.latency_s, "s", provenance)}
    if answer.ttft_s is not None:
        figures["ttft"] = Figure(answer.ttft_s * 1000, "ms", provenance)
    if answer.latency_s > 0:
        figures["rate"] = Figure(answer.tokens / answer.latency_s, "tok/s", provenance)
    return figures


def _print_footer(answer: Answer) -> None:
    """On stderr, so that the answer alone can be piped on."""
    told = ", ".join(f"{name} {figure}" for name, figure in _figures(answer).items())
    tokens = counted(answer.tokens, "token")
    typer.secho(f"{tokens} from {answer.replica} ({answer.finish_reason}); {told}", err=True, dim=True)


def _data(answer: Answer) -> dict[str, Any]:
    return {
        "text": answer.text,
        "tokens": answer.tokens,
        "prompt_tokens": answer.prompt_tokens,
        "finish_reason": answer.finish_reason,
        "replica": answer.replica,
        **_figures(answer),
    }
