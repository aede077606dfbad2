import { dictionary } from "../../lib/dictionary";

export const t = dictionary({
  title: ["Playground", "试验场"],
  note: ["One question, two models side by side.", "同一问题，两个模型并排比较。"],
  clear: ["Start again", "重新开始"],
  empty: ["Ask both the same", "向两者提出同一问题"],
  emptyText: [
    "Choose a model on each side, or the same one with other settings, and ask below.",
    "在两侧各选一个模型，或同一模型使用不同设置，然后在下方提问。",
  ],
  left: ["Left", "左侧"],
  right: ["Right", "右侧"],
  settings: ["Settings of this side", "此侧的设置"],
});
