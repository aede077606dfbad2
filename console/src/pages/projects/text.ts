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
} satisfies Record<string, Pair>);
