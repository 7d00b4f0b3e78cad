"""Any server of the OpenAI shape: what is known of the common ones is a row in `presets`."""

from understudy.llm.openai_client import OpenAIClient


class OpenAICompatibleClient(OpenAIClient):
    """Nothing differs: the dialect is all data."""
