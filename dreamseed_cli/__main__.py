"""The program's first lines: of the `dreamseed` command, and of `python -m dreamseed_cli`."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line. Ctrl-C while its modules are still being read ends it as quietly as later on."""
    try:
        from dreamseed_cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)  # InterruptedByUser's: core may not have been read yet


if __name__ == "__main__":
    main()
