import { expect, test } from "@playwright/test";
import { piecesOf } from "../../src/lib/paged";
import { detailsText } from "../../src/pages/audit/api";
import { shownMost, wireMost } from "../../src/pages/limits/api";

test("a typed list may have commas, spaces and lines between its pieces", () => {
  expect(piecesOf(" a:1, b\n c，a:1 ")).toEqual(["a:1", "b", "c"]);
  expect(piecesOf("  ")).toEqual([]);
});

test("money is whole units on the page and millionths on the wire", () => {
  expect(wireMost("micros_per_month", 12.5)).toBe(12_500_000);
  expect(shownMost({ kind: "micros_per_month", most: 12_500_000 })).toBe(12.5);
  expect(wireMost("tokens_per_day", 1000)).toBe(1000);
});

test("the details of an event are one line", () => {
  expect(detailsText({ weight: 2, model: "*", user: null, models: [] })).toBe("weight 2, model *");
});
