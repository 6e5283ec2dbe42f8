"""`python -m dreamseed_cli.engine.emulated`: one emulated engine, run as a child process."""

import sys

from dreamseed_cli.engine.emulated.entry import main

if __name__ == "__main__":
    sys.exit(main())
