import { dictionary, type Pair } from "../../lib/dictionary";

export const t = dictionary({
  title: ["Projects", "项目"],
  explanation: [
    "A project is a team or a program. Projects take turns by weight where they wait for the same model; no project sees another's prompts, also not through the cache.",
    "项目是一个团队或程序。多个项目等待同一模型时，按权重轮流；项目之间互不可见，缓存也不共享。",
  ],
  create: ["Create a project", "创建项目"],
  list: ["Projects", "项目"],
  onlyDefault: ["There is only the first project so far", "目前只有初始项目"],
  onlyDefaultNext: [
    "Create one for each team, so that each has its own turns, limits and usage.",
    "为每个团队创建项目，使其拥有各自的调度、限额和用量。",
  ],
  weight: ["Weight", "权重"],
  weightOf: ["Change the weight of {name}", "修改 {name} 的权重"],
  weightHint: ["With weight 2, a project that waits gets twice the tokens of one with weight 1.", "权重为 2 的项目在排队时获得的令牌是权重为 1 的两倍。"],
  change: ["Change", "修改"],
  created: ["Created", "创建时间"],
  limits: ["Limits", "限额"],
  limitsOf: ["Limits of {name}", "{name} 的限额"],
  prompts: ["Prompts", "提示与回答"],
  promptsOf: ["Keep prompts and answers of {name}", "保留 {name} 的提示与回答"],
  notKept: ["not kept", "不保留"],
  keptFor: ["{count} day, {size} | {count} days, {size}", "{count} 天，{size}"],
  keeps: ["Keep what is asked and answered", "保留提问与回答"],
  keepsWarning: [
    "Everything that anybody asks for this project, and every answer, is then stored here, personal data and secrets in it as well. All admins read it; the project's developers read what programs and they themselves have asked. Tell those who use it. Each reading is in the audit log.",
    "此后，任何人以本项目名义的所有提问和回答都将存储在此，其中的个人数据和机密也不例外。所有管理员均可查看；项目的开发者可查看程序及其本人的提问。请告知使用者。每次查看都会记入审计。",
  ],
  days: ["For how many days", "保留天数"],
  daysHint: ["Then it is removed by itself. 1 to 3650.", "到期自动删除。1 至 3650。"],
  removesAll: ["What is kept until now, {size}, is removed at once and for ever.", "目前保留的 {size} 将立即永久删除。"],
  removesOlder: ["What is older than this is removed at once and for ever.", "早于此期限的内容将立即永久删除。"],
} satisfies Record<string, Pair>);
