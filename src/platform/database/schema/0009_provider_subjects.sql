-- Who a person is at an OpenID Connect provider, from the first time on that they sign in there. Names and
-- addresses may change hands; the subject does not.
ALTER TABLE users ADD COLUMN oidc_issuer TEXT;

ALTER TABLE users ADD COLUMN oidc_subject TEXT;

CREATE UNIQUE INDEX users_by_oidc_subject ON users (oidc_issuer, oidc_subject);
