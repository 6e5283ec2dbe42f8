"""`dreamseed metrics`: all that this box can tell Prometheus, at one address."""
