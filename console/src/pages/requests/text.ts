import { dictionary, wordsOf, type Pair } from "../../lib/dictionary";

export const t = dictionary({
  title: ["Requests", "请求"],
  explanation: [
    "What the engines have now, and why each request waits. No prompt and no answer is shown.",
    "引擎当前的请求，以及每个请求等待的原因。不显示输入和输出内容。",
  ],
  now: ["Now", "当前"],
  own: ["Your recent requests", "您最近的请求"],
  ownNote: ["Of your session or project; the server keeps the latest.", "属于您的会话或项目；服务器仅保留最近的请求。"],
  idle: ["Nothing is at work", "没有处理中的请求"],
  idleNext: ["Send a request, and it shows here while it runs or waits.", "发送请求后，运行或等待期间会显示在此处。"],
  noneOwn: ["You have not asked anything lately.", "您最近没有发送请求。"],
  toChat: ["Open the chat", "打开聊天"],
  id: ["Request", "请求"],
  who: ["Whose", "归属"],
  waited: ["Waited", "等待时间"],
  reason: ["Waits for", "等待原因"],
  prompt: ["Prompt", "输入"],
  answer: ["Answer", "输出"],
  arrived: ["Arrived", "到达时间"],
  took: ["Took", "耗时"],
  firstToken: ["To the first token", "首个令牌耗时"],
  outcome: ["Outcome", "结果"],
  events: ["Events", "事件"],
  eventsOf: ["Events of {id}", "{id} 的事件"],
  at: ["After", "经过"],
  event: ["Event", "事件"],
  more: ["Details", "详情"],
  tokensOf: ["{count} token | {count} tokens", "{count} 令牌"],
  cached: ["{count} token from the cache | {count} tokens from the cache", "{count} 令牌来自缓存"],
  inSteps: ["{tokens} tokens in {count} step, {time} | {tokens} tokens in {count} steps, {time}", "{count} 步处理 {tokens} 令牌，{time}"],
  waitsFor: ["waits for {reason}", "等待{reason}"],
} satisfies Record<string, Pair>);

export const stateName = wordsOf({
  preparing: ["is prepared", "准备中"],
  waiting: ["waits", "等待"],
  running: ["runs", "运行"],
  finished: ["finished", "已完成"],
});

export const reasonName = wordsOf({
  model: ["its model to be loaded", "模型载入"],
  place: ["a place in the batch", "批次空位"],
  blocks: ["room in the KV cache", "KV 缓存空间"],
  turn: ["its turn", "轮到自己"],
});

export const eventName = wordsOf({
  queued: ["came into the queue", "进入队列"],
  waiting: ["waits", "等待"],
  admitted: ["got a place", "获得位置"],
  prefill: ["prompt computed", "处理输入"],
  first_token: ["first token", "首个令牌"],
  preempted: ["gave its place back", "被抢占"],
  resumed: ["goes on", "恢复"],
  finished: ["finished", "完成"],
});

export const finishName = wordsOf({
  stop: ["complete", "完整"],
  length: ["reached its length", "达到长度上限"],
  tool_calls: ["calls a tool", "调用工具"],
  cancelled: ["left by the client", "客户端取消"],
  timeout: ["too late", "超时"],
  error: ["failed", "失败"],
});
