"""What stands under `--help`: an example or two of every command, and what the exit codes mean.

The tests run them: tests/e2e/test_documented_examples.py.
"""

from __future__ import annotations

import typer
from typer.models import CommandInfo

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": ("serve", 'ask "What is the capital of Korea?"', "doctor"),
    "serve": ("serve", "serve --profile emulated-rtx5090x3 --gpus 2"),
    "status": ("status", "status --json"),
    "reload": ("reload",),
    "restart": ("restart", "restart --replica r1"),
    "stop": ("stop",),
    "logs": ("logs r0 --lines 20", "logs gateway --follow"),
    "incidents": ("incidents --last 5", "incidents --subject r0 --kind restart"),
    "doctor": ("doctor", "doctor --profile laptop"),
    "top": ("top",),
    "metrics": ("metrics", "metrics --listen 9401"),
    "chaos": ("chaos --list", "chaos hang --replica r1 --wait 90"),
    "plan": (
        "plan --profile rtx5090x3",
        "plan --profile rtx5090x3 --gpus 2 --context 2048",
    ),
    "cost-sim": ("cost-sim --users 1000000", "cost-sim --sweep users=1e3..1e6"),
    "ask": ('ask "What is the capital of Korea?"', 'ask "Name a colour." --json'),
    "api": ("api --allow-anonymous",),
    "demo": ("demo", "demo --profile emulated-rtx5090x3"),
    "estimates": ("estimates --section B --verdict contradicted", "estimates c1-vcpu-usd"),
    "restore": ("restore", "restore --point before-upgrade --into /srv/pg-back --yes"),
    "bench": ("bench", "bench --profile emulated-rtx5090x3 --suite capacity --out reports"),
    "bench compare": ("bench compare reports/20261125T040506Z reports/20261126T040506Z",),
    "backup": ("backup init", "backup", "backup --kind logical --dry-run"),
    "backup init": ("backup init",),
    "backup list": ("backup list",),
    "backup show": ("backup show latest",),
    "backup verify": ("backup verify latest",),
    "backup pin": ("backup pin latest",),
    "backup unpin": ("backup unpin latest",),
    "backup prune": ("backup prune --dry-run",),
    "backup status": ("backup status",),
    "wal push": ("wal push pg_wal/000000010000000000000001",),
    "wal fetch": ("wal fetch 000000010000000000000001 pg_wal/RECOVERYXLOG",),
    "wal settings": ("wal settings",),
    "drill lost-host": ("drill lost-host", "drill lost-host --link-mbps 100"),
    "drill lost-database": ("drill lost-database",),
    "drill bad-deploy": ("drill bad-deploy",),
    "drill corrupt-backup": ("drill corrupt-backup",),
    "drill failover": ("drill failover",),
    "drill due": ("drill due",),
    "drill history": ("drill history",),
    "drill show": ("drill show latest",),
    "drill checklist": ("drill checklist",),
    "ups watch": ("ups watch",),
    "ups status": ("ups status",),
    "ups test": ("ups test --dry-run", "ups test --real-services"),
    "ups plan": ("ups plan",),
    "schedule install": ("schedule install",),
    "schedule remove": ("schedule remove",),
    "schedule show": ("schedule show",),
    "schedule run": ("schedule run", "schedule run --only look"),
    "profile list": ("profile list",),
    "profile show": ("profile show laptop",),
    "profile check": ("profile check rtx5090x3", "profile check laptop --json"),
    "user add": ("user add ann --tier paid --key",),
    "user list": ("user list --tier paid --limit 20",),
    "user tier": ("user tier ann background",),
    "user disable": ("user disable ann",),
    "user enable": ("user enable ann",),
    "user key create": ("user key create ann --label laptop --expires-days 90",),
    "user key list": ("user key list ann",),
    "user key revoke": ("user key revoke 1",),
    "db tune": ("db tune", "db tune --memory-gib 32 --cores 16 --storage nvme"),
    "db migrate": ("db migrate",),
    "db status": ("db status",),
    "db watch": ("db watch --profile box.toml",),
    "db promote": ("db promote --profile box.toml --old-primary-is-dead",),
    "db failback": ("db failback --profile box.toml",),
    "events tail": ("events tail --last 100 --json", "events tail --follow"),
    "certs create": (
        "certs create --name gpu.dreamseed.ai --name 100.64.1.2",
        "certs create --client api-front",
    ),
    "certs show": ("certs show",),
    "certs token": ('certs token --label "api front"',),
    "deploy render": ("deploy render", "deploy render all --out deployed"),
    "deploy diff": ("deploy diff",),
    "deploy check": ("deploy check",),
}

EXIT_CODES = {
    0: "done",
    1: "done, but a target was missed",
    2: "wrong usage or profile",
    3: "something needed is missing",
    4: "failed",
    5: "another run is at work",
    130: "interrupted",
}
"""What a command's end means, in a few words."""


def epilog(command: str) -> str | None:
    """The end of a command's help: a block in Markdown, too. None where there are no examples."""
    if command not in EXAMPLES:
        return None
    return "\n".join(["Examples:", "", *(f"    $ dreamseed {words}" for words in EXAMPLES[command])])


def add_examples(app: typer.Typer, *path: str) -> None:
    """Put their examples under the help of all commands of `app`, the exit codes under the program's own."""
    if not path:
        codes = "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
        app.info.epilog = f"{epilog('')}\n\nExit codes: {codes}."
    for command in app.registered_commands:
        command.epilog = epilog(" ".join([*path, command_name(command)]))
    for group in app.registered_groups:
        words = (*path, str(group.name))
        group.epilog = epilog(" ".join(words))
        if group.typer_instance:
            add_examples(group.typer_instance, *words)


def command_name(command: CommandInfo) -> str:
    """As it is typed: its own name, or its function's."""
    return command.name or getattr(command.callback, "__name__", "").replace("_", "-")
