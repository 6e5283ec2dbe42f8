"""Whether a restored server is sound inside: amcheck where it is there, and the pages' own checksums."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dreamseed_cli.backup.logical.server import Programs
from dreamseed_cli.backup.physical import soundness
from dreamseed_cli.drill.timeline import Check
from dreamseed_cli.services.root import unprivileged


def amcheck(dsn: str) -> Check:
    """Every table and B-tree of every database. Raises ServerUnreachable, ServerFailed."""
    try:
        sound = soundness.amcheck(dsn)
    except soundness.Unsound as error:
        return Check("amcheck", False, f"{error.place}: {error.cause}")
    if sound is None:
        return Check("amcheck", None, f"{soundness.NO_AMCHECK}; checksums stand for it")
    return Check("amcheck", True, str(sound))


def page_checksums(data: Path, programs: Programs) -> Check:
    """pg_checksums over a data folder whose server was stopped in order."""
    argv = unprivileged((str(programs("pg_checksums")), "--check", "-D", str(data)))
    done = subprocess.run(argv, check=False, capture_output=True, text=True, errors="replace")
    said = (done.stderr or done.stdout).strip()
    if done.returncode == 0:
        blocks = next((line for line in done.stdout.splitlines() if "Blocks scanned" in line), "")
        return Check("page checksums", True, f"no bad page ({' '.join(blocks.split()).lower()})")
    if "not enabled" in said:
        return Check("page checksums", None, "this cluster was made without data checksums")
    return Check("page checksums", False, said[-300:])
