import { expect, expectAccessible, expectFits, test } from "./harness";

for (const { theme, language, title, narrow } of [
  { theme: "light", language: "en", title: "Pages", narrow: false },
  { theme: "dark", language: "zh", title: "页面", narrow: true },
] as const) {
  test(`every page can be used: ${theme}, ${language}`, async ({ page, openServer }) => {
    test.slow();
    await page.goto(`${openServer.url}/#/settings`);
    await page.evaluate((value) => localStorage.setItem("ridge.theme", value), theme);
    await page.evaluate((value) => localStorage.setItem("ridge.language", value), language);
    await page.reload();
    const links = page.getByRole("navigation", { name: title }).getByRole("link");
    const addresses = await links.evaluateAll((all) => all.map((link) => (link as HTMLAnchorElement).href));
    expect(addresses.length).toBeGreaterThan(3);
    if (narrow) await page.setViewportSize({ width: 360, height: 700 });
    for (const address of addresses) {
      await page.goto(address);
      await expect(page.locator("main")).not.toContainText(/Loading…|加载中…/);
      await expect(page.locator("main [role=alert]")).toHaveCount(0);
      await expectAccessible(page);
      await expectFits(page);
    }
  });
}
