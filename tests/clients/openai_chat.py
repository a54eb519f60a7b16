"""Chats over the official SDK for OpenAI's API, with an approval and with errors.

    python openai_chat.py URL
"""

import re
import sys

import openai

client = openai.OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none", max_retries=0)
assert [model.id for model in client.models.list()] == ["k8sops"]
assert client.models.retrieve("k8sops").owned_by == "k8sops"

messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "what is broken?"}]
answer = client.chat.completions.create(model="k8sops", messages=messages)
choice = answer.choices[0]
assert choice.finish_reason == "stop" and choice.message.role == "assistant", answer
assert "CrashLoopBackOff" in choice.message.content, answer
assert choice.message.tool_calls is None and "Calling" in choice.message.reasoning_content, answer

# The history finds the session again, also for a stream.
messages += [{"role": "assistant", "content": choice.message.content}, {"role": "user", "content": "scale checkout to 2"}]
text, reasoning, usage, finish = "", "", None, None
options = {"include_usage": True}
for chunk in client.chat.completions.create(model="k8sops", messages=messages, stream=True, stream_options=options):
    usage = chunk.usage or usage
    for choice in chunk.choices:
        text += choice.delta.content or ""
        reasoning += getattr(choice.delta, "reasoning_content", None) or ""
        finish = choice.finish_reason or finish
assert finish == "stop" and usage is not None and usage.total_tokens >= usage.prompt_tokens, (finish, usage)
words = re.search(r"approve [0-9a-f]{6}", text)
assert words, text

messages += [{"role": "assistant", "content": text}, {"role": "user", "content": words.group(0)}]
done = client.chat.completions.create(model="k8sops", messages=messages)
assert "checkout" in done.choices[0].message.content, done
assert "Approved" in done.choices[0].message.reasoning_content, done

for fails, expected in [
    (lambda: client.chat.completions.create(model="gpt-5", messages=messages), openai.NotFoundError),
    (lambda: client.chat.completions.create(model="k8sops", messages=[]), openai.BadRequestError),
]:
    try:
        fails()
    except expected as error:
        assert error.code and error.message, error
    else:
        raise AssertionError(f"no {expected.__name__}")
try:
    big = [{"role": "user", "content": "x" * 70_000}]
    client.chat.completions.create(model="k8sops", messages=big)
except openai.APIStatusError as error:
    assert error.status_code == 413 and error.code == "message_too_long", error
print("done")
