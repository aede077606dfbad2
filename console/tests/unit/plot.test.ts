import { expect, test } from "@playwright/test";
import { labelStep, placeAt, placeByKey, scaleTo } from "../../src/lib/plot/scale";
import { highestStack, highestValue, linePoints, stackAt } from "../../src/lib/plot/series";

test("a scale ends on a round number at or above the highest value", () => {
  expect(scaleTo(1234, 4)).toEqual({ top: 1500, ticks: [0, 500, 1000, 1500] });
  expect(scaleTo(100, 4).top).toBe(100);
  expect(scaleTo(0.003, 4).top).toBeCloseTo(0.003);
});

test("a scale of nothing still has a height", () => {
  expect(scaleTo(0, 4).top).toBeGreaterThan(0);
});

test("counts are marked with whole numbers alone", () => {
  expect(scaleTo(1, 4, true)).toEqual({ top: 1, ticks: [0, 1] });
  expect(scaleTo(3, 4, true)).toEqual({ top: 3, ticks: [0, 1, 2, 3] });
  for (const most of [5, 7, 11, 1999]) expect(scaleTo(most, 4, true).ticks.every(Number.isInteger)).toBe(true);
});

test("labels are left out where they would touch", () => {
  expect(labelStep(7, 700, 60)).toBe(1);
  expect(labelStep(90, 700, 60)).toBe(9);
  expect(labelStep(30, 10, 60)).toBe(30);
});

test("a pointer outside of a plot means its first or last place", () => {
  expect(placeAt(-5, 100, 4)).toBe(0);
  expect(placeAt(49, 100, 4)).toBe(1);
  expect(placeAt(100, 100, 4)).toBe(3);
});

test("keys move by one, by a week and to the ends, and not beyond", () => {
  expect(placeByKey("ArrowRight", 3, 10)).toBe(4);
  expect(placeByKey("ArrowLeft", 0, 10)).toBe(0);
  expect(placeByKey("PageDown", 9, 10)).toBe(2);
  expect(placeByKey("PageUp", 9, 10)).toBe(9);
  expect(placeByKey("End", 0, 10)).toBe(9);
  expect(placeByKey("Tab", 3, 10)).toBeUndefined();
});

const series = [
  { name: "a", values: [1, 4] },
  { name: "b", values: [2, 0] },
];

test("pieces of a stack stand on one another", () => {
  expect(stackAt(series, 0)).toEqual([
    { begin: 0, end: 1 },
    { begin: 1, end: 3 },
  ]);
  expect(highestStack(series, 2)).toBe(4);
  expect(highestValue(series)).toBe(4);
});

test("a line that is not full yet stands at the right", () => {
  expect(linePoints([0, 10], 3, 100, 50, 10)).toBe("50.0,50.0 100.0,0.0");
});
