import { json, nothing, segment, useCsrfToken, useProject, whenProjectLost, whenSignedOut } from "./api";

export type Role = "viewer" | "developer" | "project_admin" | "admin" | "owner";
/** What a user has for the organisation; a project's admin is that in one project alone. */
export type UserRole = Exclude<Role, "project_admin">;

/** As GET /api/v1/session answers. */
export interface Session {
  authentication: "none" | "keys";
  set_up_needed: boolean;
  oidc: boolean;
  user: {
    name: string;
    role: Role;
    project: string;
    projects: string[];
    roles: Record<string, Role>;
    keeping: Record<string, number>; // Of these, who keep what is asked and answered, and for how many days.
  } | null;
  csrf_token: string | null;
  version: string;
}

/** Which project somebody has chosen in this browser, and where the choice is kept. */
const chosenKey = (name: string): string => `ridge.project.${name}`;

function keptProject(name: string): string | null {
  try {
    return localStorage.getItem(chosenKey(name));
  } catch {
    return null; // A browser that keeps nothing.
  }
}

const ranks: Record<Role, number> = { viewer: 0, developer: 1, project_admin: 2, admin: 3, owner: 4 };

/** Who sits here, and what they may do. */
class SessionState {
  /** Undefined until the server has said who asks. */
  current = $state.raw<Session | undefined>(undefined);
  failure = $state.raw<unknown>(undefined);
  /** For which the person acts: what pages show of usage, keys, templates, files and batches is that project's. */
  project = $state("");

  constructor() {
    whenSignedOut(() => void this.load());
    whenProjectLost(() => void this.load());
  }

  private begin(session: Session): void {
    useCsrfToken(session.csrf_token);
    this.current = session;
    this.failure = undefined;
    const user = session.user;
    const kept = user ? keptProject(user.name) : null;
    this.take(kept !== null && user?.projects.includes(kept) ? kept : (user?.project ?? ""));
  }

  private take(project: string): void {
    this.project = project;
    useProject(project === this.current?.user?.project || project === "" ? null : project);
  }

  /** Acts for another of the person's projects, also at the next visit. */
  choose(project: string): void {
    this.take(project);
    try {
      localStorage.setItem(chosenKey(this.current?.user?.name ?? ""), project);
    } catch {
      // As above.
    }
  }

  async load(): Promise<void> {
    try {
      this.begin(await json<Session>("GET", "/api/v1/session"));
    } catch (failure) {
      this.failure = failure;
    }
  }

  async signIn(name: string, password: string): Promise<void> {
    this.begin(await json<Session>("POST", "/api/v1/session", { name, password }));
  }

  async setUp(token: string, name: string, password: string): Promise<void> {
    this.begin(await json<Session>("POST", "/api/v1/set-up", { token, name, password }));
  }

  async signOut(): Promise<void> {
    await nothing("DELETE", "/api/v1/session");
    await this.load();
  }

  async changeOwnPassword(oldPassword: string, password: string): Promise<void> {
    const name = this.current?.user?.name ?? "";
    await nothing("PUT", `/api/v1/users/${segment(name)}/password`, { password, old_password: oldPassword });
  }

  /** Nobody is asked who they are: `ridge serve --no-auth`. */
  get isOpen(): boolean {
    return this.current?.authentication === "none";
  }

  /** For how many days the project keeps what is asked and answered; 0: it does not. */
  get keepDays(): number {
    return this.current?.user?.keeping[this.project] ?? 0;
  }

  /** In the project that the person acts for; null for who has not signed in. */
  get role(): Role | null {
    const user = this.current?.user;
    return user ? (user.roles[this.project] ?? user.role) : null;
  }

  may(least: Role): boolean {
    return this.role !== null && ranks[this.role] >= ranks[least];
  }
}

export const session = new SessionState();
