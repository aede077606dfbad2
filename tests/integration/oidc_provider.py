"""A small OpenID Connect provider: what an honest one does, and what a broken or hostile one might."""

import base64
import hashlib
import http.server
import json
import threading
import time
import urllib.parse

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa


class Provider:
    """Signs in everybody as `claims` say. `change(claims, header)` may alter what the next token says."""

    def __init__(self, client_id="ridge", client_secret="provider secret"):
        self.client_id, self.client_secret = client_id, client_secret
        self.keys = {"one": rsa.generate_private_key(public_exponent=65537, key_size=2048)}
        self.published = ["one"]
        self.key_id, self.algorithm = "one", "RS256"
        self.claims = {"sub": "s1", "email": "ann@example.org", "email_verified": True}
        self.sign = self.honest_token
        self.codes, self.key_reads = {}, 0
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def reply(self, body, status=200):
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def do_GET(self):
                if self.path == "/.well-known/openid-configuration":
                    self.reply(provider.configuration())
                elif self.path == "/keys":
                    provider.key_reads += 1
                    self.reply({"keys": [provider.public_key(name) for name in provider.published]})
                else:
                    self.reply({}, 404)

            def do_POST(self):
                form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                self.reply(*provider.exchange(form, self.headers.get("Authorization")))

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.issuer = self.url
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def configuration(self):
        return {"issuer": self.issuer, "authorization_endpoint": self.url + "/authorize",
                "token_endpoint": self.url + "/token", "jwks_uri": self.url + "/keys"}

    def public_key(self, name):
        key = self.keys[name].public_key()
        algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPublicKey) else jwt.algorithms.ECAlgorithm
        return {**json.loads(algorithm.to_jwk(key)), "kid": name, "use": "sig"}

    def add_ec_key(self, name):
        self.keys[name] = ec.generate_private_key(ec.SECP256R1())

    def authorize(self, location):
        """What the person's browser does at the provider; the query with which it comes back."""
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(location).query))
        assert location.startswith(self.url + "/authorize?") and query["client_id"] == self.client_id
        assert query["response_type"] == "code" and query["code_challenge_method"] == "S256"
        assert "openid" in query["scope"].split()
        code = f"code/{len(self.codes)}&+"
        self.codes[code] = query
        return {"state": query["state"], "code": code}

    def exchange(self, form, authorization):
        wanted = base64.b64encode(
            f"{self.client_id}:{urllib.parse.quote(self.client_secret)}".encode()).decode()
        asked = self.codes.pop(form.get("code"), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (authorization != f"Basic {wanted}" or asked is None or form["grant_type"] != "authorization_code"
                or challenge.rstrip(b"=").decode() != asked["code_challenge"]
                or form["redirect_uri"] != asked["redirect_uri"]):
            return {"error": "invalid_grant"}, 400
        now = int(time.time())
        claims = {**self.claims, "iss": self.issuer, "aud": self.client_id, "iat": now, "exp": now + 300,
                  "nonce": asked["nonce"]}
        return {"access_token": "a", "token_type": "Bearer", "id_token": self.sign(claims)}, 200

    def honest_token(self, claims, **header):
        return jwt.encode(claims, self.keys[self.key_id], self.algorithm, headers={"kid": self.key_id, **header})
