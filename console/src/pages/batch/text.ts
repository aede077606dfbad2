import { dictionary, wordsOf, type Pair } from "../../lib/dictionary";

export const t = dictionary({
  title: ["Batch jobs", "批处理"],
  explanation: [
    "Files of many requests, which are answered while the machine has nothing else to do, also after a restart.",
    "包含大量请求的文件，在机器空闲时处理；重启后会继续。",
  ],
  create: ["Create a job", "创建任务"],
  empty: ["There are no jobs yet", "还没有任务"],
  emptyNext: [
    "Write a file with a request on each line (JSONL), and give it here. The answers come as such a file.",
    "准备一个每行一个请求的文件（JSONL）并上传，结果以同样格式返回。",
  ],
  example: ["An example line", "示例行"],
  file: ["File of requests (JSONL)", "请求文件（JSONL）"],
  fileHint: ["Each line has custom_id, method, url and body, as in OpenAI's Batch API.", "每行包含 custom_id、method、url 和 body，与 OpenAI Batch API 相同。"],
  requests: ["{count} request for {endpoint} | {count} requests for {endpoint}", "{count} 个请求，{endpoint}"],
  large: ["The file is large; the server will check all of it.", "文件较大，将由服务器检查全部内容。"],
  noRequests: ["The file has no requests.", "文件中没有请求。"],
  fault: ["Line {line}: {what}", "第 {line} 行：{what}"],
  list: ["Batch jobs", "批处理任务"],
  job: ["Job", "任务"],
  progress: ["Progress", "进度"],
  progressOf: ["Progress of {id}", "{id} 的进度"],
  counts: ["{done} of {total}", "{done} / {total}"],
  failed: ["{count} failed | {count} failed", "{count} 个失败"],
  created: ["Created", "创建时间"],
  results: ["Results", "结果"],
  resultsOf: ["Download the results of {id}", "下载 {id} 的结果"],
  errors: ["Errors", "错误"],
  errorsOf: ["Download the errors of {id}", "下载 {id} 的错误"],
  cancelOf: ["Cancel {id}", "取消 {id}"],
  cancelText: ["Requests that are answered stay answered; the rest is not begun.", "已回答的请求保留，其余不再处理。"],
  cancelJob: ["Cancel the job", "取消任务"],
  started: ["The job is created", "任务已创建"],
} satisfies Record<string, Pair>);

export const stateName = wordsOf({
  validating: ["is checked", "检查中"],
  failed: ["refused", "已拒绝"],
  in_progress: ["is at work", "处理中"],
  finalizing: ["is finished soon", "收尾中"],
  completed: ["finished", "已完成"],
  expired: ["out of time", "已过期"],
  cancelling: ["is cancelled", "取消中"],
  cancelled: ["cancelled", "已取消"],
});

export const faultText = wordsOf({
  not_json: ["this is no JSON object.", "不是 JSON 对象。"],
  no_custom_id: ["custom_id is missing, by which you find its answer.", "缺少 custom_id，无法对应结果。"],
  same_custom_id: ["another line has the same custom_id.", "custom_id 与其他行重复。"],
  no_url: ["url must be a route such as /v1/chat/completions.", "url 必须是路由，例如 /v1/chat/completions。"],
  other_url: ["url differs from the lines before it; a job is for one route.", "url 与前面的行不同；一个任务只能使用一个路由。"],
  no_body: ["body is missing: the request itself.", "缺少 body，即请求内容。"],
});
