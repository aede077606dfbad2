-- What limits of a key count stays when the key is rotated.

-- Whose limits hold for the key, and count what it uses: the first key of those that rotation made of one
-- another. Keys that were rotated before this step count for themselves, as they did.
ALTER TABLE api_keys ADD COLUMN allowance_id TEXT NOT NULL DEFAULT '';
UPDATE api_keys SET allowance_id = id;

ALTER TABLE reservations ADD COLUMN allowance_id TEXT NOT NULL DEFAULT '';
UPDATE reservations SET allowance_id = key_id;
DROP INDEX reservations_by_key;
CREATE INDEX reservations_by_allowance ON reservations (allowance_id);

-- The limits a minute from which something was taken at the admission, as JSON: [[subject, model, kind, most], ...].
-- They alone get back what was not used, at that rate; none of those that were set since.
-- `has_rates` stays, written for servers of before that run on beside newer ones.
ALTER TABLE reservations ADD COLUMN rates TEXT NOT NULL DEFAULT '[]';
