"""One LLM engine: vLLM's command, the client to it, the small model it serves, and the emulated engine."""
