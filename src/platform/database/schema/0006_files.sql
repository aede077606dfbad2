-- Files that clients keep here. Times are milliseconds since 1970, in UTC.

-- The bytes lie in a folder under the id; `store` is the id of that folder. `project_id` is "local" where
-- nobody is asked who they are. `name` is what the client calls the file, and no path.
CREATE TABLE files (
  id TEXT PRIMARY KEY,
  project_id TEXT NOT NULL,
  store TEXT NOT NULL,
  name TEXT NOT NULL,
  purpose TEXT NOT NULL,
  bytes BIGINT NOT NULL,
  created_at_ms BIGINT NOT NULL,
  expires_at_ms BIGINT
);

CREATE INDEX files_by_project ON files (project_id, created_at_ms, id);
CREATE INDEX files_by_expiry ON files (expires_at_ms);
