-- Batches of requests. Times are milliseconds since 1970, in UTC; 0 has not come.

-- On whose behalf: a key, or where `is_person` a user for the project; neither where nobody is asked.
-- `store` is the folder of files that has the input. `waits_code` is empty where nothing holds it up. A batch
-- is run by the server `runner`, which may be no more once the lease has ended.
CREATE TABLE batches (
  id TEXT PRIMARY KEY,
  project_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  is_person BIGINT NOT NULL,
  store TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  input_file_id TEXT NOT NULL,
  output_file_id TEXT NOT NULL,
  error_file_id TEXT NOT NULL,
  output_lifetime_ms BIGINT NOT NULL,
  metadata TEXT NOT NULL,
  status TEXT NOT NULL,
  errors TEXT NOT NULL,
  waits_code TEXT NOT NULL,
  waits_message TEXT NOT NULL,
  total BIGINT NOT NULL,
  completed BIGINT NOT NULL,
  failed BIGINT NOT NULL,
  created_at_ms BIGINT NOT NULL,
  expires_at_ms BIGINT NOT NULL,
  in_progress_at_ms BIGINT NOT NULL,
  finalizing_at_ms BIGINT NOT NULL,
  completed_at_ms BIGINT NOT NULL,
  failed_at_ms BIGINT NOT NULL,
  expired_at_ms BIGINT NOT NULL,
  cancelling_at_ms BIGINT NOT NULL,
  cancelled_at_ms BIGINT NOT NULL,
  runner TEXT NOT NULL,
  lease_ends_at_ms BIGINT NOT NULL
);

CREATE INDEX batches_by_project ON batches (project_id, created_at_ms, id);
CREATE INDEX batches_by_status ON batches (status);
CREATE INDEX batches_by_input ON batches (input_file_id);

-- Lines of batches that have not ended which have their result: where it stands in the server's file.
CREATE TABLE batch_lines (
  batch_id TEXT NOT NULL REFERENCES batches (id),
  line BIGINT NOT NULL,
  server TEXT NOT NULL,
  start BIGINT NOT NULL,
  bytes BIGINT NOT NULL,
  is_error BIGINT NOT NULL,
  PRIMARY KEY (batch_id, line)
);
