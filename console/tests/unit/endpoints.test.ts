import { expect, test } from "@playwright/test";
import { sharesOf, splitOf, type Endpoint } from "../../src/pages/endpoints/api";

function endpoint(numbers: number[], shares: Endpoint["shares"]): Endpoint {
  const versions = numbers.map((number) => ({ number }) as Endpoint["versions"][number]);
  return { name: "e", is_enabled: true, versions, shares, is_moderated: false, moderation_url: null, created_at_ms: 0, updated_at_ms: 0 };
}

test("a release goes from the version that has all requests to the latest other one", () => {
  expect(splitOf(endpoint([1], [{ version: 1, percent: 100 }]))).toBeNull();
  expect(splitOf(endpoint([1, 2, 3], [{ version: 1, percent: 100 }]))).toEqual({ first: 1, second: 3, percent: 0 });
  expect(splitOf(endpoint([1, 2, 3], [{ version: 3, percent: 100 }]))).toEqual({ first: 3, second: 2, percent: 0 });
});

test("a release that is under way goes on where it stands", () => {
  const shares = [
    { version: 2, percent: 30 },
    { version: 1, percent: 70 },
  ];
  expect(splitOf(endpoint([1, 2], shares))).toEqual({ first: 1, second: 2, percent: 30 });
});

test("a version with no share is not sent", () => {
  expect(sharesOf({ first: 1, second: 2, percent: 100 })).toEqual([{ version: 2, percent: 100 }]);
  expect(sharesOf({ first: 1, second: 2, percent: 25 })).toEqual([
    { version: 1, percent: 75 },
    { version: 2, percent: 25 },
  ]);
});
