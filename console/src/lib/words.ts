// Texts that several pages share.
import { dictionary, wordsOf } from "./dictionary";

export const common = dictionary({
  add: ["Add", "添加"],
  cancel: ["Cancel", "取消"],
  close: ["Close", "关闭"],
  copied: ["Copied", "已复制"],
  copy: ["Copy", "复制"],
  create: ["Create", "创建"],
  delete: ["Delete", "删除"],
  disabled: ["disabled", "已停用"],
  edit: ["Edit", "编辑"],
  loading: ["Loading…", "加载中…"],
  model: ["Model", "模型"],
  more: ["Show more", "显示更多"],
  name: ["Name", "名称"],
  never: ["never", "从不"],
  no: ["No", "否"],
  none: ["none", "无"],
  password: ["Password", "密码"],
  project: ["Project", "项目"],
  reload: ["Try again", "重试"],
  remove: ["Remove", "移除"],
  role: ["Role", "角色"],
  save: ["Save", "保存"],
  saved: ["Saved", "已保存"],
  state: ["State", "状态"],
  user: ["User", "用户"],
  yes: ["Yes", "是"],
  unreachable: ["The server cannot be reached. Is it running?", "无法连接服务器。它在运行吗？"],
  notAllowed: ["Your role does not allow this.", "您的角色没有此权限。"],
  waitSeconds: ["Try again in {count} second. | Try again in {count} seconds.", "请在 {count} 秒后重试。"],
});

export const roleName = wordsOf({
  owner: ["Owner", "所有者"],
  admin: ["Admin", "管理员"],
  project_admin: ["Project admin", "项目管理员"],
  developer: ["Developer", "开发者"],
  viewer: ["Viewer", "观察者"],
});

export const projectRoleName = wordsOf({
  viewer: ["Viewer", "观察者"],
  developer: ["Developer", "开发者"],
  admin: ["Admin of the project", "项目管理员"],
});
