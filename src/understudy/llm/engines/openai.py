"""Any server of the OpenAI shape: what is known of the common ones is a row in `presets`."""

from understudy.llm.openai_client import ChatClient


class OpenAiClient(ChatClient):
    """Nothing differs: the dialect is all data."""
