import { dictionary, wordsOf, type Pair } from "../../lib/dictionary";

export const t = dictionary({
  title: ["Users", "用户"],
  explanation: [
    "People who sign in, and services that own keys. The role bounds what a user may do in the projects, of which all but owners and admins have to be members.",
    "登录的人员，以及拥有密钥的服务。角色限定用户在项目中的权限；除所有者和管理员外，都需要成为项目成员。",
  ],
  create: ["Create a user", "创建用户"],
  list: ["Users", "用户"],
  empty: ["There are no users yet", "还没有用户"],
  emptyNext: [
    "Create one for each person who is to sign in here. Programs need only a key.",
    "为每位需要登录的人员创建用户。程序只需要密钥。",
  ],
  kind: ["Kind", "类型"],
  created: ["Created", "创建时间"],
  works: ["may sign in", "可用"],
  worksService: ["works", "可用"],
  disable: ["Disable", "停用"],
  enable: ["Enable", "启用"],
  disableOf: ["Disable {name}", "停用 {name}"],
  enableOf: ["Enable {name}", "启用 {name}"],
  disableText: [
    "Ends the sessions of {name}, and all keys that belong to {name}, within a second. It can be undone.",
    "一秒内结束 {name} 的所有会话和密钥。可以恢复。",
  ],
  roleOf: ["Role of {name}", "{name} 的角色"],
  roleChanged: ["{name} is now: {role}", "{name} 的角色现在是：{role}"],
  password: ["Password", "密码"],
  passwordOf: ["Set the password of {name}", "设置 {name} 的密码"],
  passwordHint: ["10 to 1024 bytes. {name} signs in with it, and can change it in the settings.", "10 至 1024 字节。{name} 用它登录，并可在设置中修改。"],
  passwordSet: ["The password of {name} is set", "{name} 的密码已设置"],
  passwordLater: ["Close this to let {name} sign in at an identity provider alone.", "若 {name} 仅通过身份提供方登录，可直接关闭。"],
  isSaved: ["{name} is created", "{name} 已创建"],
  you: ["you", "您"],
  projects: ["Projects", "项目"],
  projectHint: ["The first project of which the person is a member.", "该人员首先加入的项目。"],
  allProjects: ["all", "全部"],
  removeOf: ["Remove {name}", "移除 {name}"],
  removeText: [
    "Ends the sessions and keys of {name} within a second, and takes chats, memberships and limits away. What {name} used stays in the usage. This cannot be undone; disabling can.",
    "一秒内结束 {name} 的会话和密钥，并删除其对话、成员身份和限额。用量记录会保留。此操作无法撤销；停用可以恢复。",
  ],
  removed: ["{name} is gone", "{name} 已移除"],
  service: ["A service belongs to a project, and cannot sign in.", "服务属于一个项目，不能登录。"],
  person: ["A person signs in here.", "人员在此登录。"],
  viewerMeans: ["looks at models, usage and the engine, in all of their projects", "在其所有项目中查看模型、用量和引擎"],
  developerMeans: ["asks models and makes keys, as far as the projects allow it", "在项目允许的范围内调用模型、创建密钥"],
  adminMeans: ["administers all but owners", "管理除所有者以外的一切"],
  ownerMeans: ["does everything", "拥有全部权限"],
} satisfies Record<string, Pair>);

export const kindName = wordsOf({
  person: ["Person", "人员"],
  service: ["Service", "服务"],
});
