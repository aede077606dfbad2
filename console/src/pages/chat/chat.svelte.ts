import { json, nothing, segment } from "../../lib/api";
import { streamChat, type AnswerPart, type AnswerStatistics, type ChatMessage } from "../../lib/chat_stream";
import {
  addTurn,
  chooseSibling,
  messagesOf,
  newConversation,
  shownPath,
  titleOf,
  type Attachment,
  type Conversation,
  type Turn,
} from "../../lib/conversation";
import { failureText } from "../../lib/failure";

/** How often the screen follows an answer; each time, its last paragraph is drawn anew. */
const drawEveryMs = 40;

/** A conversation, and the answer that is being written in it. */
export class Chat {
  conversation = $state<Conversation>(newConversation());
  /** The turn that is being written. */
  writing = $state.raw<string | null>(null);
  /** The server's name of the request, while the model reasons; then it can be told to answer at once. */
  reasoningRequest = $state.raw<string | null>(null);
  readonly path = $derived(shownPath(this.conversation));
  private abort: AbortController | null = null;

  /** `onChange` is called with what has become worth keeping. */
  constructor(private readonly onChange: (conversation: Conversation) => void = () => {}) {}

  get isBusy(): boolean {
    return this.writing !== null;
  }

  open(conversation: Conversation): void {
    this.stop();
    this.conversation = conversation;
  }

  /** Resolves when the answer has ended, however it did. */
  ask(content: string, attachments: Attachment[] = []): Promise<void> {
    const last = this.path.at(-1)?.id ?? null;
    return this.askBehind(last, content, attachments);
  }

  /** Asks the question in other words, in a branch beside it. */
  edit(turn: Turn, content: string): Promise<void> {
    return this.askBehind(turn.parent, content, turn.attachments ?? []);
  }

  /** Another answer beside this one, or the first to a question that has none. */
  retry(turn: Turn): Promise<void> {
    return this.answer(turn.role === "user" ? turn.id : turn.parent);
  }

  choose(turn: Turn, step: number): void {
    chooseSibling(this.conversation, turn, step);
    this.onChange(this.conversation);
  }

  stop(): void {
    this.abort?.abort();
  }

  async answerNow(): Promise<void> {
    const id = this.reasoningRequest;
    this.reasoningRequest = null;
    this.hasAsked = true;
    if (id !== null) await nothing("POST", `/v1/requests/${segment(id)}/answer_now`);
  }

  private askBehind(parent: string | null, content: string, attachments: Attachment[]): Promise<void> {
    const question: Omit<Turn, "id" | "parent"> = { role: "user", content };
    if (attachments.length > 0) question.attachments = attachments;
    const turn = addTurn(this.conversation, parent, question);
    if (this.conversation.title === "") this.conversation.title = titleOf(content || (attachments[0]?.name ?? ""));
    return this.answer(turn.id);
  }

  private async answer(parent: string | null): Promise<void> {
    if (this.isBusy || this.conversation.model === null) return;
    const conversation = this.conversation;
    const model = this.conversation.model;
    const told = this.messagesUpTo(parent);
    const turn = addTurn(conversation, parent, { role: "assistant", content: "", model });
    const abort = new AbortController();
    this.abort = abort;
    this.writing = turn.id;
    this.keep(conversation);
    const writer = new TurnWriter(turn);
    try {
      for await (const part of streamChat(model, told, $state.snapshot(conversation.sampling), abort.signal)) {
        this.follow(part, writer);
      }
    } catch (failure) {
      if (abort.signal.aborted) turn.stopped = true;
      else turn.error = failureText(failure);
    }
    writer.flush();
    if (turn.statistics && this.requestId !== null) turn.statistics = await measured(turn.statistics, this.requestId);
    this.requestId = null;
    if (this.abort === abort) {
      this.abort = null;
      this.writing = null;
      this.reasoningRequest = null;
    }
    this.keep(conversation);
  }

  private requestId: string | null = null;
  private hasAsked = false; // to answer now

  private follow(part: AnswerPart, writer: TurnWriter): void {
    switch (part.kind) {
      case "begun":
        this.requestId = part.request_id;
        this.hasAsked = false;
        break;
      case "reasoning":
        if (!this.hasAsked) this.reasoningRequest = this.requestId;
        writer.add("reasoning", part.text);
        break;
      case "content":
        this.reasoningRequest = null;
        writer.add("content", part.text);
        break;
      case "end":
        writer.turn.statistics = part.statistics;
    }
  }

  private keep(conversation: Conversation): void {
    conversation.updated_at_ms = Date.now();
    this.onChange(conversation);
  }

  private messagesUpTo(parent: string | null): ChatMessage[] {
    const byId = new Map(this.conversation.turns.map((turn) => [turn.id, turn]));
    const path: Turn[] = [];
    for (let turn = byId.get(parent ?? ""); turn; turn = byId.get(turn.parent ?? "")) path.unshift(turn);
    return messagesOf(this.conversation.system, path);
  }
}

/** With the server's own times, where it tells them: a browser may be given a whole answer at once. */
async function measured(statistics: AnswerStatistics, requestId: string): Promise<AnswerStatistics> {
  interface Times {
    first_token_ms: number | null;
    duration_ms: number;
  }
  try {
    const { first_token_ms, duration_ms } = await json<Times>("GET", `/v1/requests/${segment(requestId)}`);
    if (first_token_ms === null) return statistics;
    const seconds = (duration_ms - first_token_ms) / 1000;
    const tokens = statistics.completion_tokens - 1;
    return { ...statistics, ttft_ms: first_token_ms, tokens_per_second: tokens > 0 && seconds > 0 ? tokens / seconds : null };
  } catch {
    return statistics; // It has forgotten the request, or does not tell us.
  }
}

/** Gathers the pieces of an answer, so that the page is not drawn for each of them. */
class TurnWriter {
  private pending = { reasoning: "", content: "" };
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(readonly turn: Turn) {}

  add(where: "reasoning" | "content", text: string): void {
    this.pending[where] += text;
    this.timer ??= setTimeout(() => this.flush(), drawEveryMs);
  }

  flush(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    const { reasoning, content } = this.pending;
    if (reasoning) this.turn.reasoning = (this.turn.reasoning ?? "") + reasoning;
    if (content) this.turn.content += content;
    this.pending = { reasoning: "", content: "" };
  }
}
