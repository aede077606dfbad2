import { dictionary, wordsOf, type Pair } from "../../lib/dictionary";

export const t = dictionary({
  title: ["API keys", "API 密钥"],
  explanation: [
    "A program shows a key with each request. It belongs to a project, and may be bounded to models, addresses and a time.",
    "程序的每个请求都要出示密钥。密钥属于一个项目，可限定模型、地址和有效期。",
  ],
  create: ["Create a key", "创建密钥"],
  empty: ["There are no keys yet", "还没有密钥"],
  emptyNext: [
    "Create one, and give it to a program as its OpenAI or Anthropic API key, with this server's address as the base URL.",
    "创建一个密钥，作为程序的 OpenAI 或 Anthropic API 密钥使用，并将本服务器地址作为 base URL。",
  ],
  allEnded: ["No key works now", "目前没有可用的密钥"],
  showEnded: ["Show keys that have ended", "显示已失效的密钥"],
  list: ["Keys", "密钥"],
  scopes: ["May", "权限"],
  bounds: ["Only for", "限定"],
  allModels: ["all models", "所有模型"],
  created: ["Created", "创建时间"],
  expires: ["Ends", "到期"],
  rotate: ["Rotate", "轮换"],
  revoke: ["Revoke", "吊销"],
  rotateOf: ["Rotate the key {name}", "轮换密钥 {name}"],
  revokeOf: ["Revoke the key {name}", "吊销密钥 {name}"],
  revokeText: [
    "Every server refuses it within a second, also in the middle of what a program does. It cannot be brought back.",
    "所有服务器会在一秒内拒绝此密钥，正在使用它的程序也不例外。此操作无法撤销。",
  ],
  revoked: ["{name} is revoked", "{name} 已吊销"],
  nameHint: ["What it is for, such as the program that uses it.", "用途，例如使用它的程序。"],
  projectHint: ["Whose turns, limits and usage its requests are.", "其请求归属此项目的调度、限额和用量。"],
  userHint: ["Left empty: nobody's. Else it ends with this user, whose role bounds it.", "留空则不属于任何人；否则随该用户停用，并受其角色限制。"],
  models: ["Models", "模型"],
  modelsHint: ["Left empty: all. Else names with spaces between, such as {example}.", "留空表示全部；否则填写名称，以空格分隔，例如 {example}。"],
  addresses: ["Addresses", "地址"],
  addressesHint: ["Left empty: from anywhere. Else addresses or ranges, such as 10.1.0.0/16.", "留空表示不限；否则填写地址或网段，例如 10.1.0.0/16。"],
  lifetime: ["Works for", "有效期"],
  forever: ["until it is revoked", "直到吊销"],
  days: ["{count} day | {count} days", "{count} 天"],
  createAction: ["Create", "创建"],
  scopesNeeded: ["Choose at least one.", "请至少选择一项。"],
  shownTitle: ["The key {name}", "密钥 {name}"],
  shownOnce: [
    "Copy it now. It is kept as a hash only, and nobody can show it again.",
    "请立即复制。服务器只保存其哈希，之后无法再次显示。",
  ],
  key: ["Key", "密钥"],
  tryIt: ["To try it:", "试用："],
  grace: ["The old one works for", "旧密钥继续有效"],
  graceNone: ["no longer", "立即失效"],
  graceHour: ["1 more hour", "1 小时"],
  rotateText: [
    "Makes a new key with the same rights. Programs need it before the old one ends.",
    "将生成权限相同的新密钥。请在旧密钥失效前更新程序。",
  ],
  ended: ["ended {when}", "{when} 失效"],
} satisfies Record<string, Pair>);

export const stateName = wordsOf({
  active: ["works", "有效"],
  ending: ["replaced, ends soon", "已轮换，即将失效"],
  expired: ["expired", "已过期"],
  revoked: ["revoked", "已吊销"],
});

export const scopeName = wordsOf({
  inference: ["ask models", "调用模型"],
  metrics: ["read metrics", "读取指标"],
  admin: ["administer", "管理"],
});
