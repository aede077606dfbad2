// Requests whose projects keep prompts and answers, as /api/v1/requests/kept has them.
import { json, segment, type ListPage } from "../../lib/api";

export interface KeptRequest {
  number: number;
  request_id: string;
  project: string;
  key: string;
  model: string;
  endpoint: string;
  at_ms: number;
  finish_reason: string;
  bytes: number;
  prompt_is_cut: boolean;
  answer_is_cut: boolean;
}

export interface KeptChoice {
  reasoning?: string;
  content: string;
  tool_calls?: { name: string; arguments: string }[];
  finish_reason: string | null;
}

export interface WholeRequest extends KeptRequest {
  prompt: Record<string, unknown> | string; // A text where it is cut.
  answer: KeptChoice[];
}

/** Which requests; what is empty bounds nothing. */
export interface Wanted {
  project: string;
  key: string;
  model: string;
  request: string;
  from: string; // "2026-11-28"
  to: string;
}

/** A page of them, the newest first, behind the one with the number `before`. */
export function keptRequests(wanted: Wanted, before?: number): Promise<ListPage<KeptRequest>> {
  const words = new URLSearchParams({ limit: "100" });
  for (const [name, value] of Object.entries(wanted)) if (value.trim() !== "") words.set(name, value.trim());
  if (before !== undefined) words.set("before", String(before));
  return json<ListPage<KeptRequest>>("GET", `/api/v1/requests/kept?${words}`);
}

/** The audit log has who read it. */
export const readRequest = (number: number): Promise<WholeRequest> =>
  json("GET", `/api/v1/requests/kept/${segment(String(number))}`);

export interface Message {
  role: string;
  text: string;
}

function textOf(content: unknown): string {
  if (typeof content === "string") return content;
  return content === undefined || content === null ? "" : JSON.stringify(content, null, 2);
}

/** What was asked, as a person reads it: the messages, or whatever stands in their place. */
export function messagesOf(prompt: WholeRequest["prompt"]): Message[] {
  if (typeof prompt === "string") return [{ role: "", text: prompt }];
  const found: Message[] = [];
  for (const name of ["system", "instructions"]) {
    if (prompt[name] !== undefined && prompt[name] !== null) found.push({ role: name, text: textOf(prompt[name]) });
  }
  const messages = Array.isArray(prompt["messages"]) ? prompt["messages"] : prompt["input"];
  if (Array.isArray(messages)) {
    for (const each of messages as unknown[]) {
      const isMessage = typeof each === "object" && each !== null && "content" in each;
      const message = (isMessage ? each : { content: each }) as { role?: unknown; content: unknown };
      found.push({ role: typeof message.role === "string" ? message.role : "", text: textOf(message.content) });
    }
  } else {
    for (const name of ["prompt", "input", "query", "documents", "text_1", "text_2"]) {
      if (prompt[name] !== undefined) found.push({ role: name, text: textOf(prompt[name]) });
    }
  }
  return found;
}
