-- Endpoints: names of the operator's own, which clients put in `model`. Times are milliseconds since 1970.

CREATE TABLE endpoints (
  id TEXT PRIMARY KEY,
  organisation_id TEXT NOT NULL REFERENCES organisations (id),
  name TEXT NOT NULL,
  is_enabled BIGINT NOT NULL,
  moderation_url TEXT NOT NULL,
  created_at_ms BIGINT NOT NULL,
  updated_at_ms BIGINT NOT NULL,
  UNIQUE (organisation_id, name)
);

-- What a model is asked with. Versions are never changed; an empty setting is the model's own.
CREATE TABLE endpoint_versions (
  endpoint_id TEXT NOT NULL REFERENCES endpoints (id),
  number BIGINT NOT NULL,
  model TEXT NOT NULL,
  system_prompt TEXT NOT NULL,
  temperature DOUBLE PRECISION,
  top_p DOUBLE PRECISION,
  top_k BIGINT,
  min_p DOUBLE PRECISION,
  max_tokens BIGINT,
  created_at_ms BIGINT NOT NULL,
  PRIMARY KEY (endpoint_id, number)
);

-- How many percent of the requests each version gets. The newest release holds; the ones before it are kept
-- for a rollback, which takes the newest away.
CREATE TABLE endpoint_shares (
  endpoint_id TEXT NOT NULL REFERENCES endpoints (id),
  release_number BIGINT NOT NULL,
  version BIGINT NOT NULL,
  percent BIGINT NOT NULL,
  PRIMARY KEY (endpoint_id, release_number, version)
);

-- Counts the changes of the tables above, so that a server sees with one look whether there are any.
CREATE TABLE endpoint_revision (
  revision BIGINT NOT NULL
);

INSERT INTO endpoint_revision (revision) VALUES (0);

-- In `endpoint` the ledger has the path that was asked ("/v1/chat/completions"); here, the name of the custom
-- endpoint and its version, or '' and 0 where a model was asked by its own name.
ALTER TABLE reservations ADD COLUMN custom_endpoint TEXT NOT NULL DEFAULT '';
ALTER TABLE reservations ADD COLUMN endpoint_version BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_records ADD COLUMN custom_endpoint TEXT NOT NULL DEFAULT '';
ALTER TABLE usage_records ADD COLUMN endpoint_version BIGINT NOT NULL DEFAULT 0;
