"""The stateless HTTP front (Cloud Run): OpenAI-compatible, before the gateway."""
