import { dictionary, type Pair } from "../../lib/dictionary";

export const t = dictionary({
  title: ["Kept prompts", "保留的提问"],
  explanation: [
    "What was asked and answered, of projects that have chosen to keep it. Whoever reads one is in the audit log.",
    "已选择保留的项目的提问与回答。每次查看都会记入审计。",
  ],
  list: ["Requests, the latest first", "请求，最新在前"],
  empty: ["Nothing is kept", "没有保留的内容"],
  emptyAdmin: [
    "Prompts and answers are kept for no project, unless you choose it. Where you have, they appear as requests end.",
    "除非您选择，否则任何项目都不保留提问与回答。选择后，请求结束时将在此显示。",
  ],
  emptyOther: [
    "The project that you act for keeps no prompts and answers, or there were none yet. An admin may choose it.",
    "您所代表的项目不保留提问与回答，或者还没有请求。管理员可以选择保留。",
  ],
  toProjects: ["To the projects", "前往项目"],
  noMatch: ["No request matches. Days are UTC's.", "没有匹配的请求。日期为 UTC。"],
  allProjects: ["All projects", "所有项目"],
  key: ["Key or person", "密钥或用户"],
  request: ["Request", "请求"],
  from: ["From", "从"],
  to: ["To", "到"],
  when: ["When", "时间"],
  end: ["End", "结束"],
  size: ["Size", "大小"],
  read: ["Read", "查看"],
  readOf: ["Read request {id}", "查看请求 {id}"],
  asked: ["Asked", "提问"],
  answered: ["Answered", "回答"],
  reasoning: ["Reasoning", "推理"],
  calls: ["Call of {name}", "调用 {name}"],
  noAnswer: ["No text: vectors were asked for, or it ended before any.", "没有文本：请求的是向量，或在输出前已结束。"],
  cut: ["It was longer than 256 KiB; this is its beginning.", "内容超过 256 KiB，这是开头部分。"],
  whole: ["The request as it was sent", "所发送的完整请求"],
} satisfies Record<string, Pair>);
