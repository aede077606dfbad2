// What the tests in a browser share: servers of a small model of random weights, pages that must not fail, axe.
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { expect, test as plain, type Page } from "@playwright/test";

const root = resolve(import.meta.dirname, "../..");
const binary = process.env["RIDGE_BINARY"] ?? join(root, "build/release/ridge");
const model = join(root, "tests/goldens/llama-f32.gguf"); // of 128 tokens of context
export const modelName = "llama-f32";
export const password = "correct horse battery";

/** A `ridge serve` with a data folder of its own, on a free port. */
export class Server {
  private constructor(
    private readonly process: ChildProcess,
    private readonly folder: string,
    readonly url: string,
    readonly setUpToken: string,
  ) {}

  static async start(options: string[] = [], variables: Record<string, string> = {}): Promise<Server> {
    const folder = mkdtempSync(join(tmpdir(), "ridge-console-"));
    const command = ["serve", model, "--port", "0", "--json", "--threads", "1", ...options];
    const environment = Object.entries(process.env).filter(([name]) => !name.startsWith("RIDGE_"));
    const server = spawn(binary, command, {
      env: { ...Object.fromEntries(environment), ...variables, RIDGE_HOME: folder },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let log = "";
    server.stderr.on("data", (text: Buffer) => (log += text.toString()));
    const greeting = await new Promise<string>((resolveLine, reject) => {
      createInterface(server.stdout).once("line", resolveLine);
      server.once("error", reject);
      server.once("exit", (code) => reject(new Error(`ridge serve ended with ${code}: ${log}`)));
    });
    const { url, set_up_token } = JSON.parse(greeting) as { url?: string; set_up_token?: string };
    if (!url) throw new Error(`ridge serve said: ${greeting}`);
    return new Server(server, folder, url, set_up_token ?? "");
  }

  /** Runs `ridge WORDS` on the server's data folder. */
  async ridge(words: string[], input = ""): Promise<void> {
    const command = spawn(binary, words, {
      env: { ...process.env, RIDGE_HOME: this.folder },
      stdio: ["pipe", "ignore", "pipe"],
    });
    let log = "";
    command.stderr.on("data", (text: Buffer) => (log += text.toString()));
    command.stdin.on("error", () => {}); // Of a command that ends without reading; its status tells whether it failed.
    command.stdin.end(input);
    const code = await new Promise((done) => command.once("exit", done));
    if (code !== 0) throw new Error(`ridge ${words.join(" ")} ended with ${String(code)}: ${log}`);
  }

  /** Makes a person who can sign in with `password`. */
  async addUser(name: string, role: string): Promise<void> {
    await this.ridge(["user", "create", name, "--role", role]);
    await this.ridge(["user", "password", name], `${password}\n`);
  }

  async stop(): Promise<void> {
    const ended = new Promise((done) => this.process.once("exit", done));
    this.process.kill("SIGTERM");
    await ended;
    rmSync(this.folder, { recursive: true, force: true });
  }
}

interface Fixtures {
  page: Page; // which fails the test where the page throws or breaks the content security policy
}

interface WorkerFixtures {
  openServer: Server; // --no-auth
  lockedServer: Server; // with ann (owner), dan (developer) and vic (viewer)
}

export const test = plain.extend<Fixtures, WorkerFixtures>({
  openServer: [
    async ({}, use) => {
      const server = await Server.start(["--no-auth"]);
      await use(server);
      await server.stop();
    },
    { scope: "worker" },
  ],
  lockedServer: [
    async ({}, use) => {
      const server = await Server.start();
      for (const [name, role] of [["ann", "owner"], ["dan", "developer"], ["vic", "viewer"]] as const) {
        await server.addUser(name, role);
      }
      await use(server);
      await server.stop();
    },
    { scope: "worker" },
  ],
  page: async ({ page }, use) => {
    const failures: string[] = [];
    page.on("pageerror", (error) => failures.push(error.message));
    page.on("console", (message) => {
      const isPolicy = /Content Security Policy|Refused to/.test(message.text());
      if (message.type() === "error" && isPolicy) failures.push(message.text());
    });
    await use(page);
    expect(failures, "what the page complained of").toEqual([]);
  },
});

export { expect };

export async function signIn(page: Page, server: Server, name: string): Promise<void> {
  await page.goto(`${server.url}/#/login`);
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await expect(page.getByRole("navigation", { name: "Pages" })).toBeVisible();
}

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

interface AxeResults {
  violations: { id: string; impact: string; help: string; nodes: { html: string; failureSummary: string }[] }[];
}

/** Checks what is shown by axe; serious and critical faults fail. */
export async function expectAccessible(page: Page): Promise<void> {
  // Half-faded colours are no fault.
  await page.evaluate(() => Promise.all(document.getAnimations().map((animation) => animation.finish())));
  await page.evaluate(axe);
  const results = await page.evaluate(
    () => (globalThis as unknown as { axe: { run(): Promise<AxeResults> } }).axe.run(),
  );
  const faults = results.violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, help, nodes }) => ({ id, help, at: nodes.map((node) => node.html.slice(0, 200)) }));
  expect(faults).toEqual([]);
}

/** No part of the page is wider than the screen. */
export async function expectFits(page: Page): Promise<void> {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  expect(wide).toBeLessThanOrEqual(0);
}
