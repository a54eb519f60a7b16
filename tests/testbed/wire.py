"""Holds requests against the types of the providers' own SDKs.

Reads lines of JSON, {"api": ..., "body": ...}, and says of each body whether the SDK's types take it: no field that they do
not know, none of another shape, none missing. Exits with 1 when one is not taken.
"""

import json
import sys
from collections.abc import Iterable, Mapping

from anthropic.types.message_create_params import MessageCreateParamsStreaming
from ollama._types import ChatRequest
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from pydantic import BaseModel, TypeAdapter

TYPES = {
    "anthropic": TypeAdapter(MessageCreateParamsStreaming),
    "openai-chat": TypeAdapter(CompletionCreateParamsStreaming),
    "openai-responses": TypeAdapter(ResponseCreateParamsStreaming),
    "ollama": TypeAdapter(ChatRequest),
}

# Fields that servers have and the SDK's types do not: where each is documented.
KNOWN = {
    # ollama/api/types.go: ToolCall.ID and Message.ToolCallID
    "ollama": {"id", "tool_call_id"},
    # What a server itself gave, under the name by which it gave it (DeepSeek, vLLM, llama.cpp).
    "openai-chat": {"reasoning_content"},
}

# Where schemas of tools stand: Ollama's SDK has types for a part of JSON Schema, its server passes over the rest.
SCHEMAS = ".tools["


def plain(value):
    """A validated value as JSON; lists are validated when they are read."""
    if isinstance(value, BaseModel):
        return plain(value.model_dump(exclude_none=True))
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        return value
    return [plain(inner) for inner in value]


def unknown(sent, taken, known, path=""):
    """The places in `sent` that are not in what was taken."""
    if isinstance(sent, dict) and isinstance(taken, dict):
        for key, value in sent.items():
            if key in taken:
                yield from unknown(value, taken[key], known, f"{path}.{key}")
            elif value is not None and key not in known and not path.startswith(SCHEMAS):
                yield f"{path}.{key}"
    elif isinstance(sent, list) and isinstance(taken, list):
        for at, (one, other) in enumerate(zip(sent, taken, strict=True)):
            yield from unknown(one, other, known, f"{path}[{at}]")
    elif sent != taken:
        yield f"{path}: {sent!r} is not {taken!r}"


failed = False
for line in sys.stdin:
    request = json.loads(line)
    api, body = request["api"], request["body"]
    try:
        problems = list(unknown(body, plain(TYPES[api].validate_python(body)), KNOWN.get(api, set())))
    except Exception as error:  # noqa: BLE001
        # The first of what may be hundreds: each member of a union says why it is not meant.
        problems = [str(error)[:600]]
    failed |= bool(problems)
    print(api, "; ".join(problems) or "ok")
sys.exit(failed)
