import { dictionary } from "../../lib/dictionary";

export const t = dictionary({
  title: ["Set up Ridgeline", "设置 Ridgeline"],
  note: [
    "This server has no owner yet. Whoever sets it up becomes the owner, who may do everything and invite others.",
    "此服务器尚无所有者。完成设置的人将成为所有者，拥有全部权限并可邀请他人。",
  ],
  token: ["Set-up token", "设置令牌"],
  tokenHint: ["The server printed it when it started; it works once, for a day.", "服务器启动时已打印；一天内有效，仅可使用一次。"],
  name: ["Your name", "您的名称"],
  passwordHint: ["At least 10 characters.", "至少 10 个字符。"],
  again: ["Password again", "再次输入密码"],
  differs: ["The two passwords differ.", "两次输入的密码不同。"],
  begin: ["Set up", "完成设置"],
  login: ["I have a password already", "我已有密码"],
});
