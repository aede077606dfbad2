// The stand-in for model hubs that the integration tests have, in a process of its own.
import { spawn } from "node:child_process";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const root = resolve(import.meta.dirname, "../..");

// "org/tiny" comes at once, and "org/slow" takes minutes.
const program = `
import pathlib, random, sys
sys.path.insert(0, sys.argv[1])
from stand_in import Hub
hub = Hub()
hub.add("org/tiny", "tiny-F32.gguf", pathlib.Path(sys.argv[2]).read_bytes())
hub.add("org/slow", "slow-Q8_0.gguf", random.Random(1).randbytes(20_000_000), pause_s=0.5)
print(hub.url(), flush=True)
sys.stdin.read()
hub.close()
`;

export interface Hub {
  url: string;
  stop(): Promise<void>;
}

export async function startHub(): Promise<Hub> {
  const words = ["-c", program, join(root, "tests/integration/hub"), join(root, "tests/goldens/llama-f32.gguf")];
  const hub = spawn("python3", words, { stdio: ["pipe", "pipe", "inherit"] });
  const url = await new Promise<string>((done, reject) => {
    createInterface(hub.stdout).once("line", done);
    hub.once("exit", (code) => reject(new Error(`the hub ended with ${String(code)}`)));
  });
  return {
    url,
    stop: async () => {
      const ended = new Promise((done) => hub.once("exit", done));
      hub.stdin.end();
      await ended;
    },
  };
}
