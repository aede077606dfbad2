-- Tokens of a month that cost nothing before a price begins, for each project.
ALTER TABLE prices ADD COLUMN free_tokens BIGINT NOT NULL DEFAULT 0;

-- What a request may use of them at most, and the model or endpoint whose they are; '' where there are none.
ALTER TABLE reservations ADD COLUMN free_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE reservations ADD COLUMN free_model TEXT NOT NULL DEFAULT '';

-- What was used of them: in the sums of a project, for the model or endpoint whose they are.
ALTER TABLE usage_records ADD COLUMN free_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_sums ADD COLUMN free_tokens BIGINT NOT NULL DEFAULT 0;
