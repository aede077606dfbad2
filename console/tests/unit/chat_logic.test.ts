import { expect, test } from "@playwright/test";
import {
  addTurn,
  chooseSibling,
  conversationOf,
  messagesOf,
  newConversation,
  readConversation,
  recordsOf,
  shownPath,
  titleOf,
} from "../../src/lib/conversation";
import { addressOf, placeOf } from "../../src/lib/place";
import { eventData } from "../../src/lib/sse";
import { filledTemplate, variablesOf } from "../../src/lib/template";

const words = (turns: { content: string }[]) => turns.map((turn) => turn.content);

test("a branch is shown from where it begins, and the other is still there", () => {
  const conversation = newConversation();
  const first = addTurn(conversation, null, { role: "user", content: "one" });
  addTurn(conversation, first.id, { role: "assistant", content: "answer one" });
  const edited = addTurn(conversation, null, { role: "user", content: "two" });
  addTurn(conversation, edited.id, { role: "assistant", content: "answer two" });
  expect(words(shownPath(conversation))).toEqual(["two", "answer two"]);
  chooseSibling(conversation, edited, -1);
  expect(words(shownPath(conversation))).toEqual(["one", "answer one"]);
  chooseSibling(conversation, first, -1); // There is none before it.
  expect(words(shownPath(conversation))).toEqual(["one", "answer one"]);
});

test("a conversation comes back from each of the places that keep it", () => {
  const conversation = newConversation();
  const turn = addTurn(conversation, null, { role: "user", content: "hello", attachments: [{ name: "a", text: "b" }] });
  addTurn(conversation, turn.id, { role: "assistant", content: "hi", stopped: true });
  conversation.sampling.temperature = 0.5;
  const sent: unknown = JSON.parse(JSON.stringify(recordsOf(conversation)));
  expect(conversationOf(sent)).toEqual(conversation);
  expect(readConversation(JSON.parse(JSON.stringify(conversation)))).toEqual(conversation);
  for (const other of [null, 1, {}, [], [{}], { version: 2, turns: [] }, { version: 1, turns: "x" }]) {
    expect(conversationOf(other), JSON.stringify(other)).toBeNull();
    expect(readConversation(other), JSON.stringify(other)).toBeNull();
  }
});

test("the model is told the system prompt, files in fences they cannot leave, and no reasoning", () => {
  const conversation = newConversation();
  const attachments = [{ name: "x.md", text: "````\ninside\n````\n" }];
  const question = addTurn(conversation, null, { role: "user", content: "why?", attachments });
  addTurn(conversation, question.id, { role: "assistant", content: "so", reasoning: "secret" });
  expect(messagesOf(" ", shownPath(conversation))[0]!.role).toBe("user");
  expect(messagesOf("be short", shownPath(conversation))).toEqual([
    { role: "system", content: "be short" },
    { role: "user", content: "File x.md:\n\n`````\n````\ninside\n````\n`````\n\nwhy?" },
    { role: "assistant", content: "so" },
  ]);
});

test("a title is one short line", () => {
  expect(titleOf("  first\nsecond")).toBe("first");
  expect(Array.from(titleOf("山".repeat(100)))).toHaveLength(48);
  expect(new TextEncoder().encode(titleOf("😀".repeat(100))).length).toBeLessThanOrEqual(200); // as the server allows
});

async function eventsOf(pieces: (string | Uint8Array)[]): Promise<string[]> {
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const piece of pieces) controller.enqueue(typeof piece === "string" ? encoder.encode(piece) : piece);
      controller.close();
    },
  });
  const found: string[] = [];
  for await (const data of eventData(body)) found.push(data);
  return found;
}

test("events are the same however their bytes come in pieces", async () => {
  const text = 'data: {"a":"é😀"}\r\n\r\n: a comment\n\ndata: two\ndata:  lines\n\nevent: x\nid: 1\ndata:three\n\n';
  const bytes = new TextEncoder().encode(text);
  const expected = ['{"a":"é😀"}', "two\n lines", "three"];
  expect(await eventsOf([bytes])).toEqual(expected);
  expect(await eventsOf(Array.from(bytes, (_, at) => bytes.slice(at, at + 1)))).toEqual(expected);
  expect(await eventsOf(["data: whole\n\ndata: cut off"])).toEqual(["whole"]);
});

test("an address names a page, its argument and its query", () => {
  for (const argument of ["", "a/b", "50%", "x?y#z", "山"]) {
    const { page, argument: read, query } = placeOf(addressOf("chat", argument, { model: "a:b&c" }));
    expect([page, read, query.get("model")]).toEqual(["chat", argument, "a:b&c"]);
  }
  expect(placeOf("").page).toBe("");
  expect(placeOf("#/chat/%zz").argument).toBe("");
});

test("the places of a template are filled in, and other braces are not", () => {
  const text = "Translate to {{language}}: {{ text }} {{1}} {{}} { {a} } {{language}}";
  expect(variablesOf(text)).toEqual(["language", "text"]);
  expect(filledTemplate(text, { language: "German", text: "{{language}}" })).toBe(
    "Translate to German: {{language}} {{1}} {{}} { {a} } German",
  );
});
