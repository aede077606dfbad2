import { expect, expectAccessible, password, Server, signIn, test } from "./harness";

test("the link that a new server prints makes the owner, once", async ({ page }) => {
  const server = await Server.start();
  try {
    await page.goto(`${server.url}/#/set-up?token=${server.setUpToken}`);
    await expect(page.getByRole("heading", { name: "Set up Ridgeline" })).toBeVisible();
    expect(page.url()).not.toContain(server.setUpToken);
    await expectAccessible(page);
    await page.getByLabel("Your name").fill("ann");
    await page.getByLabel("Password", { exact: true }).fill(password);
    await page.getByLabel("Password again").fill("another one");
    await expect(page.getByText("The two passwords differ.")).toBeVisible();
    await page.getByLabel("Password again").fill(password);
    await page.getByRole("button", { name: "Set up" }).click();
    await expect(page.getByText("Owner")).toBeVisible();
    await expect(page.getByRole("link", { name: "Chat", exact: true })).toBeVisible();

    await page.getByRole("button", { name: "Sign out" }).click();
    await expect(page.getByRole("heading", { name: "Sign in" })).toBeVisible();
    await expect(page.getByText("I have a set-up token")).toBeHidden();
  } finally {
    await server.stop();
  }
});

test("a wrong set-up token is refused in the server's words", async ({ page }) => {
  const server = await Server.start();
  try {
    await page.goto(`${server.url}/`); // Without a link, the token is typed.
    await page.getByLabel("Set-up token").fill("rgs_wrong");
    await page.getByLabel("Your name").fill("ann");
    await page.getByLabel("Password", { exact: true }).fill(password);
    await page.getByLabel("Password again").fill(password);
    await page.getByRole("button", { name: "Set up" }).click();
    await expect(page.getByRole("alert")).toContainText("this link is used up or too old");
    await page.getByRole("link", { name: "I have a password already" }).click();
    await expect(page.getByRole("heading", { name: "Sign in" })).toBeVisible();
  } finally {
    await server.stop();
  }
});

test("one signs in, stays signed in, changes the password and signs out", async ({ page, lockedServer }) => {
  await lockedServer.addUser("eve", "developer");
  await page.goto(`${lockedServer.url}/`);
  await expectAccessible(page);
  await page.getByLabel("Name").fill("eve");
  await page.getByLabel("Password").fill("not the password");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("alert")).toBeVisible();
  await expect(page.getByLabel("Password")).toHaveValue("");

  await signIn(page, lockedServer, "eve");
  await page.reload();
  await expect(page.getByTitle("eve")).toBeVisible();

  await page.getByRole("link", { name: "Settings" }).click();
  await page.getByLabel("Old password").fill(password);
  await page.getByLabel("New password", { exact: true }).fill("a password that is new");
  await page.getByLabel("New password again").fill("a password that is new");
  await page.getByRole("button", { name: "Change password" }).click();
  await expect(page.getByText("The password is changed.")).toBeVisible();

  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Name").fill("eve");
  await page.getByLabel("Password").fill("a password that is new");
  await page.keyboard.press("Enter");
  await expect(page.getByTitle("eve")).toBeVisible();
});

test("a sign-in that the provider refused says why", async ({ page, lockedServer }) => {
  await page.goto(`${lockedServer.url}/#/login?error=${encodeURIComponent("nobody is called zoe here")}`);
  await expect(page.getByRole("alert")).toContainText("nobody is called zoe here");
  await expect(page.getByRole("link", { name: "Sign in with your organisation" })).toBeHidden(); // none is set up
});

test("where a provider is set up, there is a way to it", async ({ page, lockedServer }) => {
  await page.route("**/api/v1/session", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ json: { ...((await response.json()) as object), oidc: true } });
  });
  await page.goto(`${lockedServer.url}/`);
  const link = page.getByRole("link", { name: "Sign in with your organisation" });
  await expect(link).toHaveAttribute("href", "/api/v1/oidc/start");
  await expectAccessible(page);
});

test("a session that ends elsewhere leads back to the sign-in", async ({ page, lockedServer }) => {
  await signIn(page, lockedServer, "dan");
  await expect(page.getByRole("combobox", { name: "Model" })).toBeVisible();
  await page.context().clearCookies();
  await page.getByRole("link", { name: "Playground" }).click();
  await expect(page.getByRole("heading", { name: "Sign in" })).toBeVisible();
});

test("each role sees its own pages", async ({ page, lockedServer }) => {
  await signIn(page, lockedServer, "vic");
  await expect(page.getByRole("link", { name: "Chat" })).toBeHidden();
  await page.goto(`${lockedServer.url}/#/chat`);
  await expect(page.getByRole("heading", { name: "Not for your role" })).toBeVisible();
  await page.goto(`${lockedServer.url}/#/nonsense`);
  await expect(page.getByRole("heading", { name: "There is no such page" })).toBeVisible();
  await expectAccessible(page);
  await page.getByRole("button", { name: "Sign out" }).click();
  await signIn(page, lockedServer, "dan");
  await expect(page.getByRole("link", { name: "Chat", exact: true })).toBeVisible();
});
