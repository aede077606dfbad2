import { expect, test } from "@playwright/test";
import type { UsageRow } from "../../src/pages/usage/api";
import { daysOf, faultOf, groupsOf, lastDays, moneyText, sumOf, thisMonth, usageSeries } from "../../src/pages/usage/series";

function row(day: string, model: string, total_tokens: number, more: Partial<UsageRow> = {}): UsageRow {
  return {
    day,
    model,
    requests: 1,
    failures: 0,
    prompt_tokens: total_tokens,
    cached_tokens: 0,
    completion_tokens: 0,
    reasoning_tokens: 0,
    total_tokens,
    cost: 0,
    mean_ttft_ms: 0,
    ...more,
  };
}

const noon = Date.UTC(2026, 10, 29, 12);

test("ranges end today and hold as many days as they say", () => {
  expect(lastDays(7, noon)).toEqual({ from: "2026-11-23", to: "2026-11-29" });
  expect(daysOf(lastDays(30, noon))).toHaveLength(30);
  expect(thisMonth(noon)).toEqual({ from: "2026-11-01", to: "2026-11-29" });
});

test("days go on over the end of a month and a leap day", () => {
  expect(daysOf({ from: "2028-02-28", to: "2028-03-01" })).toEqual(["2028-02-28", "2028-02-29", "2028-03-01"]);
});

test("a range has a fault where it is no range", () => {
  expect(faultOf({ from: "2026-11-01", to: "2026-11-01" })).toBeUndefined();
  expect(faultOf({ from: "2026-11-02", to: "2026-11-01" })).toBe("ends_before");
  expect(faultOf({ from: "2026-02-30", to: "2026-11-01" })).toBe("not_a_day");
  expect(faultOf({ from: "", to: "2026-11-01" })).toBe("not_a_day");
  expect(faultOf({ from: "2020-01-01", to: "2026-11-01" })).toBe("too_long");
});

test("each day has its sum, also those without a request", () => {
  const days = ["2026-11-01", "2026-11-02", "2026-11-03"];
  const rows = [row("2026-11-01", "small", 3), row("2026-11-03", "large", 10), row("2026-11-03", "small", 1)];
  expect(usageSeries(rows, "model", "tokens", days, "others")).toEqual([
    { name: "large", values: [0, 0, 10] },
    { name: "small", values: [3, 0, 1] },
  ]);
});

test("what has no colour of its own is one series, and nothing gets lost", () => {
  const rows = Array.from({ length: 9 }, (_, at) => row("2026-11-01", `model ${at}`, at + 1));
  const series = usageSeries(rows, "model", "tokens", ["2026-11-01"], "others");
  expect(series.map((each) => each.name)).toEqual(["model 8", "model 7", "model 6", "model 5", "model 4", "others"]);
  expect(series.at(-1)).toEqual({ name: "others", values: [1 + 2 + 3 + 4], isRest: true });
  expect(series.flatMap((each) => each.values).reduce((a, b) => a + b)).toBe(45);
});

test("a model that is called as the rest is stays itself", () => {
  const rows = [...Array.from({ length: 7 }, (_, at) => row("2026-11-01", `m${at}`, 1)), row("2026-11-01", "others", 5)];
  const series = usageSeries(rows, "model", "tokens", ["2026-11-01"], "others");
  expect(series[0]).toEqual({ name: "others", values: [5] });
  expect(series.at(-1)?.isRest).toBe(true);
});

test("groups stand in the order of what is measured", () => {
  const rows = [
    row("2026-11-01", "many requests", 1, { requests: 9 }),
    row("2026-11-01", "many tokens", 100),
    row("2026-11-02", "many tokens", 100),
  ];
  expect(groupsOf(rows, "model", "tokens").map((group) => group.name)).toEqual(["many tokens", "many requests"]);
  expect(groupsOf(rows, "model", "requests").map((group) => group.name)).toEqual(["many requests", "many tokens"]);
  expect(groupsOf(rows, "model", "tokens")[0]?.sum.total_tokens).toBe(200);
});

test("the mean time to the first token counts each request once", () => {
  const rows = [row("a", "m", 1, { requests: 3, mean_ttft_ms: 10 }), row("b", "m", 1, { requests: 1, mean_ttft_ms: 50 })];
  expect(sumOf(rows).mean_ttft_ms).toBe(20);
  expect(sumOf([]).requests).toBe(0);
});

test("what costs little is not shown as nothing", () => {
  expect(moneyText(0.0000123, "en")).toBe("0.0000123");
  expect(moneyText(1234.5, "en")).toBe("1,234.50");
  expect(moneyText(0, "en")).toBe("0.00");
});
