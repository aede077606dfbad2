"""Signing in at an OpenID Connect provider, and what it must not let through."""

import base64
import hmac
import json
import subprocess
import urllib.parse

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from oidc_provider import Provider
from ridge_process import MODEL, RidgeServer
from test_sign_in import Browser


@pytest.fixture(scope="module")
def signed_for(ridge_binary, model_environment, tmp_path_factory):
    """start(*options) -> (server, provider), with the user ann@example.org; one server for each set of options."""
    folder = tmp_path_factory.mktemp("oidc")
    running = {}

    def start(*options):
        if options not in running:
            provider = Provider()
            environment = {**model_environment, "RIDGE_OIDC_CLIENT_SECRET": provider.client_secret,
                           "RIDGE_DATABASE": str(folder / f"platform{len(running)}.db")}
            subprocess.run([ridge_binary, "user", "create", "ann@example.org", "--role", "owner"], env=environment,
                           check=True, capture_output=True, timeout=60)
            server = RidgeServer(ridge_binary, environment, MODEL,
                                 ["--context", "512", "--oidc-issuer", provider.issuer, "--oidc-client-id", "ridge",
                                  *options], asks_for_keys=True)
            running[options] = server, provider
        server, provider = running[options]
        provider.__dict__.update(sign=provider.honest_token, key_id="one", algorithm="RS256",
                                 claims={"sub": "s1", "email": "ann@example.org", "email_verified": True})
        return server, provider

    yield start
    for server, provider in running.values():
        server.stop()
        provider.stop()


def begin(server, browser):
    status, headers, _ = server.request("GET", "/api/v1/oidc/start")
    assert status == 302
    cookie = headers["Set-Cookie"]
    assert "HttpOnly; SameSite=Lax" in cookie and cookie.startswith("ridge_oidc=")
    browser.cookies.load(cookie)
    return headers["Location"]


def come_back(server, browser, query):
    """The reason why it failed, or None; the browser is then signed in."""
    sent = {"Cookie": "; ".join(f"{name}={each.value}" for name, each in browser.cookies.items())}
    status, headers, body = server.request(
        "GET", "/api/v1/oidc/callback?" + urllib.parse.urlencode(query), headers=sent)
    assert status == 302, body
    for cookie in headers.get_all("Set-Cookie"):
        browser.cookies.load(cookie)
    location = headers["Location"]
    if location == "/":
        return None
    assert "ridge_session" not in "".join(headers.get_all("Set-Cookie"))
    assert location.startswith("/#/login?error=")
    return urllib.parse.unquote(location.partition("=")[2])


def sign_in(server, provider):
    browser = Browser(server)
    failure = come_back(server, browser, provider.authorize(begin(server, browser)))
    return failure or browser.ask("GET", "/api/v1/session")[1]["user"]


def test_a_user_of_the_provider_signs_in(signed_for):
    server, provider = signed_for()
    assert "set_up_token" not in server.greeting  # The owner can sign in.
    assert Browser(server).ask("GET", "/api/v1/session")[1]["oidc"] is True
    assert sign_in(server, provider) == {"name": "ann@example.org", "role": "owner", "project": "default",
                                         "projects": ["default"], "roles": {"default": "owner"},
                                         "keeping": {}}
    provider.add_ec_key("two")
    provider.published.append("two")
    log = server.read_log()
    assert provider.client_secret not in log and "code/" not in log


def test_attempts_belong_to_one_browser_and_serve_once(signed_for):
    server, provider = signed_for()
    mine, other = Browser(server), Browser(server)
    query = provider.authorize(begin(server, mine))
    begin(server, other)
    assert "did not begin" in come_back(server, other, query)
    assert "did not begin" in come_back(server, Browser(server), query)
    assert "did not begin" in come_back(server, mine, {**query, "state": "0" * 64})  # Which ends the attempt.
    query = provider.authorize(begin(server, mine))
    assert come_back(server, mine, query) is None
    assert "did not begin" in come_back(server, mine, query)


def test_users_who_are_not_there_are_refused_or_made(signed_for):
    server, provider = signed_for()
    provider.claims.update(sub="s2", email="eve@example.org")
    assert "'eve@example.org' may not sign in here" in sign_in(server, provider)
    provider.claims.update(email="ann@example.org", email_verified=False)
    assert "verified" in sign_in(server, provider)
    server, provider = signed_for("--oidc-create-role", "viewer", "--oidc-name-claim", "preferred_username")
    provider.claims = {"sub": "s2", "preferred_username": "eve"}
    assert sign_in(server, provider) == {"name": "eve", "role": "viewer", "project": "default", "projects": ["default"],
                                         "roles": {"default": "viewer"}, "keeping": {}}
    provider.claims = {"sub": "s2"}
    assert "does not say your 'preferred_username'" in sign_in(server, provider)


def test_a_person_is_known_by_the_subject_and_not_by_the_address(signed_for):
    server, provider = signed_for()
    assert isinstance(sign_in(server, provider), dict)
    provider.claims["email"] = "ann.new@example.org"  # as after a marriage
    assert sign_in(server, provider)["name"] == "ann@example.org"
    provider.claims.update(sub="s9", email="ann@example.org")  # whoever has got the address since
    assert "somebody else" in sign_in(server, provider)
    for subject in ("\u00e4", "x" * 256):
        provider.claims["sub"] = subject
        assert "255 characters" in sign_in(server, provider)
    provider.claims["sub"] = "s1"
    assert isinstance(sign_in(server, provider), dict)


def part(value):
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def unsigned(claims):
    return f"{part(json.dumps({'alg': 'none', 'kid': 'one'}).encode())}.{part(json.dumps(claims).encode())}."


def signed_with_public_key(provider):
    """HMAC with what everybody knows, for who lets the token choose; no library signs so."""
    pem = provider.keys["one"].public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def sign(claims):
        text = f"{part(json.dumps({'alg': 'HS256', 'kid': 'one'}).encode())}.{part(json.dumps(claims).encode())}"
        return f"{text}.{part(hmac.digest(pem, text.encode(), 'sha256'))}"

    return sign


@pytest.mark.parametrize("name", ["issuer", "audience", "audiences", "expired", "future", "nonce", "nobody", "none",
                                  "hmac", "stranger", "unknown key", "crit", "changed", "no token"])
def test_tokens_that_prove_nothing_are_refused(signed_for, name):
    server, provider = signed_for()
    honest, strange = provider.honest_token, rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def changed(**claims):
        return lambda honest_claims: honest({**honest_claims, **claims})

    def altered(claims):
        head, _, signature = honest(claims).split(".")
        body = base64.urlsafe_b64encode(json.dumps({**claims, "email": "boss@example.org"}).encode())
        return f"{head}.{body.rstrip(b'=').decode()}.{signature}"

    sign, reason = {
        "issuer": (changed(iss="https://other.example"), "another issuer"),
        "audience": (changed(aud="other"), "another client"),
        "audiences": (changed(aud=["ridge", "other"], azp="other"), "another client"),
        "expired": (changed(exp=1_700_000_000), "has expired"),
        "future": (changed(iat=4_000_000_000), "of the future"),
        "nonce": (changed(nonce="0" * 64), "another attempt"),
        "nobody": (changed(sub=""), "names nobody"),
        "none": (unsigned, "no signed token|not signed in a way"),
        "hmac": (signed_with_public_key(provider), "not signed in a way"),
        "stranger": (lambda claims: jwt.encode(claims, strange, "RS256", headers={"kid": "one"}), "signature"),
        "unknown key": (lambda claims: jwt.encode(claims, strange, "RS256", headers={"kid": "x"}), "not publish"),
        "crit": (lambda claims: honest(claims, crit=["x"], x=1), "not known|no signed token"),
        "changed": (altered, "signature"),
        "no token": (lambda claims: "x.y", "no signed token"),
    }[name]
    provider.sign = sign
    failure = sign_in(server, provider)
    assert isinstance(failure, str) and any(each in failure for each in reason.split("|")), failure
    provider.sign = honest
    assert isinstance(sign_in(server, provider), dict)  # Which also forgives the attempt to the throttle.


def test_new_keys_of_the_provider_are_read_but_not_for_each_made_up_one(signed_for):
    server, provider = signed_for("--oidc-create-role", "viewer")
    assert isinstance(sign_in(server, provider), dict)
    reads = provider.key_reads
    provider.sign = lambda claims: provider.honest_token(claims, kid="made up")
    for _ in range(3):
        assert "not publish" in sign_in(server, provider)
    assert provider.key_reads == reads


def test_elliptic_curves_are_read(signed_for):
    server, provider = signed_for("--oidc-name-claim", "email", "--oidc-create-role", "viewer")
    provider.add_ec_key("ec")
    provider.published, provider.key_id, provider.algorithm = ["one", "ec"], "ec", "ES256"
    assert isinstance(sign_in(server, provider), dict)


def test_a_provider_that_is_away_is_said(ridge_binary, model_environment, tmp_path):
    environment = {**model_environment, "RIDGE_DATABASE": str(tmp_path / "platform.db")}
    server = RidgeServer(ridge_binary, environment, MODEL, ["--context", "512", "--oidc-issuer", "http://127.0.0.1:1",
                                                            "--oidc-client-id", "x"], asks_for_keys=True)
    try:
        assert server.request("GET", "/api/v1/oidc/start")[0] == 503
        assert server.request("GET", "/health")[0] == 200
    finally:
        server.stop()


def test_wrong_options_are_named(ridge_binary, model_environment):
    for options, text in [
        (["--oidc-issuer", "http://login.example.org", "--oidc-client-id", "x"], "https://"),
        (["--oidc-issuer", "https://login.example.org"], "--oidc-client-id"),
        (["--oidc-issuer", "https://a.example", "--oidc-client-id", "x", "--oidc-create-role", "king"], "owner, admin"),
        (["--oidc-issuer", "https://a.example", "--oidc-client-id", "x", "--oidc-client-secret-file", "/none"],
         "--oidc-client-secret-file"),
    ]:
        result = subprocess.run([ridge_binary, "serve", MODEL, "--port", "0", *options], env=model_environment,
                                capture_output=True, text=True, timeout=60)
        assert result.returncode == 2 and text in result.stderr, result.stderr
