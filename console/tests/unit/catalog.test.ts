import { expect, test } from "@playwright/test";
import { shareOf, shownModels, type CatalogModel, type Download } from "../../src/pages/catalog/api";

test("the catalog shows what is here, or the usual quantization of the rest", () => {
  const model = (name: string, state: CatalogModel["state"], is_default: boolean): CatalogModel =>
    ({ name, title: null, state, is_default }) as CatalogModel;
  const all = [model("a:q4", "available", true), model("a:q8", "available", false), model("b:q8", "stored", false)];
  const names = (...args: [Parameters<typeof shownModels>[1], string]): string[] =>
    shownModels(all, ...args).map((each) => each.name);
  expect(names("here", "")).toEqual(["b:q8"]);
  expect(names("usual", "")).toEqual(["a:q4", "b:q8"]);
  expect(names("all", " A:")).toEqual(["a:q4", "a:q8"]);
});

test("a download whose size is not known has no share", () => {
  const download = (done: number, total: number | null): Download =>
    ({ bytes_done: done, bytes_total: total }) as Download;
  expect(shareOf(download(5, null))).toBeNull();
  expect(shareOf(download(5, 10))).toBe(0.5);
});
