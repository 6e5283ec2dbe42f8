"""Adapters to what is measured: the gateway over gRPC, and any OpenAI-compatible server."""
