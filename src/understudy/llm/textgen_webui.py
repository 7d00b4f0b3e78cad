"""text-generation-webui."""
