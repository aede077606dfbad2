// Figures that are asked for again and again, and the plots that move with them.
import type { EngineOfModel } from "./api";

export interface Sample {
  atMs: number;
  value: number;
}

/** How many more of a counter there were each second; null where that cannot be told, as after a new start. */
export function rate(before: Sample | undefined, now: Sample): number | null {
  if (!before || now.atMs <= before.atMs || now.value < before.value) return null;
  return ((now.value - before.value) * 1000) / (now.atMs - before.atMs);
}

/** The last `most` values, oldest first. */
export function pushed(values: readonly number[], value: number, most: number): number[] {
  return [...values.slice(Math.max(0, values.length + 1 - most)), value];
}

/** The recent past of one model's engine. */
export interface Past {
  running: number[];
  waiting: number[];
  kvUsage: number[];
  promptRate: number[]; // Tokens a second; here and below.
  answerRate: number[];
  prompt: Sample;
  answer: Sample;
}

/** The first look tells no rate; a later one that tells none, as the counter began anew, counts as 0. */
function withRate(rates: readonly number[] | undefined, now: number | null, most: number): number[] {
  if (!rates) return [];
  return pushed(rates, now ?? 0, most);
}

/** The past with one more look at the engine in it. */
export function lookedAt(past: Past | undefined, model: EngineOfModel, atMs: number, most: number): Past {
  const prompt = { atMs, value: model.prompt_tokens_total };
  const answer = { atMs, value: model.generation_tokens_total };
  return {
    running: pushed(past?.running ?? [], model.running, most),
    waiting: pushed(past?.waiting ?? [], model.waiting, most),
    kvUsage: pushed(past?.kvUsage ?? [], model.kv_usage, most),
    promptRate: withRate(past?.promptRate, rate(past?.prompt, prompt), most),
    answerRate: withRate(past?.answerRate, rate(past?.answer, answer), most),
    prompt,
    answer,
  };
}
