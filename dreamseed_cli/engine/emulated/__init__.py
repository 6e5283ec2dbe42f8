"""An OpenAI-compatible server that keeps vLLM's time without a GPU. Everything it yields is simulated."""
