import { expect, expectAccessible, expectFits, modelName, Server, signIn, test as shared } from "./harness";
import { startHub } from "./hub";

const test = shared.extend<{ server: Server }>({
  server: async ({}, use) => {
    const hub = await startHub();
    const server = await Server.start([], { HF_ENDPOINT: hub.url });
    await server.addUser("ann", "owner");
    await server.addUser("vic", "viewer");
    await use(server);
    await server.stop();
    await hub.stop();
  },
});

test("a model is pulled, with progress, and asked without a restart", async ({ page, server }) => {
  await signIn(page, server, "ann");
  await page.goto(`${server.url}/#/catalog`);
  const own = page.getByRole("row", { name: new RegExp(modelName) });
  await expect(own).toContainText("served");
  await expect(own).toContainText("fits");
  await expectAccessible(page);

  await page.getByRole("button", { name: "Pull another" }).click();
  const dialog = page.getByRole("dialog", { name: "Pull a model" });
  await dialog.getByLabel("Name").fill("no such model");
  await dialog.getByRole("button", { name: "Pull" }).click();
  await expect(dialog.getByRole("alert")).toContainText("no such model");
  await dialog.getByLabel("Name").fill("hf:org/tiny:F32");
  await dialog.getByRole("button", { name: "Pull" }).click();
  await expect(page.getByText("hf:org/tiny:F32 is served now")).toBeVisible();
  const row = page.getByRole("row", { name: /hf:org\/tiny:F32/ });
  await expect(row).toContainText("served");

  await row.getByRole("link", { name: "Chat with hf:org/tiny:F32" }).click();
  await expect(page.getByRole("combobox", { name: "Model" })).toHaveValue("hf:org/tiny:F32");
  const answered = page.waitForResponse("**/v1/chat/completions");
  await page.getByRole("textbox", { name: "Question" }).fill("Hello");
  await page.keyboard.press("Enter");
  expect((await answered).status()).toBe(200);
  // To its end: a model that answers is not removed.
  await expect(page.getByRole("article", { name: "Answer" })).toContainText(/\d+ tokens?/);

  await page.goto(`${server.url}/#/catalog`);
  await expect(page.getByRole("button", { name: `Remove ${modelName}` })).toHaveCount(0); // It was named at the start.
  const remove = page.getByRole("button", { name: "Remove hf:org/tiny:F32" });
  await remove.click();
  const question = page.getByRole("dialog", { name: "Remove hf:org/tiny:F32?" });
  await expect(question).toContainText("deleted");
  await expectAccessible(page);
  await question.getByRole("button", { name: "Cancel" }).click();
  await expect(row).toContainText("served");
  await remove.click();
  await question.getByRole("button", { name: "Remove" }).click();
  await expect(page.getByText(/hf:org\/tiny:F32 is removed, .* freed/)).toBeVisible();
  await expect(row).toHaveCount(0);
  await page.goto(`${server.url}/#/audit`);
  await expect(page.getByRole("row", { name: /hf:org\/tiny:F32/ }).first()).toContainText("user:ann");
});

test("a download can be cancelled, and is only for admins", async ({ page, server }) => {
  await signIn(page, server, "ann");
  await page.goto(`${server.url}/#/catalog`);
  await page.getByRole("button", { name: "Pull another" }).click();
  await page.getByRole("dialog").getByLabel("Name").fill("hf:org/slow:Q8_0");
  await page.getByRole("dialog").getByRole("button", { name: "Pull" }).click();
  const progress = page.getByRole("progressbar", { name: "Progress of hf:org/slow:Q8_0" });
  await expect(progress).toHaveAttribute("aria-valuenow", /^[1-9]/); // Some of it has come.
  await page.setViewportSize({ width: 360, height: 700 });
  await expectFits(page);
  await expectAccessible(page);
  await page.getByRole("button", { name: "Cancel the download of hf:org/slow:Q8_0" }).click();
  await expect(page.getByRole("region", { name: "Downloads" })).toContainText("cancelled");
  await expect(progress).toHaveCount(0);

  await page.setViewportSize({ width: 1280, height: 800 });
  await page.getByRole("button", { name: "Sign out" }).click();
  await signIn(page, server, "vic");
  await page.goto(`${server.url}/#/catalog`);
  await expect(page.getByRole("row", { name: new RegExp(modelName) })).toBeVisible();
  await expect(page.getByRole("button", { name: /Pull|Serve|Remove/ })).toHaveCount(0);
});

test("the engine's figures move with what it does", async ({ page, openServer }) => {
  await page.goto(`${openServer.url}/#/engine`);
  const plot = page.getByRole("slider", { name: `Tokens a second, ${modelName}` });
  await expect(plot).toBeVisible();
  await page.locator("summary").click();
  const figures = page.getByRole("region", { name: "Figures" });
  const total = async (): Promise<number> =>
    Number((await figures.getByRole("cell").nth(4).innerText()).replaceAll(",", ""));
  const before = await total();
  for (let count = 0; count < 3; ++count) {
    const body = { model: modelName, messages: [{ role: "user", content: "Hi" }], max_tokens: 40, min_tokens: 40 };
    await fetch(`${openServer.url}/v1/chat/completions`, { method: "POST", body: JSON.stringify(body) });
  }
  await expect.poll(total).toBe(before + 120);
  // Of some second of the last ones, a rate above 0 was drawn.
  await plot.focus();
  await page.keyboard.press("End");
  const rates: string[] = [];
  for (let second = 0; second < 8; ++second) {
    rates.push((await plot.getAttribute("aria-valuetext")) ?? "");
    await page.keyboard.press("ArrowLeft");
  }
  expect(rates.some((text) => /Answers [1-9]/.test(text)), rates.join("\n")).toBe(true);
  await expectAccessible(page);
  await page.setViewportSize({ width: 360, height: 700 });
  await expectFits(page);
});

test("requests say why they wait, and what happened to them", async ({ page }) => {
  const server = await Server.start(["--no-auth", "--max-sequences", "1"]);
  const ended = new AbortController();
  try {
    await page.goto(`${server.url}/#/requests`);
    await expect(page.getByRole("heading", { name: "Nothing is at work" })).toBeVisible();
    await expectAccessible(page);
    const body = { model: modelName, messages: [{ role: "user", content: "Hi" }], max_tokens: 100, min_tokens: 100 };
    const ask = async (): Promise<void> => {
      while (!ended.signal.aborted) {
        const answer = await fetch(`${server.url}/v1/chat/completions`, { method: "POST", body: JSON.stringify(body) });
        await answer.arrayBuffer();
      }
    };
    const clients = Array.from({ length: 6 }, ask);
    await expect(page.getByRole("cell", { name: "a place in the batch" }).first()).toBeVisible();
    ended.abort();
    await Promise.all(clients);
    await page.reload();
    const own = page.getByRole("region", { name: "Your recent requests" });
    await own.getByRole("button", { name: /^Events of/ }).first().click();
    const events = page.getByRole("dialog");
    await expect(events).toContainText("first token");
    await expect(events).toContainText("100 tokens, reached its length");
    await expectAccessible(page);
  } finally {
    ended.abort();
    await server.stop();
  }
});
