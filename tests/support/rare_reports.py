"""`python -m rare_reports`: a process of the load that reports to Locust's master only when it has to."""

# ruff: noqa: I001 - Locust must make sockets cooperative before anything else imports them
import locust  # noqa: F401

import sys

from dreamseed_cli.bench.locust_users import worker
from dreamseed_cli.bench.locust_users.__main__ import main

worker.REPORT_S = 3600.0
sys.exit(main(sys.argv[1:]))
