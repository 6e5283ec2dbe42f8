"""`dreamseed certs create|show|token`: a private authority, what it signed, and service tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dreamseed_cli.commands.options import JsonFlag
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.result import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from dreamseed_cli.gateway.security.expiry import Entry
    from dreamseed_cli.gateway.security.folder import CertificateFolder

_NAMES_WIDTH = 16

certs_app = typer.Typer(
    help="Make and show the certificates and service tokens that let callers in from elsewhere.",
    no_args_is_help=True,
)

DirOption = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        help="Where they are kept. Default: $DREAMSEED_CERTS_DIR, else the user's configuration folder.",
        show_default=False,
    ),
]


@certs_app.command("create")
def create(
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            help="A host name or IP address that clients connect to; give it several times.",
            show_default=False,
        ),
    ] = None,
    clients: Annotated[
        list[str] | None,
        typer.Option("--client", help="Make a certificate for this caller.", show_default=False),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3649, help="How long they are good for.")] = 397,
    renew: Annotated[
        bool,
        typer.Option("--renew", help="Replace what exists; without --name the server keeps its names."),
    ] = False,
    directory: DirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Make a server certificate (and callers') signed by a private authority, which is made once and kept."""
    from datetime import UTC, datetime

    from dreamseed_cli.gateway.security.folder import CertificateFolder

    if not names and not clients and not renew:
        raise UsageError(
            "nothing was named",
            place="--name",
            remedy="Give the name that clients connect to: --name gpu.dreamseed.ai.",
        )
    folder, now = CertificateFolder.locate(directory), datetime.now(UTC)
    made = folder.create(names or [], clients or [], now, days, renew=renew)
    entries = _entries(folder)
    lines = _profile_lines(folder)
    data = {
        "directory": str(folder.root),
        "made": [str(file) for file in made],
        "certificates": [entry.to_data() for entry in entries],
        "profile": lines,
    }
    return Result(data, view=[_table(entries, folder), *_advice(folder, lines)])


@certs_app.command("show")
def show(directory: DirOption = None, as_json: JsonFlag = False) -> Result:
    """Show each certificate, its names and the days it has left. Exit code 1 if one needs renewal."""
    from dreamseed_cli.core.errors import MissingError
    from dreamseed_cli.gateway.security.folder import CertificateFolder

    folder = CertificateFolder.locate(directory)
    entries = _entries(folder)
    if not entries:
        raise MissingError(
            "no certificates are here",
            place=str(folder.root),
            remedy="Make some: dreamseed certs create --name gpu.dreamseed.ai.",
        )
    data = {"directory": str(folder.root), "certificates": [entry.to_data() for entry in entries]}
    good = not any(entry.condition.alarming for entry in entries)
    return Result(data, view=[_table(entries, folder)], target_met=good)


@certs_app.command("token")
def token(
    label: Annotated[str, typer.Option(help="Whose it is; a comment in the file.")] = "api front",
    directory: DirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Add a service token to the tokens' file. It is not printed: read it there."""
    from datetime import UTC, datetime

    from rich.text import Text

    from dreamseed_cli.gateway.security.folder import CertificateFolder

    if not label.isprintable() or not label.isascii():
        raise UsageError("the label must be one line of ASCII", place="--label", remedy="Shorten it.")
    file = CertificateFolder.locate(directory).add_token(label, datetime.now(UTC))
    advice = (
        f"Added a token: the last line of {file}\n"
        f'Name the file in the profile: [gateway.security] service_tokens_file = "{file}"\n'
        f"Give it to the caller as a secret: DREAMSEED_TOKEN=$(tail -n 1 {file})"
    )
    return Result({"file": str(file), "label": label}, view=[Text(advice)])


def _entries(folder: CertificateFolder) -> list[Entry]:
    from datetime import UTC, datetime

    from dreamseed_cli.gateway.security.expiry import survey

    return survey(folder, datetime.now(UTC))


def _table(entries: Sequence[Entry], folder: CertificateFolder) -> Table:
    from rich.table import Table

    table = Table(
        caption=str(folder.root), caption_justify="left", box=None, pad_edge=False, header_style="dim"
    )
    # What belongs together stands in one column, so that the names have room in 80 of a screen's.
    whole = {"file\nis", "expires\ndays left"}
    for heading in ("file\nis", "names", "issuer", "expires\ndays left", "state"):
        table.add_column(
            heading,
            overflow="fold",
            no_wrap=heading in whole,
            min_width=_NAMES_WIDTH if heading == "names" else None,
        )
    for entry in entries:
        colour = "red" if entry.condition.alarming else "green"
        table.add_row(
            f"{entry.file.name}\n[dim]{entry.kind}[/]",
            "\n".join(entry.names),
            entry.issuer,
            _expiry(entry),
            f"[{colour}]{entry.condition.value}[/]{': ' if entry.problem else ''}{entry.problem}",
        )
    return table


def _expiry(entry: Entry) -> str:
    date = f"{entry.not_after:%Y-%m-%d}" if entry.not_after else ""
    return date if entry.days_left is None else f"{date}\n{entry.days_left:,}"


def _profile_lines(folder: CertificateFolder) -> str:
    """What to paste into a profile so that the gateway listens with these files."""
    import json

    server, security = folder.server, []
    if folder.tokens.exists():
        security = ["[gateway.security]", f"service_tokens_file = {json.dumps(str(folder.tokens))}"]
    tls: dict[str, Any] = {"certificate": str(server.certificate), "key": str(server.key)}
    if folder.clients():
        tls |= {"client_ca": str(folder.authority.certificate), "require_client_certificate": True}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in tls.items()]
    return "\n".join([*security, "[gateway.security.tls]", *lines])


def _advice(folder: CertificateFolder, lines: str) -> list[Any]:
    from rich.text import Text

    ca, key = folder.authority.certificate, folder.authority.key
    said = [
        f"\nIn the profile, with gateway.host set to the address to listen on:\n\n{lines}\n",
        f"Callers need {ca} (ask: --ca).",
    ]
    if folder.clients():
        said.append(
            "With client_ca every caller must show a certificate of its own (ask: --cert, --key); without "
            "the last two lines bearer tokens do."
        )
    said.append(f"Keep {key} to yourself, best on another disk: it can sign for anybody.")
    return [Text(line) for line in said]
