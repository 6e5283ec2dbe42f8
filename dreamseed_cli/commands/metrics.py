"""`dreamseed metrics`: what this box tells Prometheus."""

from __future__ import annotations

from typing import Annotated

import typer

from dreamseed_cli.commands.options import JsonFlag, StateDirOption
from dreamseed_cli.core.result import Result


def metrics(
    listen: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Offer them at http://127.0.0.1:PORT/metrics until it is ended. Default: print them once.",
            show_default=False,
        ),
    ] = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Tell all that Prometheus is to know: gateway, engines, cards, disk, certificates, backups.

    `dreamseed_collector_up` says which of them could be asked; the stack need not run.
    """
    import asyncio
    import signal

    from rich.text import Text

    from dreamseed_cli.core.log import configure_logging
    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.gateway.security.folder import CertificateFolder
    from dreamseed_cli.monitoring.collect import Exposition
    from dreamseed_cli.monitoring.serve import collectors, serve

    configure_logging()
    parts = collectors(StateDir.locate(state_dir), CertificateFolder.locate(None))
    if listen is not None:
        signum = asyncio.run(serve(parts, listen))
        if signum is signal.SIGINT:
            raise KeyboardInterrupt
        return Result({"stopped_by": signum.name})
    text = asyncio.run(Exposition(parts).text()).decode()
    return Result({"metrics": text}, view=[Text(text.rstrip())])
