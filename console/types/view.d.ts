/** Types of what is shown of a session. */

import type {
  Attachment,
  ApprovalRequest,
  ApprovalResolution,
  InputRequest,
  InputResolution,
  SessionSettings,
  TokenUsage,
  ToolEffect,
  ToolStatus,
} from './wire';

export type {Attachment};

/** A text that goes with the next message. */
export interface NewAttachment {
  name: string;
  media_type: string;
  text: string;
}

interface ItemBase {
  /** Unique in the session, and the same after a reconnect. */
  key: string;
  seq: number;
  /** RFC 3339. Empty while it is not logged. */
  ts: string;
  runId: string;
}

export interface UserItem extends ItemBase {
  kind: 'user';
  commandId: string | null;
  text: string;
  attachments: Attachment[];
}

export interface AssistantItem extends ItemBase {
  kind: 'assistant';
  text: string;
  reasoning: string;
  streaming: boolean;
  stopReason: string;
  model: string;
  citations: {n: number; tool_call_id: string}[];
  /** What the user thinks of it. */
  rating: 'up' | 'down' | null;
}

export interface ToolApproval {
  request: ApprovalRequest;
  requestedAt: string;
  resolution: ApprovalResolution | null;
  resolvedAt: string | null;
  /** Whether the call was asked for again, because the objects had changed. */
  replaced: boolean;
}

export interface ToolItem extends ItemBase {
  kind: 'tool';
  callId: string;
  name: string;
  server: string;
  arguments: any;
  effect: ToolEffect | null;
  attempt: number;
  phase: 'planned' | 'waiting' | 'running' | 'ended';
  approvals: ToolApproval[];
  startedAt: string | null;
  endedAt: string | null;
  status: ToolStatus | null;
  output: string;
  truncated: boolean;
  bytes: number;
  durationMs: number;
  progress: {value: number; total: number | null; message: string} | null;
}

export interface InputItem extends ItemBase {
  kind: 'input';
  request: InputRequest;
  resolution: InputResolution | null;
}

export interface RunEndItem extends ItemBase {
  kind: 'end';
  outcome: string;
  durationMs: number;
  usage: TokenUsage;
}

export type NoticeLevel = 'info' | 'warning' | 'failure' | 'takeover' | 'memory';

export interface NoticeItem extends ItemBase {
  kind: 'notice';
  level: NoticeLevel;
  text: string;
  code: string;
  detail: string;
}

export type ConversationItem = UserItem | AssistantItem | ToolItem | InputItem | RunEndItem | NoticeItem;

export interface SessionState {
  items: ConversationItem[];
  /** Positions in `items` by key. */
  index: Map<string, number>;
  lastSeq: number;
  /** The newest event when the stream was opened. */
  headSeq?: number;
  /** Whether everything that was logged before the stream was opened has arrived. */
  ready: boolean;
  title: string;
  owner: string;
  settings: SessionSettings | null;
  run: {id: string; startedAt: string | null; provider: string; model: string} | null;
  contextTokens: number;
  usage: {inputTokens: number; outputTokens: number; costUsd: number};
  /** A warning about the stream. It is void after the next event. */
  streamWarning: {code: string; text: string} | null;
  deleted: boolean;
}

export interface TimelineEntry {
  key: string;
  ts: string;
  kind: 'message' | 'look' | 'change' | 'approval' | 'failure' | 'takeover' | 'note' | 'end';
  title: string;
  detail: string;
}

/** A message that was sent, and that the stream has not shown yet. */
export interface OutgoingMessage {
  commandId: string;
  text: string;
  attachments: NewAttachment[];
  state: 'sending' | 'queued' | 'failed';
  error: string;
}
