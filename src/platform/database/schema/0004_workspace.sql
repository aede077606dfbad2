-- What people keep of their work. Times are milliseconds since 1970, in UTC.

-- A person's own, and gone with the person. `messages` is a JSON array; `id` is the client's.
CREATE TABLE chats (
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  id TEXT NOT NULL,
  title TEXT NOT NULL,
  messages TEXT NOT NULL,
  bytes BIGINT NOT NULL,
  created_at_ms BIGINT NOT NULL,
  updated_at_ms BIGINT NOT NULL,
  PRIMARY KEY (user_id, id)
);

-- Prompts with places to fill in, of a project.
CREATE TABLE prompt_templates (
  id TEXT PRIMARY KEY,
  project_id TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  text TEXT NOT NULL,
  created_at_ms BIGINT NOT NULL,
  updated_at_ms BIGINT NOT NULL,
  UNIQUE (project_id, name)
);
