import { dictionary } from "../../lib/dictionary";

export const t = dictionary({
  title: ["Sign in", "登录"],
  signIn: ["Sign in", "登录"],
  withProvider: ["Sign in with your organisation", "使用组织账号登录"],
  or: ["or", "或"],
  oidcFailed: [
    "The sign-in at your organisation's provider did not succeed: {reason}",
    "通过组织身份提供方登录失败：{reason}",
  ],
  setUp: ["I have a set-up token", "我有设置令牌"],
});
