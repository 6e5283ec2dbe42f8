"""DreamSeed's operations tool: run an AI service for a million learners from your own GPUs."""

__version__ = "0.1.0"
