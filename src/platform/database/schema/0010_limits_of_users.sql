-- Limits may be for a user too, over all of the user's keys and sessions. `user_id` is empty for keys that a
-- project owns.
ALTER TABLE reservations ADD COLUMN user_id TEXT NOT NULL DEFAULT '';

CREATE INDEX reservations_by_user ON reservations (user_id);
