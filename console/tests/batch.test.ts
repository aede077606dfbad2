import { expect, expectAccessible, expectFits, modelName, signIn, test } from "./harness";

function line(custom_id: string, max_tokens = 3): string {
  const body = { model: modelName, messages: [{ role: "user", content: "Hello" }], max_tokens };
  return JSON.stringify({ custom_id, method: "POST", url: "/v1/chat/completions", body });
}

test("a file of requests becomes a file of answers", async ({ page, lockedServer }) => {
  await signIn(page, lockedServer, "dan");
  await page.goto(`${lockedServer.url}/#/batch`);
  await expect(page.getByRole("heading", { name: "There are no jobs yet" })).toBeVisible();
  await expectAccessible(page);
  await page.getByRole("button", { name: "Create a job" }).first().click();
  const dialog = page.getByRole("dialog", { name: "Create a job" });
  const file = dialog.getByLabel("File of requests");
  const give = (text: string): Promise<void> =>
    file.setInputFiles({ name: "requests.jsonl", mimeType: "application/jsonl", buffer: Buffer.from(text) });
  await give(`${line("a")}\n{"custom_id": "b"}\n`);
  await expect(dialog).toContainText("Line 2: url must be a route");
  await expect(dialog.getByRole("button", { name: "Create" })).toBeDisabled();
  await give([line("a"), line("b"), line("c", 5)].join("\n"));
  await expect(dialog).toContainText("3 requests for /v1/chat/completions");
  await dialog.getByRole("button", { name: "Create" }).click();

  const row = page.getByRole("row", { name: /\/v1\/chat\/completions/ });
  await expect(row).toContainText("finished", { timeout: 40_000 });
  await expect(row).toContainText("3 of 3");
  await expectAccessible(page);
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    row.getByRole("link", { name: /^Download the results/ }).click(),
  ]);
  const text = Buffer.concat((await (await download.createReadStream()).toArray()) as Buffer[]).toString();
  const answers = text.trim().split("\n").map((each) => JSON.parse(each) as { custom_id: string });
  expect(answers.map((answer) => answer.custom_id).sort()).toEqual(["a", "b", "c"]);
  await page.setViewportSize({ width: 360, height: 700 });
  await expectFits(page);
});
