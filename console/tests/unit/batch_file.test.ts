import { expect, test } from "@playwright/test";
import { checkBatchFile, exampleLine } from "../../src/pages/batch/batch_file";

test("a file of requests is counted, and its route found", () => {
  const file = `${exampleLine("m")}\n\n${exampleLine("m").replace("first", "second")}\n`;
  expect(checkBatchFile(file)).toEqual({ requests: 2, endpoint: "/v1/chat/completions" });
  expect(checkBatchFile("\n")).toEqual({ requests: 0, endpoint: "" });
});

for (const [kind, line] of Object.entries({
  not_json: "{",
  no_custom_id: '{"url": "/v1/completions", "body": {}}',
  same_custom_id: exampleLine("m"),
  no_url: '{"custom_id": "b", "url": "completions", "body": {}}',
  other_url: '{"custom_id": "b", "url": "/v1/completions", "body": {}}',
  no_body: '{"custom_id": "b", "url": "/v1/chat/completions"}',
})) {
  test(`the line at fault is named: ${kind}`, () => {
    expect(checkBatchFile(`${exampleLine("m")}\n${line}`).fault).toEqual({ line: 2, kind });
  });
}
