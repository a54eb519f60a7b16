/** Types of the wire. They come from the contract: `schema` is made of openapi/openapi.json when the types are checked. */

import type {components} from './schema';

type Schemas = components['schemas'];

export type Frame =
  | Schemas['Event']
  | Schemas['Transient']
  | {type: 'ack'; command_id: string; seq: number}
  | {type: 'error'; command_id: string; code: string; message: string};
export type Attachment = Schemas['MessageAttachment'];
export type SessionView = Schemas['SessionView'];
export type SessionSettings = Schemas['Settings'];
export type ApprovalRequest = Schemas['ApprovalRequested'];
export type ApprovalResolution = Schemas['ApprovalResolved'];
export type PendingApproval = Schemas['PendingApproval'];
export type PendingInput = Schemas['PendingInput'];
export type InputRequest = Schemas['InputRequested'];
export type InputResolution = Schemas['InputResolved'];
export type ServiceInfo = Schemas['Info'];
export type ProviderList = Schemas['ProviderList'];
export type ToolInfo = Schemas['ToolInfo'];
export type ToolList = Schemas['ToolList'];
export type MemoryEntry = Schemas['MemoryView'];
export type ShareList = Schemas['ShareList'];
export type UsageReport = Schemas['UsageReport'];
export type TokenUsage = Schemas['Usage'];
export type ToolStatus = Schemas['ToolStatus'];
export type ToolEffect = Schemas['Effect'];
