-- What may be used, and what was. Times are milliseconds since 1970, in UTC; a day is "2026-11-28" and a
-- month "2026-11", in UTC. Money is in millionths of the operator's currency ("micros").

-- How much a subject (the id of an organisation, a project or a key) may use of a model, or with the
-- model "" of all models together.
CREATE TABLE limits (
  subject TEXT NOT NULL,
  model TEXT NOT NULL,
  kind TEXT NOT NULL,
  most BIGINT NOT NULL,
  PRIMARY KEY (subject, model, kind)
);

-- Micros for a million tokens of a model; the model "" stands for those without a row.
CREATE TABLE prices (
  model TEXT PRIMARY KEY,
  prompt_micros BIGINT NOT NULL,
  cached_micros BIGINT NOT NULL,
  completion_micros BIGINT NOT NULL
);

-- Servers that may have reservations. One whose lease has ended is taken for dead.
CREATE TABLE meter_servers (
  id TEXT PRIMARY KEY,
  lease_ends_at_ms BIGINT NOT NULL
);

-- Requests that were admitted and have not ended: the most that they may use, and what they are known
-- to have used. The price is that of the admission. One that is abandoned has a record already, as its
-- server was taken for dead, reserves nothing, and waits for what that server may still say of it.
CREATE TABLE reservations (
  id TEXT PRIMARY KEY,
  server TEXT NOT NULL,
  organisation_id TEXT NOT NULL,
  project_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  request_id TEXT NOT NULL,
  model TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  admitted_at_ms BIGINT NOT NULL,
  day TEXT NOT NULL,
  month TEXT NOT NULL,
  tokens BIGINT NOT NULL,
  micros BIGINT NOT NULL,
  has_rates BIGINT NOT NULL,
  prompt_micros BIGINT NOT NULL,
  cached_micros BIGINT NOT NULL,
  completion_micros BIGINT NOT NULL,
  used_prompt_tokens BIGINT NOT NULL,
  used_completion_tokens BIGINT NOT NULL,
  is_abandoned BIGINT NOT NULL
);

CREATE INDEX reservations_by_key ON reservations (key_id);
CREATE INDEX reservations_by_project ON reservations (project_id);
CREATE INDEX reservations_by_server ON reservations (server);

-- The ledger: requests that have ended. Rows are only ever added, until they are older than the
-- operator keeps them; that of an abandoned request is replaced once, if its server comes back.
CREATE TABLE usage_records (
  id TEXT PRIMARY KEY,
  at_ms BIGINT NOT NULL,
  organisation_id TEXT NOT NULL,
  project_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  request_id TEXT NOT NULL,
  model TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  prompt_tokens BIGINT NOT NULL,
  cached_tokens BIGINT NOT NULL,
  reasoning_tokens BIGINT NOT NULL,
  completion_tokens BIGINT NOT NULL,
  ttft_ms DOUBLE PRECISION NOT NULL,
  duration_ms DOUBLE PRECISION NOT NULL,
  finish_reason TEXT NOT NULL,
  micros BIGINT NOT NULL
);

CREATE INDEX usage_records_by_time ON usage_records (at_ms);

-- The records added up, so that a limit is checked without reading them. `period` is a day or a month.
CREATE TABLE usage_sums (
  subject TEXT NOT NULL,
  model TEXT NOT NULL,
  period TEXT NOT NULL,
  requests BIGINT NOT NULL,
  tokens BIGINT NOT NULL,
  micros BIGINT NOT NULL,
  PRIMARY KEY (subject, model, period)
);

-- Of each limit a minute, the time (in microseconds) at which all of it can be used again.
CREATE TABLE rate_levels (
  subject TEXT NOT NULL,
  model TEXT NOT NULL,
  kind TEXT NOT NULL,
  full_at_us BIGINT NOT NULL,
  PRIMARY KEY (subject, model, kind)
);
