import { expect, expectAccessible, expectFits, modelName, Server, signIn, test as shared } from "./harness";

const test = shared.extend<{ server: Server }>({
  server: async ({}, use) => {
    const server = await Server.start();
    await server.addUser("ann", "owner");
    await use(server);
    await server.stop();
  },
});

test("a version takes over little by little, and is taken back", async ({ page, server }) => {
  test.slow();
  await signIn(page, server, "ann");
  await page.goto(`${server.url}/#/endpoints`);
  await expect(page.getByRole("heading", { name: "There are no endpoints yet" })).toBeVisible();
  await page.getByRole("button", { name: "Create an endpoint" }).first().click();
  const dialog = page.getByRole("dialog", { name: "Create an endpoint" });
  await dialog.getByLabel("Name").fill(modelName);
  await dialog.getByLabel("Most tokens").fill("4");
  await dialog.getByRole("button", { name: "Create" }).click();
  await expect(dialog.getByRole("alert")).toContainText("name of a model"); // The name is taken.
  await dialog.getByLabel("Name").fill("support");
  await expectAccessible(page);
  await dialog.getByRole("button", { name: "Create" }).click();

  const card = page.getByRole("region", { name: "support", exact: true });
  await expect(card.getByRole("row", { name: /^1 100 %/ })).toContainText(modelName);
  await expect(card).toContainText("There is one version");
  await card.getByRole("button", { name: "Add a version of support" }).click();
  const second = page.getByRole("dialog", { name: "Add a version of support" });
  await second.getByLabel("System prompt").fill("Be short.");
  await second.getByRole("button", { name: "Add" }).click();
  await expect(card.getByRole("row", { name: /^2 0 %/ })).toContainText("Be short.");

  const slider = card.getByRole("slider", { name: "Share of version 2 of support" });
  const apply = card.getByRole("button", { name: "Apply the shares of support" });
  await expect(apply).toBeDisabled();
  await slider.fill("22");
  for (let step = 0; step < 3; ++step) await slider.press("ArrowRight");
  await expect(card).toContainText("75 % for version 1, 25 % for version 2");
  await apply.click();
  await expect(card.getByRole("row", { name: /^2 25 %/ })).toBeVisible();
  await expectAccessible(page);

  await card.getByRole("button", { name: "Roll back support" }).click();
  await expect(card.getByRole("row", { name: /^1 100 %/ })).toBeVisible();

  await card.getByRole("link", { name: "Chat with support" }).click();
  await expect(page.getByRole("combobox", { name: "Model" })).toHaveValue("support");
  const answered = page.waitForResponse("**/v1/chat/completions");
  await page.getByRole("textbox", { name: "Question" }).fill("Hello");
  await page.keyboard.press("Enter");
  expect((await answered).status()).toBe(200);

  await page.goto(`${server.url}/#/endpoints`);
  await card.getByRole("button", { name: "Disable support" }).click();
  await expect(card).toContainText("disabled");
  await page.setViewportSize({ width: 360, height: 700 });
  await expectFits(page);
  await card.getByRole("button", { name: "Delete support" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await expect(page.getByRole("heading", { name: "There are no endpoints yet" })).toBeVisible();
});
