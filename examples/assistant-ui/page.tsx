// A chat of assistant-ui with k8sops behind it, over AG-UI: streamed text, tool calls, and approvals.
import { HttpAgent } from "@ag-ui/client";
import {
  AssistantRuntimeProvider,
  ComposerPrimitive,
  MessagePartPrimitive,
  MessagePrimitive,
  ThreadPrimitive,
  type ToolCallMessagePartProps,
} from "@assistant-ui/react";
import { useAgUiInterrupts, useAgUiRuntime, useAgUiSubmitInterruptResponses } from "@assistant-ui/react-ag-ui";
import { createRoot } from "react-dom/client";

const parameters = new URLSearchParams(location.search);
const service = parameters.get("service") ?? "http://127.0.0.1:8080";
// The thread is a session of k8sops. With a fixed id, the same conversation is there after a reload.
const agent = new HttpAgent({ url: `${service}/agui`, threadId: parameters.get("thread") ?? crypto.randomUUID() });

function ToolCall({ toolName, argsText, result }: ToolCallMessagePartProps) {
  return (
    <details>
      <summary>{toolName} {argsText}</summary>
      <pre>{result === undefined ? "…" : String(result)}</pre>
    </details>
  );
}

const Text = () => <p><MessagePartPrimitive.Text smooth={false} /></p>;

function Message() {
  return <MessagePrimitive.Root><MessagePrimitive.Parts components={{ Text, tools: { Fallback: ToolCall } }} /></MessagePrimitive.Root>;
}

/** What waits for a yes or no. Nothing is changed in the cluster before. */
function Approvals() {
  const interrupts = useAgUiInterrupts();
  const submit = useAgUiSubmitInterruptResponses();
  const answer = (approved: boolean) =>
    submit(interrupts.map(({ id }) => ({ interruptId: id, status: "resolved", payload: { approved } })));
  if (interrupts.length === 0) return null;
  return (
    <section className="approval">
      {interrupts.map(({ id, message }) => <p key={id}>{message}</p>)}
      <button onClick={() => answer(true)}>Approve</button> <button onClick={() => answer(false)}>Deny</button>
    </section>
  );
}

function Chat() {
  return (
    <AssistantRuntimeProvider runtime={useAgUiRuntime({ agent })}>
      <ThreadPrimitive.Root>
        <ThreadPrimitive.Messages components={{ Message }} />
        <Approvals />
        <ComposerPrimitive.Root>
          <ComposerPrimitive.Input placeholder="What is going on in the cluster?" rows={2} autoFocus />
          <ComposerPrimitive.Send>Send</ComposerPrimitive.Send>
        </ComposerPrimitive.Root>
      </ThreadPrimitive.Root>
    </AssistantRuntimeProvider>
  );
}

createRoot(document.getElementById("root")!).render(<Chat />);
