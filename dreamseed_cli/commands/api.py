"""`dreamseed api`: the HTTP front before the gateway."""

from __future__ import annotations

from typing import Annotated

import typer

from dreamseed_cli.commands.options import JsonFlag
from dreamseed_cli.core.result import Result


def api(
    host: Annotated[
        str | None,
        typer.Option(
            help="Where to listen. Default: loopback, and 0.0.0.0 on Cloud Run.", show_default=False
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Default: $PORT, else 8080. 0 takes a free one.", show_default=False
        ),
    ] = None,
    allow_anonymous: Annotated[
        bool, typer.Option("--allow-anonymous", help="Pass requests without a key on; on loopback only.")
    ] = False,
    as_json: JsonFlag = False,
) -> Result:
    """Serve the OpenAI-compatible HTTP interface before the gateway at $GPU_ENDPOINT, until SIGTERM.

    Everything else is set by environment variables, as Cloud Run gives them: docs/runbooks/api.md lists them.
    """
    import os

    from dreamseed_cli.api.server import run
    from dreamseed_cli.api.settings import read_settings
    from dreamseed_cli.core.log import configure_logging

    settings = read_settings(os.environ, host=host, port=port, allow_anonymous=allow_anonymous)
    configure_logging()
    run(settings)
    return Result({"stopped_by": "SIGTERM"})
