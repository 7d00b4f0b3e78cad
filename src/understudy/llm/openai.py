"""any OpenAI-compatible server."""
