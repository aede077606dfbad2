-- Who may do what. Times are milliseconds since 1970, in UTC; an empty one has not come.

CREATE TABLE organisations (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  created_at_ms BIGINT NOT NULL
);

CREATE TABLE projects (
  id TEXT PRIMARY KEY,
  organisation_id TEXT NOT NULL REFERENCES organisations (id),
  name TEXT NOT NULL,
  weight DOUBLE PRECISION NOT NULL,
  created_at_ms BIGINT NOT NULL,
  UNIQUE (organisation_id, name)
);

-- People, and the accounts of programs; the latter belong to a project.
CREATE TABLE users (
  id TEXT PRIMARY KEY,
  organisation_id TEXT NOT NULL REFERENCES organisations (id),
  project_id TEXT REFERENCES projects (id),
  kind TEXT NOT NULL CHECK (kind IN ('person', 'service')),
  name TEXT NOT NULL,
  role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'developer', 'viewer')),
  created_at_ms BIGINT NOT NULL,
  disabled_at_ms BIGINT,
  UNIQUE (organisation_id, name)
);

-- The key itself is never stored. Lists are JSON; an empty list of models or addresses allows all.
CREATE TABLE api_keys (
  id TEXT PRIMARY KEY,
  project_id TEXT NOT NULL REFERENCES projects (id),
  user_id TEXT REFERENCES users (id),
  name TEXT NOT NULL,
  hint TEXT NOT NULL,
  hash TEXT NOT NULL UNIQUE,
  scopes TEXT NOT NULL,
  models TEXT NOT NULL,
  addresses TEXT NOT NULL,
  created_at_ms BIGINT NOT NULL,
  expires_at_ms BIGINT,
  revoked_at_ms BIGINT,
  rotated_to TEXT REFERENCES api_keys (id)
);

CREATE INDEX api_keys_by_name ON api_keys (project_id, name);

-- Counts the changes of the tables above, so that a server sees with one look that what it has read
-- no longer holds.
CREATE TABLE identity_revision (
  revision BIGINT NOT NULL
);

INSERT INTO identity_revision (revision) VALUES (0);

-- Every change: who, what, to what. Rows are only ever added.
CREATE TABLE audit_events (
  number {counter},
  at_ms BIGINT NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  details TEXT NOT NULL
);
