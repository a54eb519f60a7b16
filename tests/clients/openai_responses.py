"""Uses the Responses API over the official SDK: streams, replays, approvals, background, cancel, errors.

    python openai_responses.py URL
"""

import sys

import openai

client = openai.OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none", max_retries=0)


def create(**arguments):
    return client.responses.create(model="k8sops", **arguments)


def text(events):
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


first = create(input="what is broken?")
assert first.status == "completed" and "CrashLoopBackOff" in first.output_text, first
assert any(item.type == "mcp_call" and item.output for item in first.output), first.output
assert client.responses.retrieve(first.id).model_dump() == first.model_dump()
assert client.responses.input_items.list(first.id).data[0].content[0].text == "what is broken?"

# The conversation goes on; the helper of the SDK for streams adds up to the response.
with client.responses.stream(model="k8sops", input="what is broken?", previous_response_id=first.id) as stream:
    events = list(stream)
    final = stream.get_final_response()
assert final.conversation.id == first.conversation.id and final.output_text == text(events), final
assert len(final.output) == sum(event.type == "response.output_item.done" for event in events), final

# A stream that is cut goes on at the same place, also within a message.
whole = None
for cut in (3, 8, 14, 20, 40, 60, 90, 150, 220):
    read = []
    with create(input="what is broken?", stream=True, background=True) as live:
        for event in live:
            read.append(event)
            if len(read) == cut:
                break
    response = read[0].response.id
    read += client.responses.retrieve(response, stream=True, starting_after=read[-1].sequence_number)
    whole = list(client.responses.retrieve(response, stream=True))
    assert text(read) == text(whole), cut
    assert read[-1].response.model_dump() == whole[-1].response.model_dump(), cut

# An approval, which is given, and one that is denied.
for approve in (True, False):
    asked = create(input="scale checkout to 4" if approve else "scale checkout to 5")
    request = asked.output[-1]
    assert asked.status == "completed" and request.type == "mcp_approval_request", asked
    answer = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": approve}
    done = create(input=[answer], previous_response_id=asked.id)
    call = next(item for item in done.output if item.type == "mcp_call")
    assert (call.status == "completed") is approve and done.output_text, done

background = create(input="what is broken?", background=True)
assert background.status in ("queued", "in_progress"), background
assert client.responses.cancel(background.id).status == "cancelled"
assert client.responses.retrieve(background.id).status == "cancelled"

for fails, expected, code in [
    (lambda: create(input="x", previous_response_id="resp_nope"), openai.NotFoundError, "previous_response_not_found"),
    (lambda: client.responses.retrieve("resp_nope"), openai.NotFoundError, "response_not_found"),
    (lambda: create(input="x", tools=[{"type": "web_search"}]), openai.BadRequestError, "invalid_request"),
]:
    try:
        fails()
    except expected as error:
        assert error.code == code and error.message, error
    else:
        raise AssertionError(f"no {expected.__name__}")
print("done")
