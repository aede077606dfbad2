import { expect, test } from "@playwright/test";
import { pushed, rate } from "../../src/pages/engine/moving";

test("a rate is a difference over the time that it took", () => {
  expect(rate({ atMs: 1000, value: 10 }, { atMs: 3000, value: 50 })).toBe(20);
});

test("there is no rate before the second sample, in no time, and after a counter began anew", () => {
  expect(rate(undefined, { atMs: 1000, value: 5 })).toBeNull();
  expect(rate({ atMs: 1000, value: 5 }, { atMs: 1000, value: 9 })).toBeNull();
  expect(rate({ atMs: 1000, value: 5 }, { atMs: 2000, value: 4 })).toBeNull();
});

test("only the last values are kept", () => {
  expect(pushed([1, 2, 3], 4, 3)).toEqual([2, 3, 4]);
  expect(pushed([], 1, 3)).toEqual([1]);
});
