-- With a default, so that the release before this one can go on adding entries while it is replaced.
ALTER TABLE entries ADD COLUMN IF NOT EXISTS place text NOT NULL DEFAULT 'unknown';
