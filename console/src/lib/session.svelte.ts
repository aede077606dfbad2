import { json, nothing, segment, useCsrfToken, whenSignedOut } from "./api";

export type Role = "viewer" | "developer" | "admin" | "owner";

/** As GET /api/v1/session answers. */
export interface Session {
  authentication: "none" | "keys";
  set_up_needed: boolean;
  oidc: boolean;
  user: { name: string; role: Role; project: string } | null;
  csrf_token: string | null;
  version: string;
}

const ranks: Record<Role, number> = { viewer: 0, developer: 1, admin: 2, owner: 3 };

/** Who sits here, and what they may do. */
class SessionState {
  /** Undefined until the server has said who asks. */
  current = $state.raw<Session | undefined>(undefined);
  failure = $state.raw<unknown>(undefined);

  constructor() {
    whenSignedOut(() => void this.load());
  }

  private begin(session: Session): void {
    useCsrfToken(session.csrf_token);
    this.current = session;
    this.failure = undefined;
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

  /** Null for who has not signed in. */
  get role(): Role | null {
    return this.current?.user?.role ?? null;
  }

  may(least: Role): boolean {
    return this.role !== null && ranks[this.role] >= ranks[least];
  }
}

export const session = new SessionState();
