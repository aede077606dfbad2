import { dictionary, wordsOf, type Pair } from "../../lib/dictionary";
import type { Limit } from "./api";

export const t = dictionary({
  title: ["Limits and prices", "限额与价格"],
  explanation: [
    "All limits that concern a request hold at once. Before any work, the prompt and the longest answer are reserved; what was not used comes back. A change works at once.",
    "与请求相关的所有限额同时生效。处理前会预留输入和最长输出的令牌，未使用的部分随后退回。更改立即生效。",
  ],
  limits: ["Limits", "限额"],
  create: ["Set a limit", "设置限额"],
  none: ["Nothing is limited", "没有限额"],
  noneNext: [
    "Anybody with a key may use as much as the machine gives. Set a limit for a project, so that one program cannot use up what others need.",
    "任何持有密钥的人都可以无限使用。为项目设置限额，避免一个程序耗尽他人所需的资源。",
  ],
  noneHere: ["This project has no limits of its own.", "该项目没有自己的限额。"],
  onlyOf: ["Only {name}", "仅 {name}"],
  all: ["Show all", "显示全部"],
  for: ["For", "适用于"],
  everybody: ["Everybody together", "所有人合计"],
  wholeProject: ["the whole project", "整个项目"],
  key: ["Key", "密钥"],
  userHint: ["Over all keys and sessions of the user, in every project.", "该用户的所有密钥和会话，跨所有项目。"],
  keyHint: ["Left empty: the whole project.", "留空表示整个项目。"],
  allModels: ["All models together", "所有模型合计"],
  modelHint: ["Left empty: all models together.", "留空表示所有模型合计。"],
  kind: ["Limit", "限额"],
  most: ["At most", "上限"],
  mostHint: ["0 allows nothing at all.", "0 表示完全禁止。"],
  change: ["Change", "修改"],
  removeOf: ["Remove {kind} of {name}", "移除 {name} 的{kind}"],
  changeOf: ["Change {kind} of {name}", "修改 {name} 的{kind}"],
  removeText: ["Works at once: requests are no longer held to it.", "立即生效：请求不再受此限制。"],
  beyond: ["Beyond it", "超出后"],
  prices: ["Prices", "价格"],
  pricesNote: [
    "In your currency, for a million tokens. Usage is priced as it is recorded; a change concerns what comes after it.",
    "以您的货币计，每百万令牌。用量在记录时计价；更改只影响之后的用量。",
  ],
  setPrice: ["Set a price", "设置价格"],
  noPrices: ["No prices are set", "尚未设置价格"],
  noPricesNext: ["Set one, and usage shows what it cost, and budgets of money can be limits.", "设置价格后，用量会显示费用，也可以按金额设限。"],
  model: ["Model", "模型"],
  others: ["All other models", "其他所有模型"],
  priceModelHint: ["* is for all models without a price of their own.", "* 表示所有没有单独定价的模型。"],
  prompt: ["Prompt", "输入"],
  cached: ["Prompt from the cache", "缓存命中的输入"],
  completion: ["Answer", "输出"],
  freeTokens: ["Free tokens a month", "每月免费令牌数"],
  freeTokensHint: [
    "For each project, so many tokens of each model cost nothing before the price begins.",
    "每个项目在计价开始前，可免费使用每个模型的这些令牌。",
  ],
  priceOf: ["Change the price of {name}", "修改 {name} 的价格"],
  removePriceOf: ["Remove the price of {name}", "移除 {name} 的价格"],
  cachedTooHigh: ["Not above the price of the prompt.", "不能高于输入价格。"],
} satisfies Record<string, Pair>);

/** Whom a limit is for. */
export function nameOf(limit: Limit): string {
  return limit.key ?? limit.user ?? limit.project ?? t("everybody");
}

export const kindName = wordsOf({
  requests_per_minute: ["Requests a minute", "每分钟请求数"],
  tokens_per_minute: ["Tokens a minute", "每分钟令牌数"],
  input_tokens_per_minute: ["Input tokens a minute", "每分钟输入令牌数"],
  output_tokens_per_minute: ["Output tokens a minute", "每分钟输出令牌数"],
  concurrent_requests: ["Requests at once", "并发请求数"],
  tokens_per_day: ["Tokens a day", "每日令牌数"],
  tokens_per_month: ["Tokens a month", "每月令牌数"],
  micros_per_month: ["Money a month", "每月金额"],
});

const rate = ["429: wait a moment", "429：稍后重试"] as const;
const spent = ["402: spent until the next one", "402：用尽，等待下一周期"] as const;
export const beyond = wordsOf({
  requests_per_minute: rate,
  tokens_per_minute: rate,
  input_tokens_per_minute: rate,
  output_tokens_per_minute: rate,
  concurrent_requests: ["429: until one ends", "429：等待其他请求结束"],
  tokens_per_day: spent,
  tokens_per_month: spent,
  micros_per_month: spent,
});
