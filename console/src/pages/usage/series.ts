// Rows of the ledger's statistics, as plots and tables need them.
import { group } from "d3-array";
import type { UsageBy, UsageRow } from "./api";
import { mostSeries, type Series } from "../../lib/plot/series";

export type Measure = "tokens" | "requests" | "cost";
export const measures: readonly Measure[] = ["tokens", "requests", "cost"];

const dayMs = 24 * 3600 * 1000;

/** UTC days, both inclusive, as the server counts them: "2026-11-28". */
export interface DayRange {
  from: string;
  to: string;
}

export function dayOf(atMs: number): string {
  return new Date(atMs).toISOString().slice(0, 10);
}

/** NaN for what is no day. */
function msOf(day: string): number {
  const ms = /^\d{4}-\d{2}-\d{2}$/.test(day) ? Date.parse(`${day}T00:00:00Z`) : NaN;
  return Number.isNaN(ms) || dayOf(ms) !== day ? NaN : ms;
}

/** The last `days` days, today among them. */
export function lastDays(days: number, nowMs: number): DayRange {
  return { from: dayOf(nowMs - (days - 1) * dayMs), to: dayOf(nowMs) };
}

export function thisMonth(nowMs: number): DayRange {
  const today = dayOf(nowMs);
  return { from: `${today.slice(0, 8)}01`, to: today };
}

/** Longer ones are refused by the page: a bar for each day has to be seen. */
export const mostDays = 366;

export type RangeFault = "not_a_day" | "ends_before" | "too_long";

export function faultOf(range: DayRange): RangeFault | undefined {
  const days = (msOf(range.to) - msOf(range.from)) / dayMs + 1;
  if (Number.isNaN(days)) return "not_a_day";
  if (days < 1) return "ends_before";
  return days > mostDays ? "too_long" : undefined;
}

/** Each day of a range that has no fault. */
export function daysOf(range: DayRange): string[] {
  const days: string[] = [];
  for (let ms = msOf(range.from); ms <= msOf(range.to); ms += dayMs) days.push(dayOf(ms));
  return days;
}

export function measured(row: UsageRow, measure: Measure): number {
  if (measure === "tokens") return row.total_tokens;
  return measure === "requests" ? row.requests : row.cost;
}

/** Cents where there are whole units; below that three digits, as a single request costs little. */
export function moneyText(value: number, language: string): string {
  const digits: Intl.NumberFormatOptions =
    value === 0 || value >= 1 ? { minimumFractionDigits: 2, maximumFractionDigits: 2 } : { maximumSignificantDigits: 3 };
  return new Intl.NumberFormat(language, digits).format(value);
}

const none: UsageRow = {
  requests: 0,
  failures: 0,
  prompt_tokens: 0,
  cached_tokens: 0,
  completion_tokens: 0,
  reasoning_tokens: 0,
  total_tokens: 0,
  cost: 0,
  mean_ttft_ms: 0,
};

/** The sum of rows; the mean time to the first token counts each by its requests. */
export function sumOf(rows: UsageRow[]): UsageRow {
  const sum = { ...none };
  let timed = 0;
  let ttft = 0;
  for (const row of rows) {
    sum.requests += row.requests;
    sum.failures += row.failures;
    sum.prompt_tokens += row.prompt_tokens;
    sum.cached_tokens += row.cached_tokens;
    sum.completion_tokens += row.completion_tokens;
    sum.reasoning_tokens += row.reasoning_tokens;
    sum.total_tokens += row.total_tokens;
    sum.cost += row.cost;
    if (row.mean_ttft_ms) {
      timed += row.requests; // 0 where no request of a row had a first token.
      ttft += row.mean_ttft_ms * row.requests;
    }
  }
  if (timed > 0) sum.mean_ttft_ms = ttft / timed;
  return sum;
}

/** One row for each name that `by` has in the rows, by descending measure, then name. */
export function groupsOf(rows: UsageRow[], by: UsageBy, measure: Measure): { name: string; sum: UsageRow }[] {
  const groups = group(rows, (row) => row[by] ?? "");
  return [...groups]
    .map(([name, members]) => ({ name, sum: sumOf(members) }))
    .sort((a, b) => measured(b.sum, measure) - measured(a.sum, measure) || a.name.localeCompare(b.name));
}

/**
 * The measure for each day: a series for each of the largest groups, and one for the rest, called `restName`, where
 * there are more than colours. Rows of days that are not asked for are left out.
 */
export function usageSeries(
  rows: UsageRow[],
  by: UsageBy,
  measure: Measure,
  days: string[],
  restName: string,
): Series[] {
  const place = new Map(days.map((day, at) => [day, at]));
  const names = groupsOf(rows, by, measure).map((group) => group.name);
  const own = names.length > mostSeries ? names.slice(0, mostSeries - 1) : names;
  const empty = (): number[] => days.map(() => 0);
  const series: Series[] = own.map((name) => ({ name, values: empty() }));
  const rest: Series = { name: restName, values: empty(), isRest: true };
  const at = new Map(own.map((name, index) => [name, series[index]!]));
  for (const row of rows) {
    const day = place.get(row.day ?? "");
    if (day === undefined) continue;
    const { values } = at.get(row[by] ?? "") ?? rest;
    values[day] = values[day]! + measured(row, measure);
  }
  return own.length < names.length ? [...series, rest] : series;
}
