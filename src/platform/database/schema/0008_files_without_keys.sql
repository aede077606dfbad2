-- Where nobody is asked who they are, files and batches had a project of their own, "local". They are of the
-- project `default` now, as prompt templates have been. It is made where nothing but files was kept so far.
INSERT INTO organisations (id, name, created_at_ms)
  SELECT 'org_local', 'default', MIN(created_at_ms)
  FROM (SELECT created_at_ms FROM files WHERE project_id = 'local' UNION ALL
        SELECT created_at_ms FROM batches WHERE project_id = 'local') AS kept
  WHERE NOT EXISTS (SELECT 1 FROM organisations)
  HAVING COUNT(*) > 0;

INSERT INTO projects (id, organisation_id, name, weight, created_at_ms)
  SELECT 'proj_local', (SELECT MIN(id) FROM organisations), 'default', 1, MIN(created_at_ms)
  FROM (SELECT created_at_ms FROM files WHERE project_id = 'local' UNION ALL
        SELECT created_at_ms FROM batches WHERE project_id = 'local') AS kept
  WHERE NOT EXISTS (SELECT 1 FROM projects WHERE name = 'default')
  HAVING COUNT(*) > 0;

UPDATE files SET project_id = (SELECT id FROM projects WHERE name = 'default') WHERE project_id = 'local';

UPDATE batches SET project_id = (SELECT id FROM projects WHERE name = 'default') WHERE project_id = 'local';

UPDATE identity_revision SET revision = revision + 1;
