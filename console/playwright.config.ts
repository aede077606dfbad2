import { existsSync } from "node:fs";
import { defineConfig } from "@playwright/test";

// The system's browser: nothing is downloaded.
const known = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const executablePath = process.env["CHROMIUM"] ?? known.find((path) => existsSync(path)) ?? known[0]!;

export default defineConfig({
  testDir: "tests",
  testMatch: "*.test.ts",
  outputDir: "../build/console-test-results",
  timeout: 60_000, // Machines may be loaded.
  expect: { timeout: 15_000 },
  fullyParallel: false,
  workers: 2,
  forbidOnly: true,
  reporter: "list",
  use: {
    locale: "en-US",
    screenshot: "only-on-failure",
    launchOptions: { executablePath, args: ["--disable-gpu"] },
  },
});
