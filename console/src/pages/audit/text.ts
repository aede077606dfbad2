import { dictionary, type Pair } from "../../lib/dictionary";

export const t = dictionary({
  title: ["Audit", "审计"],
  explanation: [
    "Every change of keys, users, projects, limits, prices, models and endpoints: who made it and when. Nothing can be taken out of it here.",
    "密钥、用户、项目、限额、价格、模型和端点的每次变更：由谁在何时所做。此处无法删除记录。",
  ],
  list: ["Events, the latest first", "事件，最新在前"],
  filter: ["Find", "查找"],
  filterHint: ["An actor, an action, a name, in all events.", "在所有事件中查找：操作者、操作或名称。"],
  from: ["From", "从"],
  to: ["To", "到"],
  action: ["Only", "仅"],
  allActions: ["All changes", "所有变更"],
  when: ["When", "时间"],
  actor: ["Who", "操作者"],
  what: ["What", "操作"],
  subject: ["Of", "对象"],
  details: ["Details", "详情"],
  empty: ["Nothing has been changed yet", "还没有变更"],
  emptyNext: ["As soon as somebody creates a key or a user, it is written here.", "创建密钥或用户后，将在此记录。"],
  noMatch: ["No event matches. Days are UTC's.", "没有匹配的事件。日期为 UTC。"],
  older: ["Older events", "更早的事件"],
} satisfies Record<string, Pair>);
