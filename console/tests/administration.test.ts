import type { Page } from "@playwright/test";
import { expect, expectAccessible, expectFits, modelName, password, Server, signIn, test as shared } from "./harness";

// What is changed here would be in the way of others.
const test = shared.extend<{ server: Server }>({
  server: async ({}, use) => {
    const server = await Server.start();
    await server.addUser("ann", "owner");
    await use(server);
    await server.stop();
  },
});

async function ask(server: Server, key: string, max_tokens = 3): Promise<{ status: number; total_tokens: number }> {
  const answer = await fetch(`${server.url}/v1/chat/completions`, {
    method: "POST",
    headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
    body: JSON.stringify({ model: modelName, messages: [{ role: "user", content: "Hello" }], max_tokens }),
  });
  const { usage } = (await answer.json()) as { usage?: { total_tokens: number } };
  return { status: answer.status, total_tokens: usage?.total_tokens ?? 0 };
}

async function createKey(page: Page, server: Server, name: string): Promise<string> {
  await page.goto(`${server.url}/#/keys`);
  await page.getByRole("button", { name: "Create a key" }).first().click();
  const dialog = page.getByRole("dialog", { name: "Create a key" });
  await dialog.getByLabel("Name").fill(name);
  await dialog.getByRole("button", { name: "Create" }).click();
  const shown = page.getByRole("dialog", { name: `The key ${name}` });
  const key = await shown.getByLabel("Key", { exact: true }).innerText();
  await shown.getByRole("button", { name: "Close" }).last().click();
  await expect(shown).toBeHidden();
  return key;
}

test("a key is created and shown once, works, is rotated and revoked", async ({ page, server, context }) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await signIn(page, server, "ann");
  await page.goto(`${server.url}/#/keys`);
  await expect(page.getByRole("heading", { name: "There are no keys yet" })).toBeVisible();

  await page.getByRole("button", { name: "Create a key" }).first().click();
  const dialog = page.getByRole("dialog", { name: "Create a key" });
  const create = dialog.getByRole("button", { name: "Create" });
  await expect(create).toBeDisabled();
  await dialog.getByLabel("Name").fill("laptop");
  await dialog.getByLabel("Models", { exact: true }).fill(`${modelName}, other:1b`);
  await dialog.getByLabel("Addresses").fill("127.0.0.0/8 nonsense");
  await dialog.getByLabel("Works for").selectOption({ label: "30 days" });
  await create.click();
  await expect(dialog.getByRole("alert")).toContainText("nonsense"); // The server's words; the dialog stays.
  await dialog.getByLabel("Addresses").fill("127.0.0.0/8");
  await expectAccessible(page);
  await create.click();

  const shown = page.getByRole("dialog", { name: "The key laptop" });
  const key = await shown.getByLabel("Key", { exact: true }).innerText();
  expect(key).toMatch(/^rgk_/);
  await shown.getByRole("button", { name: "Copy" }).first().click();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(key);
  await expectAccessible(page);
  expect((await ask(server, key)).status).toBe(200);
  await shown.getByRole("button", { name: "Close" }).last().click();
  await expect(page.getByText(key)).toHaveCount(0);
  const row = page.getByRole("row", { name: /laptop/ });
  await expect(row).toContainText("other:1b");
  await expect(row).toContainText("127.0.0.0/8");
  await expect(row).not.toContainText("never");

  await row.getByRole("button", { name: "Rotate the key laptop" }).click();
  const rotation = page.getByRole("dialog", { name: "Rotate the key laptop" });
  await rotation.getByLabel("The old one works for").selectOption({ label: "1 more hour" });
  await rotation.getByRole("button", { name: "Rotate" }).click();
  const second = await page.getByRole("dialog", { name: "The key laptop" }).getByLabel("Key", { exact: true }).innerText();
  await page.getByRole("dialog").getByRole("button", { name: "Close" }).last().click();
  expect(second).not.toBe(key);
  expect((await ask(server, key)).status).toBe(200); // For an hour more.
  expect((await ask(server, second)).status).toBe(200);
  await expect(page.getByText("replaced, ends soon")).toBeVisible();

  const works = page.getByRole("row", { name: /laptop.*works/ });
  await works.getByRole("button", { name: "Revoke the key laptop" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
  await expect(page.getByText("laptop is revoked")).toBeVisible();
  await expect.poll(async () => (await ask(server, second)).status).toBe(401);
  await page.getByLabel("Show keys that have ended").check();
  await expect(page.getByRole("cell", { name: "revoked" })).toBeVisible();
  await page.setViewportSize({ width: 360, height: 700 });
  await expectFits(page);
});

test("a quota that is reached is told in the chat, and one that is taken away is not", async ({ page, server }) => {
  await signIn(page, server, "ann");
  await page.goto(`${server.url}/#/limits`);
  await page.getByRole("button", { name: "Set a limit" }).first().click();
  const dialog = page.getByRole("dialog", { name: "Set a limit" });
  await dialog.getByLabel("For").selectOption("default");
  await dialog.getByLabel("Limit").selectOption("tokens_per_day");
  await dialog.getByLabel("At most").fill("1");
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(page.getByRole("row", { name: /default.*Tokens a day.*1/ })).toBeVisible();
  await expectAccessible(page);

  await page.goto(`${server.url}/#/chat`);
  const refused = page.waitForResponse("**/v1/chat/completions");
  await page.getByRole("textbox", { name: "Question" }).fill("Hello");
  await page.keyboard.press("Enter");
  expect((await refused).status()).toBe(402);
  await expect(page.getByRole("alert")).toContainText("tokens");

  await page.goto(`${server.url}/#/limits`);
  await page.getByRole("button", { name: "Remove Tokens a day of default" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await expect(page.getByRole("heading", { name: "Nothing is limited" })).toBeVisible();
  await page.goto(`${server.url}/#/chat`);
  const answered = page.waitForResponse("**/v1/chat/completions");
  await page.getByRole("textbox", { name: "Question" }).fill("Hello");
  await page.keyboard.press("Enter");
  expect((await answered).status()).toBe(200);
});

test("a speed that is reached is told in the chat, with when to try again", async ({ page, server }) => {
  await server.ridge(["limit", "set", "--project", "default", "--requests-per-minute", "1"]);
  await signIn(page, server, "ann");
  const ask = async (text: string): Promise<number> => {
    const answered = page.waitForResponse("**/v1/chat/completions");
    await page.getByRole("textbox", { name: "Question" }).fill(text);
    await page.keyboard.press("Enter");
    return (await answered).status();
  };
  expect(await ask("Hello")).toBe(200);
  await page.getByRole("link", { name: "New chat" }).click(); // The model's context is small.
  expect(await ask("Again")).toBe(429);
  await expect(page.getByRole("alert")).toHaveText(
    /^the limit .*\b1 request a minute\b.* is reached\. Try again in \d+ seconds\.$/,
  );
  await expectAccessible(page);
});

test("who may act for several projects picks one, and sees what is its own", async ({ page, server }) => {
  await server.addUser("dan", "developer");
  await server.ridge(["project", "create", "研究"]);
  await server.ridge(["project", "members", "研究", "add", "dan"]);
  await signIn(page, server, "ann"); // Admins may act for all.
  await expect(page.getByRole("combobox", { name: "Acting for the project" }).getByRole("option")).toHaveCount(2);
  await page.getByRole("button", { name: "Sign out" }).click();

  await signIn(page, server, "dan");
  const picker = page.getByRole("combobox", { name: "Acting for the project" });
  await expect(picker).toHaveValue("default");
  await picker.selectOption("研究");
  await expectAccessible(page);
  const answered = page.waitForResponse("**/v1/chat/completions");
  await page.getByRole("textbox", { name: "Question" }).fill("Hello");
  await page.keyboard.press("Enter");
  expect((await answered).status()).toBe(200);
  // To its end: the page of usage is loaded once, and leaving the chat stops the answer.
  await expect(page.getByRole("article", { name: "Answer" })).toContainText(/\d+ tokens?/);
  await page.getByRole("link", { name: "Usage", exact: true }).click();
  await expect(page.getByRole("region", { name: "Sums" }).getByRole("row", { name: new RegExp(modelName) })).toBeVisible();
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "Download CSV" }).click(),
  ]);
  const csv = await (await download.createReadStream()).toArray();
  expect(Buffer.concat(csv as Buffer[]).toString()).toContain(modelName);
  await page.reload();
  await expect(picker).toHaveValue("研究");
  await picker.selectOption("default");
  await expect(page.getByRole("heading", { name: "Nothing was used in this time" })).toBeVisible();

  // No longer dan's.
  await picker.selectOption("研究");
  await expect(page.getByRole("region", { name: "Sums" })).toBeVisible();
  await server.ridge(["project", "members", "研究", "remove", "dan"]);
  await page.getByRole("link", { name: "API keys" }).click();
  await expect(picker).toHaveCount(0);
});

test("what was used is plotted, stands in tables and can be downloaded", async ({ page, server }) => {
  await signIn(page, server, "ann");
  await page.goto(`${server.url}/#/usage`);
  await expect(page.getByRole("heading", { name: "Nothing was used in this time" })).toBeVisible();
  await expectAccessible(page);

  await page.goto(`${server.url}/#/limits`);
  await page.getByRole("button", { name: "Set a price" }).click();
  const dialog = page.getByRole("dialog", { name: "Set a price" });
  await dialog.getByLabel("Prompt", { exact: true }).fill("1000000");
  await dialog.getByLabel("Answer").fill("1000000");
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(page.getByRole("row", { name: /All other models/ })).toBeVisible();

  const [first, second] = [await createKey(page, server, "first"), await createKey(page, server, "second")];
  const small = (await ask(server, first)).total_tokens;
  const large = (await ask(server, second, 9)).total_tokens + (await ask(server, second, 9)).total_tokens;
  expect(small).toBeGreaterThan(0);
  expect(large).toBeGreaterThan(small);

  await page.goto(`${server.url}/#/usage`);
  await page.getByLabel("By", { exact: true }).selectOption({ label: "Key or user" });
  const plot = page.getByRole("slider", { name: "Tokens a day, by key or user" });
  await expect(plot).toHaveAttribute("aria-valuetext", new RegExp(`; second ${large}; first ${small}$`));
  await expect(plot.locator("rect")).toHaveCount(2);
  // By keys alone: the day before has nothing.
  await plot.focus();
  await page.keyboard.press("ArrowLeft");
  await expect(plot).toHaveAttribute("aria-valuetext", /; second 0; first 0$/);
  await page.keyboard.press("End");
  await expect(plot).toHaveAttribute("aria-valuetext", new RegExp(`; second ${large};`));

  const row = page.getByRole("region", { name: "Sums" }).getByRole("row", { name: /^second/ });
  await expect(row).toContainText(`${large}.00`); // A token costs one.
  await page.getByLabel("Show").selectOption({ label: "Requests" });
  await expect(page.getByRole("slider")).toHaveAttribute("aria-valuetext", /; second 2; first 1$/);
  await page.getByText("Each day").click();
  await expect(page.getByRole("region", { name: "Requests a day" }).getByRole("row")).toHaveCount(31);
  await expectAccessible(page);

  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "Download CSV" }).click(),
  ]);
  expect(download.suggestedFilename()).toBe("usage.csv");
  const csv = await (await download.createReadStream()).toArray();
  expect(Buffer.concat(csv as Buffer[]).toString()).toMatch(/second/);

  await page.getByLabel("Time").selectOption({ label: "From … to …" });
  await page.getByLabel("Last day").fill("2020-01-01");
  await expect(page.getByText("The last day is before the first.")).toBeVisible();
  await page.setViewportSize({ width: 360, height: 700 });
  await expectFits(page);
});

test("users get roles, see what these allow, and end with being disabled", async ({ page, server, browser }) => {
  await signIn(page, server, "ann");
  await page.goto(`${server.url}/#/users`);
  await page.getByRole("button", { name: "Create a user" }).click();
  const dialog = page.getByRole("dialog", { name: "Create a user" });
  await dialog.getByLabel("Name").fill("eve");
  await dialog.getByLabel("Role").selectOption("viewer");
  await dialog.getByRole("button", { name: "Create" }).click();
  const secret = page.getByRole("dialog", { name: "Set the password of eve" });
  await secret.getByLabel("Password", { exact: true }).fill(password);
  await secret.getByRole("button", { name: "Save" }).click();
  await expect(page.getByText("The password of eve is set")).toBeVisible();
  await expectAccessible(page);

  const other = await browser.newContext({ locale: "en-US" });
  const theirs = await other.newPage();
  await signIn(theirs, server, "eve");
  const navigation = theirs.getByRole("navigation", { name: "Pages" });
  await expect(navigation.getByRole("link", { name: "Usage" })).toBeVisible();
  await expect(navigation.getByRole("link", { name: "API keys" })).toHaveCount(0);
  await theirs.goto(`${server.url}/#/users`);
  await expect(theirs.getByRole("heading", { name: "Not for your role" })).toBeVisible();

  await page.getByRole("combobox", { name: "Role of eve" }).selectOption("developer");
  await expect(page.getByText("eve is now: Developer")).toBeVisible();
  await theirs.goto(`${server.url}/#/keys`);
  await theirs.reload();
  await expect(theirs.getByRole("heading", { name: "There are no keys yet" })).toBeVisible();
  await expect(navigation.getByRole("link", { name: "Users" })).toHaveCount(0);

  await page.getByRole("button", { name: "Disable eve" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Disable" }).click();
  await expect(page.getByRole("row", { name: /eve/ })).toContainText("disabled");
  await theirs.reload();
  await expect(theirs.getByRole("button", { name: "Sign in", exact: true })).toBeVisible();
  await other.close();

  await page.goto(`${server.url}/#/audit`);
  await page.getByLabel("Find").fill("user:ann");
  const events = page.getByRole("region", { name: "Events" });
  await expect(events.getByRole("row").nth(1)).toContainText("user");
  // By the server, over all of the log.
  const asked = page.waitForResponse("**/api/v1/audit?*q=USER.CREATE*");
  await page.getByLabel("Find").fill("USER.CREATE");
  await asked;
  await expect(events.getByRole("row")).toHaveCount(3); // ann, and eve
  await page.getByLabel("Find").fill("");
  await expect(events.getByRole("row")).not.toHaveCount(3);
  await page.getByLabel("To").fill("2020-01-01");
  await expect(page.getByText("No event matches")).toBeVisible();
  await expectAccessible(page);
});

test("projects are made and weighted", async ({ page, server }) => {
  await signIn(page, server, "ann");
  await page.goto(`${server.url}/#/projects`);
  await expect(page.getByRole("heading", { name: "There is only the first project so far" })).toBeVisible();
  await page.getByRole("button", { name: "Create a project" }).first().click();
  const dialog = page.getByRole("dialog", { name: "Create a project" });
  await dialog.getByLabel("Name").fill("search");
  await dialog.getByLabel("Weight").fill("2.5");
  await dialog.getByRole("button", { name: "Create" }).click();
  const row = page.getByRole("row", { name: /search/ });
  await expect(row).toContainText("2.5");
  await row.getByRole("button", { name: "Change the weight of search" }).click();
  const change = page.getByRole("dialog", { name: "Change the weight of search" });
  await change.getByLabel("Weight").fill("1000");
  await change.getByRole("button", { name: "Save" }).click();
  await expect(change.getByRole("alert")).toContainText("100");
  await change.getByLabel("Weight").fill("3");
  await change.getByRole("button", { name: "Save" }).click();
  await expect(row).toContainText("3");
  await row.getByRole("link", { name: "Limits of search" }).click();
  await expect(page.getByText("Only search")).toBeVisible();
});

test("a project keeps prompts and answers, which are read and removed", async ({ page, server }) => {
  await signIn(page, server, "ann");
  await page.goto(`${server.url}/#/kept`);
  await expect(page.getByRole("heading", { name: "Nothing is kept" })).toBeVisible();
  const key = await createKey(page, server, "program");
  expect((await ask(server, key)).status).toBe(200);

  await page.goto(`${server.url}/#/projects`);
  const row = page.getByRole("row", { name: /default/ });
  await expect(row).toContainText("not kept");
  await row.getByRole("button", { name: "Keep prompts and answers of default" }).click();
  const dialog = page.getByRole("dialog", { name: "Keep prompts and answers of default" });
  await dialog.getByLabel("Keep what is asked and answered").check();
  await expect(dialog.getByText("Tell those who use it")).toBeVisible();
  await dialog.getByLabel("For how many days").fill("0");
  await expect(dialog.getByRole("button", { name: "Save" })).toBeDisabled();
  await dialog.getByLabel("For how many days").fill("7");
  await expectAccessible(page);
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(row).toContainText("7 days");

  // A server knows of the choice within a second.
  const list = page.getByRole("region", { name: "Requests, the latest first" });
  await expect(async () => {
    expect((await ask(server, key)).status).toBe(200);
    await page.goto(`${server.url}/#/kept`);
    await page.reload();
    await expect(list).toBeVisible({ timeout: 2000 });
  }).toPass();
  await expect(list.getByRole("row").nth(1)).toContainText("program");
  await expectFits(page);
  await list.getByRole("button", { name: /Read request/ }).first().click();
  const read = page.getByRole("dialog", { name: /Read request/ });
  await expect(read.locator("pre").first()).toHaveText("Hello");
  await expectAccessible(page);
  await read.getByRole("button", { name: "Close" }).last().click();
  await page.getByLabel("Key or person").fill("nobody");
  await expect(page.getByText("No request matches")).toBeVisible();
  // The fields stay while one types, until there is an answer.
  let answer = (): void => {};
  const held = new Promise<void>((done) => (answer = done));
  await page.route("**/api/v1/requests/kept?*", async (route) => {
    await held;
    await route.continue();
  });
  const asked = page.waitForRequest("**/api/v1/requests/kept?*");
  await page.getByLabel("Key or person").fill("");
  await asked;
  await expect(page.getByLabel("Key or person")).toBeFocused();
  answer();
  await expect(list).toBeVisible();
  for (const asks of ["chat", "playground"]) {
    await page.goto(`${server.url}/#/${asks}`);
    await page.reload();
    const note = page.getByText("The project default keeps what you write");
    await expect(note).toContainText("the organisation's admins can read it");
  }

  await page.goto(`${server.url}/#/audit`);
  await page.getByLabel("Find").fill("kept.read");
  await expect(page.getByRole("region", { name: "Events" }).getByRole("row").nth(1)).toContainText("user:ann");

  await page.goto(`${server.url}/#/projects`);
  await row.getByRole("button", { name: "Keep prompts and answers of default" }).click();
  await dialog.getByLabel("Keep what is asked and answered").uncheck();
  await expect(dialog.getByRole("alert")).toContainText("removed at once");
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(row).toContainText("not kept");
  await page.goto(`${server.url}/#/kept`);
  await expect(page.getByRole("heading", { name: "Nothing is kept" })).toBeVisible();
});

test("a project's admin manages its members and keys, and nothing of others", async ({ page, server, browser }) => {
  for (const name of ["dan", "eve"]) await server.addUser(name, "developer");
  await server.addUser("vic", "viewer");
  await server.addUser("adam", "admin");
  await server.ridge(["project", "create", "search"]);
  await signIn(page, server, "ann");
  await page.goto(`${server.url}/#/projects`);
  await page.getByRole("link", { name: "Members of search" }).click();
  await expect(page.getByRole("heading", { name: "Nobody is a member yet" })).toBeVisible();
  await expectAccessible(page);

  // By keys alone.
  await page.getByRole("button", { name: "Add a member" }).first().focus();
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog", { name: "Add a member" });
  await expect(dialog.getByLabel("User")).toBeFocused();
  await page.keyboard.type("nobody");
  await page.keyboard.press("Enter");
  await expect(dialog.getByRole("alert")).toContainText("nobody"); // The server's words; the dialog stays.
  await dialog.getByLabel("User").fill("dan");
  await dialog.getByLabel("Role in the project").selectOption("admin");
  await expectAccessible(page);
  await dialog.getByRole("button", { name: "Add" }).click();
  await expect(page.getByText("dan is a member now")).toBeVisible();
  await expect(page.getByRole("combobox", { name: "Role of dan in search" })).toHaveValue("admin");

  const other = await browser.newContext({ locale: "en-US" });
  const dans = await other.newPage();
  await signIn(dans, server, "dan");
  const navigation = dans.getByRole("navigation", { name: "Pages" });
  await expect(navigation.getByRole("link", { name: "Projects" })).toHaveCount(0);
  await dans.getByRole("combobox", { name: "Acting for the project" }).selectOption("search");
  await navigation.getByRole("link", { name: "Projects" }).click();
  await expect(navigation.getByRole("link", { name: "Limits" })).toHaveCount(0);
  await expect(navigation.getByRole("link", { name: "Users" })).toHaveCount(0);
  await expect(dans.getByRole("region", { name: "Projects" }).getByRole("row")).toHaveCount(2); // with the titles
  await expect(dans.getByRole("button", { name: "Remove the project search" })).toHaveCount(0);
  await dans.getByRole("link", { name: "Members of search" }).click();
  for (const [name, role] of [["eve", "developer"], ["vic", "viewer"], ["adam", "developer"]] as const) {
    await dans.getByRole("button", { name: "Add a member" }).first().click();
    const add = dans.getByRole("dialog", { name: "Add a member" });
    await add.getByLabel("User").fill(name);
    await add.getByLabel("Role in the project").selectOption(role);
    await add.getByRole("button", { name: "Add" }).click();
    await expect(dans.getByRole("row", { name: new RegExp(`^${name}`) })).toBeVisible();
  }
  // A viewer is no more anywhere.
  await expect(
    dans.getByRole("combobox", { name: "Role of vic in search" }).getByRole("option", { name: "Developer" }),
  ).toBeDisabled();
  await dans.getByRole("combobox", { name: "Role of eve in search" }).selectOption("viewer");
  await expect(dans.getByText("eve is now: Viewer")).toBeVisible();
  await dans.getByRole("combobox", { name: "Role of eve in search" }).selectOption("developer");
  await expect(dans.getByText("eve is now: Developer")).toBeVisible();
  await expectAccessible(dans);

  // A key in a member's name, which goes with the member.
  await navigation.getByRole("link", { name: "API keys" }).click();
  await dans.getByRole("button", { name: "Create a key" }).first().click();
  const create = dans.getByRole("dialog", { name: "Create a key" });
  await create.getByLabel("Name").fill("of-eve");
  // Keys of those who may do more are refused, and not offered.
  await expect(create.getByLabel("User").getByRole("option")).toHaveText(["", "dan", "eve", "vic"]);
  await create.getByLabel("User").selectOption("eve");
  await expect(create.getByLabel("Project")).toHaveCount(0);
  await create.getByRole("button", { name: "Create" }).click();
  const shown = dans.getByRole("dialog", { name: "The key of-eve" });
  const key = await shown.getByLabel("Key", { exact: true }).innerText();
  await shown.getByRole("button", { name: "Close" }).last().click();
  await expect(dans.getByRole("row", { name: /of-eve/ })).toContainText("eve");
  expect((await ask(server, key)).status).toBe(200);
  await dans.goto(`${server.url}/#/projects/search`);
  await dans.getByRole("button", { name: "Remove eve from search" }).click();
  await dans.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await expect(dans.getByText("eve is no member any more")).toBeVisible();
  await expect.poll(async () => (await ask(server, key)).status).toBe(401);

  // In Chinese, and on a narrow screen.
  await dans.getByRole("button", { name: "中文" }).click();
  await expect(dans.getByRole("heading", { name: "search 的成员" })).toBeVisible();
  await expect(dans.getByRole("combobox", { name: "dan 在 search 中的角色" })).toBeVisible();
  await dans.setViewportSize({ width: 360, height: 700 });
  await expectFits(dans);
  await other.close();

  const another = await browser.newContext({ locale: "en-US" });
  const adams = await another.newPage();
  await signIn(adams, server, "adam");
  await adams.goto(`${server.url}/#/keys`);
  await adams.getByRole("button", { name: "Create a key" }).first().click();
  const offered = adams.getByRole("dialog", { name: "Create a key" }).getByLabel("User").getByRole("option");
  await expect(offered).toHaveText(["", "adam", "dan", "eve", "vic"]);
  await another.close();
});

test("users and projects are removed, and their names inherit nothing", async ({ page, server }) => {
  await server.addUser("dan", "developer");
  await server.ridge(["project", "create", "search"]);
  await server.ridge(["key", "create", "k", "--project", "search"]);
  await signIn(page, server, "ann");
  await page.goto(`${server.url}/#/users`);
  const dan = page.getByRole("row", { name: /^dan/ });
  await expect(dan.getByRole("link", { name: "default" })).toBeVisible();
  await expect(page.getByRole("button", { name: "Remove ann" })).toHaveCount(0); // oneself, and the only owner
  await dan.getByRole("button", { name: "Remove dan" }).click();
  const question = page.getByRole("dialog", { name: "Remove dan" });
  await expect(question).toContainText("cannot be undone");
  await expectAccessible(page);
  await question.getByRole("button", { name: "Cancel" }).click();
  await expect(dan).toBeVisible();
  await dan.getByRole("button", { name: "Remove dan" }).click();
  await question.getByRole("button", { name: "Remove" }).click();
  await expect(dan).toHaveCount(0);

  await page.goto(`${server.url}/#/projects`);
  const picker = page.getByRole("combobox", { name: "Acting for the project" });
  await expect(picker.getByRole("option")).toHaveCount(2);
  await expect(page.getByRole("button", { name: "Remove the project default" })).toHaveCount(0);
  // Also the one that is acted for, on whose behalf nothing is asked for any more.
  await picker.selectOption("search");
  const refused: string[] = [];
  page.on("response", (answer) => answer.status() >= 400 && refused.push(`${answer.status()} ${answer.url()}`));
  await page.getByRole("button", { name: "Remove the project search" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await expect(page.getByText("The project search is gone")).toBeVisible();
  await expect(picker).toHaveCount(0);
  await expect(page.getByRole("heading", { name: "There is only the first project so far" })).toBeVisible();
  expect(refused).toEqual([]);
  await page.getByRole("button", { name: "Create a project" }).first().click();
  const dialog = page.getByRole("dialog", { name: "Create a project" });
  await dialog.getByLabel("Name").fill("search");
  await dialog.getByRole("button", { name: "Create" }).click();
  await page.getByRole("link", { name: "Members of search" }).click();
  await expect(page.getByRole("heading", { name: "Nobody is a member yet" })).toBeVisible();

  await page.goto(`${server.url}/#/projects/nowhere`);
  await expect(page.getByRole("alert")).toContainText("there is no project 'nowhere'"); // The server's words.
});
