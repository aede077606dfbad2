import { dictionary, wordsOf, type Pair } from "../../lib/dictionary";

export const t = dictionary({
  title: ["Models", "模型"],
  explanation: [
    "What this server serves, what is on its disk, and what it can fetch, with whether this machine has room for it.",
    "本服务器提供的模型、磁盘上的模型，以及可下载的模型，并显示本机是否有足够资源。",
  ],
  find: ["Find", "查找"],
  view: ["Show", "显示"],
  here: ["On this machine", "本机上的"],
  usual: ["The usual size of each", "每个模型的常用规格"],
  all: ["All quantizations", "所有量化规格"],
  pullOther: ["Pull another", "下载其他模型"],
  pullTitle: ["Pull a model", "下载模型"],
  pullName: ["Name", "名称"],
  pullHint: [
    "A name of this list, or hf:organisation/repository:quantization for a GGUF file of Hugging Face.",
    "此列表中的名称，或 hf:组织/仓库:量化，表示 Hugging Face 上的 GGUF 文件。",
  ],
  pull: ["Pull", "下载"],
  serve: ["Serve", "提供服务"],
  pullOf: ["Pull {name}", "下载 {name}"],
  serveOf: ["Serve {name}", "提供服务：{name}"],
  removeOf: ["Remove {name}", "移除 {name}"],
  removeTitle: ["Remove {name}?", "移除 {name}？"],
  removeText: [
    "It is served no more, and its {bytes} on the disk are deleted. It can be pulled again.",
    "将停止提供该模型，并删除磁盘上的 {bytes}。以后可以重新下载。",
  ],
  removed: ["{name} is removed, {bytes} freed", "{name} 已移除，释放 {bytes}"],
  chatWith: ["Chat with {name}", "聊天：{name}"],
  chat: ["Chat", "聊天"],
  started: ["{name} is being pulled", "正在下载 {name}"],
  list: ["Models", "模型"],
  size: ["Size", "大小"],
  context: ["Context", "上下文"],
  tokens: ["{count} tokens", "{count} 令牌"],
  fits: ["This machine", "本机"],
  needs: ["needs about {bytes} of memory", "约需 {bytes} 内存"],
  speed: ["Speed", "速度"],
  speedOf: ["{count} tokens/s", "{count} 令牌/秒"],
  unmeasured: ["not measured", "未测量"],
  about: ["about {bytes}", "约 {bytes}"],
  adapterOf: ["adapter of {name}", "{name} 的适配器"],
  loaded: ["in memory", "已载入内存"],
  downloads: ["Downloads", "下载任务"],
  progress: ["Progress of {name}", "{name} 的进度"],
  doneOf: ["{done} of {total}", "{done} / {total}"],
  waits: ["waits for the one before it", "等待前一个任务"],
  cancelOf: ["Cancel the download of {name}", "取消下载 {name}"],
  again: ["Try again", "重试"],
  againOf: ["Try again to pull {name}", "重试下载 {name}"],
  none: ["No model is here yet", "还没有模型"],
  noneNext: ["Choose “The usual size of each” and pull one that fits this machine.", "选择“每个模型的常用规格”，下载一个适合本机的模型。"],
  noMatch: ["No model has this in its name", "没有匹配的模型"],
  noMatchNext: ["Show all quantizations, or pull one by its full name.", "显示所有量化规格，或用完整名称下载。"],
  showUsual: ["Show what can be pulled", "显示可下载的模型"],
  ready: ["{name} is served now", "{name} 现已提供服务"],
} satisfies Record<string, Pair>);

export const stateName = wordsOf({
  available: ["can be pulled", "可下载"],
  downloading: ["is being pulled", "下载中"],
  stored: ["on the disk", "已存储"],
  served: ["served", "服务中"],
});

export const fitName = wordsOf({
  yes: ["fits", "可运行"],
  tight: ["tight", "勉强"],
  no: ["too large", "过大"],
});

export const downloadState = wordsOf({
  waiting: ["waits", "等待中"],
  running: ["is fetched", "下载中"],
  finished: ["finished", "已完成"],
  failed: ["failed", "失败"],
  cancelled: ["cancelled", "已取消"],
});

export const capabilityName = wordsOf({
  completion: ["text", "文本"],
  tools: ["tools", "工具"],
  thinking: ["reasoning", "推理"],
});
