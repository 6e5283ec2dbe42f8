"""`dreamseed serve`: bring up the gateway, the engines and the services of a profile, in the foreground."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dreamseed_cli.commands.options import GpusOption, JsonFlag, ProfileOption, StateDirOption
from dreamseed_cli.core.result import Result

if TYPE_CHECKING:
    from dreamseed_cli.core.paths import StateDir


def serve(
    profile: ProfileOption = None,
    gpus: GpusOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Serve a profile's model over gRPC until Ctrl-C or `dreamseed stop`.

    Runs in the foreground: a live view on a terminal, JSON lines on stderr otherwise. Stopping drains:
    running calls finish within the profile's bounds, then every process is ended.
    """
    import signal
    import sys

    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.profile.select import choose_profile
    from dreamseed_cli.supervisor.live import log_summaries, log_to, show_live
    from dreamseed_cli.supervisor.session import Session

    choice = choose_profile(profile, gpus)
    state = StateDir.locate(state_dir)
    state.create()
    _no_shutdown_under_way(state)
    on_terminal = sys.stdout.isatty() and not as_json
    session = Session(choice, state)
    last = session.run(
        show_live if on_terminal else log_summaries,
        start_log=lambda: log_to(state.log("supervisor"), *(() if on_terminal else (sys.stderr,))),
    )
    if session.signum is signal.SIGINT:
        raise KeyboardInterrupt
    return Result(
        data={
            "profile": last.profile,
            "why": last.why,
            "provenance": last.provenance.value,
            "uptime_s": round(last.uptime_s, 3),
            "stopped_by": session.signum.name if session.signum else None,
            "finished": sum(replica.finished for replica in last.replicas),
            "failed": sum(replica.failed for replica in last.replicas),
        }
    )


def _no_shutdown_under_way(state: StateDir) -> None:
    """UsageError while `ups watch` ends this box: systemd would begin anew what it has just stopped."""
    from dreamseed_cli.core.errors import UsageError
    from dreamseed_cli.ups.journal import UpsFolder

    folder = UpsFolder.of(state)
    shutdown = folder.under_way()
    if shutdown is not None:
        raise UsageError(
            f"a shutdown of this box is past its point of no return ({shutdown.reason})",
            place=str(folder.current),
            remedy="`dreamseed ups watch` finishes it. If the box is to stay up all the same: end the "
            "watcher, and remove this file.",
        )
