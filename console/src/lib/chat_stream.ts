import { ApiError, send } from "./api";
import { eventData } from "./sse";

export interface ChatMessage {
  role: "system" | "user" | "assistant";
  content: string;
}

/** What a person may set; absent is the model's own default. */
export interface Sampling {
  temperature?: number;
  top_p?: number;
  max_tokens?: number;
  seed?: number;
  thinking?: "enabled" | "disabled";
}

export interface AnswerStatistics {
  prompt_tokens: number;
  cached_tokens: number;
  completion_tokens: number;
  ttft_ms: number;
  tokens_per_second: number | null; // after the first token; null for answers too short to tell
  finish_reason: string;
}

export type AnswerPart =
  | { kind: "begun"; request_id: string | null }
  | { kind: "reasoning"; text: string }
  | { kind: "content"; text: string }
  | { kind: "end"; statistics: AnswerStatistics };

interface Chunk {
  choices?: {
    delta?: { content?: string | null; reasoning_content?: string | null };
    finish_reason?: string | null;
  }[];
  usage?: {
    prompt_tokens: number;
    completion_tokens: number;
    prompt_tokens_details?: { cached_tokens?: number };
  } | null;
  error?: { message: string; code?: string | null };
}

export function chatBody(model: string, messages: ChatMessage[], sampling: Sampling): Record<string, unknown> {
  const { thinking, ...plain } = sampling;
  const body: Record<string, unknown> = {
    model,
    messages,
    ...plain,
    stream: true,
    stream_options: { include_usage: true },
  };
  if (thinking) body["thinking"] = { type: thinking };
  return body;
}

/** An answer as it comes. Throws ApiError where there is none or it breaks off, and AbortError when stopped. */
export async function* streamChat(
  model: string,
  messages: ChatMessage[],
  sampling: Sampling,
  signal: AbortSignal,
  now: () => number = () => performance.now(),
): AsyncGenerator<AnswerPart> {
  const begunAt = now();
  let firstAt: number | null = null;
  let lastAt = begunAt;
  let finishReason: string | null = null;
  let usage: NonNullable<Chunk["usage"]> | null = null;

  const response = await send("POST", "/v1/chat/completions", chatBody(model, messages, sampling), signal);
  if (!response.body) throw new ApiError("the answer has no body", response.status);
  yield { kind: "begun", request_id: response.headers.get("x-request-id") };
  for await (const data of eventData(response.body)) {
    if (data === "[DONE]") break;
    const chunk = JSON.parse(data) as Chunk;
    if (chunk.error) throw new ApiError(chunk.error.message, response.status, chunk.error.code ?? null);
    if (chunk.usage) usage = chunk.usage;
    const choice = chunk.choices?.[0];
    if (!choice) continue;
    finishReason = choice.finish_reason ?? finishReason;
    const { reasoning_content: reasoning, content } = choice.delta ?? {};
    if (!reasoning && !content) continue;
    lastAt = now();
    firstAt ??= lastAt;
    if (reasoning) yield { kind: "reasoning", text: reasoning };
    if (content) yield { kind: "content", text: content };
  }
  if (finishReason === null) throw new ApiError("the answer broke off before its end", response.status, "broken_off");
  const tokens = usage?.completion_tokens ?? 0;
  const seconds = firstAt === null ? 0 : (lastAt - firstAt) / 1000;
  yield {
    kind: "end",
    statistics: {
      prompt_tokens: usage?.prompt_tokens ?? 0,
      cached_tokens: usage?.prompt_tokens_details?.cached_tokens ?? 0,
      completion_tokens: tokens,
      ttft_ms: (firstAt ?? lastAt) - begunAt,
      tokens_per_second: tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : null,
      finish_reason: finishReason,
    },
  };
}
