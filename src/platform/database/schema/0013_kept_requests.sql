-- What projects choose to keep of requests. Times are milliseconds since 1970, in UTC.

-- For so many days; 0: nothing is kept.
ALTER TABLE projects ADD COLUMN keep_days BIGINT NOT NULL DEFAULT 0;

-- Of all that is kept of it, as it counts for the most that a project may keep.
ALTER TABLE projects ADD COLUMN kept_bytes BIGINT NOT NULL DEFAULT 0;

-- Requests with what was asked and answered. `key_name` is the key's or, of who had signed in, the
-- user's, as it was then; `user_id` is the key's owner or that user, and may be gone. `prompt` is the body as it was
-- sent, or its beginning; `answer` is a JSON array. They stand last, as lists read what is before them.
CREATE TABLE kept_requests (
  number {counter},
  project_id TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  at_ms BIGINT NOT NULL,
  request_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  key_name TEXT NOT NULL,
  user_id TEXT NOT NULL,
  model TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  finish_reason TEXT NOT NULL,
  bytes BIGINT NOT NULL,
  prompt_is_cut BIGINT NOT NULL,
  answer_is_cut BIGINT NOT NULL,
  prompt TEXT NOT NULL,
  answer TEXT NOT NULL
);

CREATE INDEX kept_requests_by_project ON kept_requests (project_id, number);
CREATE INDEX kept_requests_by_time ON kept_requests (project_id, at_ms);
