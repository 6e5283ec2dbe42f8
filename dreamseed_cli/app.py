"""Mounts the verbs, and is the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from dreamseed_cli import __version__
from dreamseed_cli.commands.api import api
from dreamseed_cli.commands.ask import ask
from dreamseed_cli.commands.backup import backup_app
from dreamseed_cli.commands.bench import bench_app
from dreamseed_cli.commands.certs import certs_app
from dreamseed_cli.commands.chaos import chaos
from dreamseed_cli.commands.cost_sim import cost_sim
from dreamseed_cli.commands.db import db_app
from dreamseed_cli.commands.demo import demo
from dreamseed_cli.commands.deploy import deploy_app
from dreamseed_cli.commands.doctor import doctor
from dreamseed_cli.commands.drill import drill_app
from dreamseed_cli.commands.estimates import estimates
from dreamseed_cli.commands.events import events_app
from dreamseed_cli.commands.examples import add_examples
from dreamseed_cli.commands.incidents import incidents
from dreamseed_cli.commands.logs import logs
from dreamseed_cli.commands.metrics import metrics
from dreamseed_cli.commands.paragraphs import let_paragraphs_flow
from dreamseed_cli.commands.plan import plan
from dreamseed_cli.commands.profile import profile_app
from dreamseed_cli.commands.reload import reload
from dreamseed_cli.commands.restart import restart
from dreamseed_cli.commands.restore import restore
from dreamseed_cli.commands.schedule import schedule_app
from dreamseed_cli.commands.serve import serve
from dreamseed_cli.commands.status import status
from dreamseed_cli.commands.stop import stop
from dreamseed_cli.commands.top import top
from dreamseed_cli.commands.ups import ups_app
from dreamseed_cli.commands.user import user_app
from dreamseed_cli.commands.wal import wal_app
from dreamseed_cli.core.errors import DreamseedError, FailedError, InterruptedByUser, UsageError
from dreamseed_cli.core.result import Result

app = typer.Typer(
    name="dreamseed",
    help="Run an AI service for a million learners from the GPUs in your own office.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
_VERBS: tuple[Callable[..., Result], ...] = (
    serve,
    status,
    reload,
    restart,
    stop,
    logs,
    incidents,
    doctor,
    top,
    metrics,
    chaos,
    plan,
    cost_sim,
    ask,
    api,
    demo,
    estimates,
    restore,
)
_GROUPS = {
    "bench": bench_app,
    "backup": backup_app,
    "wal": wal_app,
    "schedule": schedule_app,
    "drill": drill_app,
    "profile": profile_app,
    "user": user_app,
    "db": db_app,
    "events": events_app,
    "certs": certs_app,
    "deploy": deploy_app,
    "ups": ups_app,
}
for _verb in _VERBS:
    app.command(_verb.__name__.replace("_", "-"))(_verb)
for _name, _group in _GROUPS.items():
    app.add_typer(_group, name=_name)
let_paragraphs_flow(app)
add_examples(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dreamseed {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False,
) -> None:
    """Options of the program itself; `main` reads --debug from the arguments."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code (the README lists them)."""
    _prepare_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json, debug = "--json" in own, "--debug" in own
    sys.exit(_run(arguments, command=_command_name(own), as_json=as_json, debug=debug))


def _run(arguments: list[str], *, command: str, as_json: bool, debug: bool) -> int:
    from dreamseed_cli.core.render import render_error, render_result

    # Of a result that is known: a reader that goes while it is shown (`| head`) changes nothing of it.
    code = 0
    try:
        outcome = app(args=arguments, standalone_mode=False)
        if isinstance(outcome, Result):
            code = outcome.exit_code
            render_result(command, outcome, as_json=as_json)
            return code
        # Typer turns Ctrl-C into its exit code.
        interrupted = outcome == InterruptedByUser.exit_code
        return _interrupted(command, as_json=as_json) if interrupted else int(outcome or 0)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(command, as_json=as_json)
    except BrokenPipeError:
        # The reader (`head`, a pager) has gone: not an error, and nothing more can be said to it.
        _give_up_stdout()
        return code
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):
            return code  # Rich makes an exit with 1 of it, which would say that a target was missed
        raise
    except Exception as error:
        if debug:
            raise
        explained = _explain(error)
        try:
            render_error(command, explained, as_json=as_json)
        except OSError:  # stdout itself is what failed, such as a file on a full disk
            _give_up_stdout()
            with suppress(OSError):
                render_error(command, explained, as_json=False)
        return explained.exit_code


def _prepare_streams() -> None:
    """Something to write to where the caller closed it; `?` for what its encoding (EUC-KR, ...) has not."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - until the end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _give_up_stdout() -> None:
    """Or Python would try again at its end to write what is left, and exit with 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupted(command: str, *, as_json: bool) -> int:
    from dreamseed_cli.core.render import render_error

    if as_json:
        render_error(command, InterruptedByUser("interrupted"), as_json=True)
    return InterruptedByUser.exit_code


def _explain(error: Exception) -> DreamseedError:
    """Any failure as an error with place, cause and remedy."""
    if isinstance(error, DreamseedError):
        return error
    if isinstance(error, typer.TyperException):
        # Without a command Typer shows the help and raises an error without a message.
        # Where a choice is missing it lists them on lines of their own.
        cause = " ".join(error.format_message().split()).removesuffix(".").replace("Value error, ", "")
        return UsageError(cause or "no command was given", remedy="See --help for what the command takes.")
    if isinstance(error, OSError):
        return _explain_system(error)
    return FailedError(
        f"unexpected {type(error).__name__}: {error}",
        remedy="Run it again with --debug for the traceback, and report it: it is a bug.",
    )


def _explain_system(error: OSError) -> DreamseedError:
    """What the system refused, by the file and the reason it gave."""
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return FailedError(
        error.strerror or str(error) or type(error).__name__,
        place=str(error.filename or ""),
        remedy="Free some space, then run it again: what was there is intact."
        if full
        else "Mend that and run it again; --debug shows where it happened.",
    )


def _command_name(arguments: Sequence[str]) -> str:
    """The verb with its sub-verbs, as the JSON envelope names it: `profile show`, `user key create`."""
    words = [word for word in arguments if not word.startswith("-")]
    if not words:
        return "dreamseed"
    if words[0] not in _GROUPS or _is_an_options_value(words):
        return words[0]
    return " ".join(words[: 3 if words[:2] == ["user", "key"] else 2])


def _is_an_options_value(words: Sequence[str]) -> bool:
    """Whether the second word is no sub-verb: `bench` and `backup` do something without one."""
    group = _GROUPS[words[0]]
    names = {command.name for command in group.registered_commands}
    names |= {command.callback.__name__ for command in group.registered_commands if command.callback}
    return words[0] in {"bench", "backup"} and not set(words[1:2]) <= names
