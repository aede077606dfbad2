-- Members of projects, and users and projects that are gone. Times are milliseconds since 1970, in UTC.

-- What a person may do in a project: never more than the user's role allows, and owners and admins of the
-- organisation need no row. A service is of its one project and has none.
CREATE TABLE project_members (
  project_id TEXT NOT NULL REFERENCES projects (id),
  user_id TEXT NOT NULL REFERENCES users (id),
  role TEXT NOT NULL CHECK (role IN ('admin', 'developer', 'viewer')),
  added_at_ms BIGINT NOT NULL,
  PRIMARY KEY (project_id, user_id)
);

CREATE INDEX project_members_by_user ON project_members (user_id);

-- Rows of those that were removed stay, so that usage and the audit log keep their names. They are called
-- "search (removed proj_...)", which leaves the name to others; a user is disabled as well.
ALTER TABLE projects ADD COLUMN removed_at_ms BIGINT;

ALTER TABLE users ADD COLUMN removed_at_ms BIGINT;

-- Until now everybody acted for `default`, which is there as soon as it is needed.
INSERT INTO projects (id, organisation_id, name, weight, created_at_ms)
  SELECT 'proj_first', MIN(organisation_id), 'default', 1, MIN(created_at_ms) FROM users
  WHERE NOT EXISTS (SELECT 1 FROM projects WHERE name = 'default')
  HAVING COUNT(*) > 0;

-- As viewers are never more than that, this makes everybody what they were.
INSERT INTO project_members (project_id, user_id, role, added_at_ms)
  SELECT p.id, u.id, 'developer', u.created_at_ms FROM users u JOIN projects p ON p.name = 'default'
  WHERE u.kind = 'person';

-- And whoever had a key that works acted for its project.
INSERT INTO project_members (project_id, user_id, role, added_at_ms)
  SELECT k.project_id, u.id, 'developer', MIN(k.created_at_ms)
  FROM api_keys k JOIN users u ON u.id = k.user_id JOIN projects p ON p.id = k.project_id
  WHERE u.kind = 'person' AND p.name <> 'default' AND k.revoked_at_ms IS NULL AND
        (k.expires_at_ms IS NULL OR k.expires_at_ms > {now_ms})
  GROUP BY k.project_id, u.id;

UPDATE identity_revision SET revision = revision + 1;
