-- How people sign in.

-- Argon2id with its parameters and salt, as "$argon2id$v=19$..."; none: not by a password.
ALTER TABLE users ADD COLUMN password_hash TEXT;

-- Who has signed in and not out. Of the cookie's token a hash alone is kept; `used_at_ms` is no newer than to
-- the minute.
CREATE TABLE sessions (
  token_hash TEXT PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (id),
  created_at_ms BIGINT NOT NULL,
  used_at_ms BIGINT NOT NULL
);

CREATE INDEX sessions_by_user ON sessions (user_id);

-- Links by which the first owner chooses a password.
CREATE TABLE set_up_links (
  token_hash TEXT PRIMARY KEY,
  expires_at_ms BIGINT NOT NULL
);
