"""The admin API: what administrators, developers and viewers may ask, see and change, on SQLite and PostgreSQL."""

import csv
import io
import json
import subprocess
import time
import urllib.parse

import openai
import pytest

import kill_server
from ridge_process import RidgeServer
from test_identity import postgres_url  # noqa: F401
from test_openapi import check_answer, schema_of
from test_sign_in import Browser
from test_tls import TlsServer, make_certificate

PASSWORD = "correct horse"


class Team:
    """A server that asks who comes, with people of each role, and a key of a project's own that administers.

    What is asked of it must be answered as its OpenAPI document says.
    """

    def __init__(self, binary, environment):
        self.binary, self.environment = binary, environment
        self.server = RidgeServer(binary, environment, str(kill_server.MODEL), ["--threads", "1"], asks_for_keys=True)
        self.key = self.run("key", "create", "ci", "--scopes", "admin")["key"]
        self.document = json.loads(self.key_ask("GET", "/openapi.json", scope="inference")[1])
        self.people = {}
        for name, role in [("olga", "owner"), ("adam", "admin"), ("dev", "developer"), ("dora", "developer"),
                           ("vera", "viewer")]:  # fmt: skip
            self.run("user", "create", name, "--role", role)
            self.run("user", "password", name, given=PASSWORD + "\n")
            self.people[name] = Browser(self.server)
            assert self.people[name].sign_in(name, PASSWORD) == 200

    def run(self, *words, given=None):
        result = subprocess.run([self.binary, *words, "--json"], env=self.environment, text=True, capture_output=True,
                                input=given, timeout=60)  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        return json.loads(result.stdout) if result.stdout else None

    def elsewhere(self, folder):
        """The environment of another machine, and the options that give commands there a key of the server's."""
        key_file = folder / "admin.key"
        key_file.write_text(self.key + "\n")
        environment = {name: value for name, value in self.environment.items() if name != "RIDGE_DATABASE"}
        return {**environment, "RIDGE_HOME": str(folder / "nothing")}, ("--api-key-file", str(key_file))

    def key_ask(self, method, path, body=None, scope=None):
        """(status, text), by the administering key, or by one made for this with another scope."""
        key = self.run("key", "create", "reader", "--scopes", scope)["key"] if scope else self.key
        status, _, text = self.server.request(method, path, None if body is None else json.dumps(body),
                                              {"Authorization": f"Bearer {key}"})  # fmt: skip
        return status, text

    def ask(self, who, method, path, body=None, headers=None):
        """(status, parsed answer) of somebody who has signed in, or of the key "ci"."""
        if who == "ci":
            status, text = self.key_ask(method, path, body)
            answer = json.loads(text) if text else None
        else:
            status, answer = self.people[who].ask(method, path, body, headers)
        self.check(method, path, status, answer)
        return status, answer

    def check(self, method, path, status, answer):
        parts = urllib.parse.urlsplit(path).path.split("/")
        if len(parts) > 4:
            parts[4] = "{id}"
        answers = self.document["paths"]["/".join(parts)][method.lower()]["responses"]
        described = answers.get(str(status)) or self.document["components"]["responses"]["Refused"]
        if "content" in described:
            check_answer(self.document, schema_of(described), answer)

    def get(self, who, path):
        """What is answered, which must be 200 or 201."""
        return self.do(who, "GET", path)

    def do(self, who, method, path, body=None, headers=None):
        status, answer = self.ask(who, method, path, body, headers)
        assert status in (200, 201), (status, answer)
        return answer

    def refusal(self, who, method, path, body=None, headers=None):
        """(status, the field that is named)"""
        status, answer = self.ask(who, method, path, body, headers)
        assert status >= 400, answer
        return status, answer["error"]["param"]

    def complete(self, key, **fields):
        client = openai.OpenAI(base_url=self.server.url + "/v1", api_key=key, max_retries=0, timeout=60)
        return client.completions.create(model=client.models.list().data[0].id, prompt="a", max_tokens=5, **fields)


@pytest.fixture(params=["sqlite", "postgresql"])
def team(request, ridge_binary, clean_environment, tmp_path):
    environment = {**clean_environment, "RIDGE_HOME": str(tmp_path / "data")}
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres_url")
        if "missing" in server:
            pytest.skip(f"NOT TESTED on PostgreSQL: {server['missing']}")
        environment["RIDGE_DATABASE"] = server["url"]
        subprocess.run(["psql", server["url"], "-qc", "DROP SCHEMA public CASCADE; CREATE SCHEMA public"], check=True,
                       capture_output=True)  # fmt: skip
    made = Team(ridge_binary, environment)
    yield made
    made.server.stop()


def test_every_change_is_in_the_audit_log_with_who_made_it(team):
    project = team.do("adam", "POST", "/api/v1/projects", {"name": "search", "weight": 2})
    team.do("adam", "PATCH", f"/api/v1/projects/{project['id']}", {"weight": 3})
    team.do("olga", "POST", "/api/v1/users", {"name": "bot", "kind": "service", "project": "search"})
    team.do("ci", "PATCH", "/api/v1/users/bot", {"role": "viewer"})
    team.do("olga", "PATCH", "/api/v1/users/bot", {"disabled": True})
    key = team.do("dev", "POST", "/api/v1/keys", {"name": "mine"})
    rotated = team.do("dev", "POST", f"/api/v1/keys/{key['id']}/rotate", {"grace_ms": 60_000})
    team.do("dev", "DELETE", f"/api/v1/keys/{rotated['id']}")
    team.do("ci", "PUT", "/api/v1/limits", {"project": "search", "kind": "tokens_per_day", "most": 9})
    team.do("adam", "PUT", "/api/v1/prices", {"model": "*", "prompt": 1, "completion": 2})
    team.do("adam", "PUT", "/api/v1/prices", {"model": "*", "price": None})
    team.do("olga", "DELETE", "/api/v1/usage?before=2020-01-01")  # there is none, but it was asked
    events = team.get("adam", "/api/v1/audit?limit=12")["data"]
    assert [(each["actor"], each["action"]) for each in reversed(events)] == [
        ("user:adam", "project.create"), ("user:adam", "project.change"), ("user:olga", "user.create"),
        ("key:ci", "user.change"), ("user:olga", "user.disable"), ("user:dev", "key.create"),
        ("user:dev", "key.rotate"), ("user:dev", "key.revoke"), ("key:ci", "limit.set"),
        ("user:adam", "price.set"), ("user:adam", "price.remove"), ("user:olga", "usage.forget")]  # fmt: skip
    earlier = team.get("adam", f"/api/v1/audit?limit=1&before={events[-1]['number']}")["data"]
    assert (earlier[0]["number"], earlier[0]["action"]) == (events[-1]["number"] - 1, "session.begin")
    text = json.dumps(team.get("adam", "/api/v1/audit?limit=1000"))
    assert key["key"] not in text and rotated["key"] not in text and PASSWORD not in text
    assert "mine" in text
    log = team.server.read_log()
    assert key["key"] not in log and rotated["key"] not in log


def test_developers_see_and_change_their_own_keys_alone(team):
    own = team.do("dev", "POST", "/api/v1/keys", {"name": "own"})
    assert (own["user"], own["project"], own["scopes"]) == ("dev", "default", ["inference"])
    assert team.complete(own["key"]).usage.completion_tokens > 0
    others = [team.do("dora", "POST", "/api/v1/keys", {"name": "dora's"}),
              team.do("adam", "POST", "/api/v1/keys", {"name": "team"})]  # fmt: skip
    assert [key["id"] for key in team.get("dev", "/api/v1/keys")["data"]] == [own["id"]]
    for other in others:
        assert team.refusal("dev", "DELETE", f"/api/v1/keys/{other['id']}") == (404, None)
        assert team.refusal("dev", "POST", f"/api/v1/keys/{other['id']}/rotate", {}) == (404, None)
        assert team.refusal("dev", "GET", f"/api/v1/keys?after={other['id']}") == (400, "after")
        assert team.complete(other["key"]).usage.completion_tokens > 0
    assert team.refusal("dev", "DELETE", "/api/v1/keys/key_none") == (404, None)
    for body, refusal in [({"user": "dora"}, (403, "user")), ({"project": "search"}, (403, "project")),
                          ({"scopes": ["admin"]}, (400, "scopes")), ({"name": "own"}, (409, None))]:  # fmt: skip
        assert team.refusal("dev", "POST", "/api/v1/keys", {"name": "k", **body}) == refusal, body
    ids = {key["id"] for key in team.get("adam", "/api/v1/keys")["data"]}
    assert {own["id"], *(other["id"] for other in others)} <= ids
    assert team.do("adam", "DELETE", f"/api/v1/keys/{own['id']}")["state"] == "revoked"
    until = time.monotonic() + 60
    with pytest.raises(openai.AuthenticationError):
        while time.monotonic() < until:
            team.complete(own["key"])
    assert team.get("dev", "/api/v1/keys")["data"][0]["state"] == "revoked"


def test_a_developer_makes_keys_in_projects_as_a_member_alone(team):
    team.do("adam", "POST", "/api/v1/projects", {"name": "search"})
    there = {"x-ridge-project": "search"}
    assert team.refusal("dev", "POST", "/api/v1/keys", {"name": "k"}, there)[0] == 404
    wanted = {"name": "first", "project": "search", "user": "dev"}
    assert team.refusal("adam", "POST", "/api/v1/keys", wanted) == (400, "user")
    team.do("adam", "PUT", "/api/v1/projects/search/members", {"user": "dev", "role": "developer"})
    given = team.do("adam", "POST", "/api/v1/keys", {"name": "first", "project": "search", "user": "dev"})
    assert team.do("dev", "POST", "/api/v1/keys", {"name": "k"}, there)["project"] == "search"
    keys = team.get("dev", "/api/v1/keys?project=search")["data"]
    assert [key["name"] for key in keys] == ["first", "k"]
    team.do("adam", "PUT", "/api/v1/projects/search/members", {"user": "dev", "role": None})
    assert team.refusal("dev", "POST", "/api/v1/keys", {"name": "k2"}, there)[0] == 404
    assert {key["state"] for key in team.get("dev", "/api/v1/keys?project=search")["data"]} == {"revoked"}
    assert given["id"] == keys[0]["id"]


def test_roles_bound_what_people_ask(team):
    key = team.do("olga", "POST", "/api/v1/keys", {"name": "boss", "user": "olga", "scopes": ["admin"]})
    for path in ("projects", "users", "limits", "prices", "audit"):
        assert team.refusal("dev", "GET", f"/api/v1/{path}")[0] == 403
        assert team.refusal("vera", "GET", f"/api/v1/{path}")[0] == 403
        assert team.get("adam", f"/api/v1/{path}")["data"] is not None
    assert team.refusal("vera", "GET", "/api/v1/keys")[0] == 403
    assert team.get("vera", "/api/v1/usage") == {"rows": []}
    assert team.refusal("vera", "DELETE", "/api/v1/usage?before=2020-01-01")[0] == 403
    # An admin administers all but owners.
    for method, path, body in [("PATCH", "/api/v1/users/olga", {"role": "viewer"}),
                               ("PATCH", "/api/v1/users/dev", {"role": "owner"}),
                               ("POST", "/api/v1/users", {"name": "eve", "role": "owner"}),
                               ("POST", "/api/v1/keys", {"name": "k", "user": "olga"}),
                               ("POST", f"/api/v1/keys/{key['id']}/rotate", {}),
                               ("DELETE", f"/api/v1/keys/{key['id']}", None)]:  # fmt: skip
        assert team.refusal("adam", method, path, body)[0] == 403, path
        assert team.refusal("ci", method, path, body)[0] == 403, path
    # The only owner stays one, and a role counts at once.
    assert team.refusal("olga", "PATCH", "/api/v1/users/olga", {"role": "admin"})[0] == 400
    assert team.refusal("olga", "PATCH", "/api/v1/users/olga", {"disabled": True})[0] == 400
    assert team.do("olga", "PATCH", "/api/v1/users/adam", {"role": "developer"})["role"] == "developer"
    assert team.refusal("adam", "GET", "/api/v1/users")[0] == 403
    disabled = team.do("olga", "PATCH", "/api/v1/users/dev", {"disabled": True})
    assert disabled["disabled_at_ms"] and team.people["dev"].ask("GET", "/api/v1/keys")[0] == 401
    assert team.do("olga", "PATCH", f"/api/v1/users/{disabled['id']}", {"disabled": False})["disabled_at_ms"] is None
    assert team.people["dev"].sign_in("dev", PASSWORD) == 200


def test_a_key_without_the_scope_admin_administers_nothing(team):
    key = team.run("key", "create", "plain", "--scopes", "inference,metrics")["key"]
    for method, path in [("GET", "keys"), ("POST", "keys"), ("GET", "usage"), ("GET", "projects")]:
        status, _, _ = team.server.request(method, f"/api/v1/{path}", "{}", {"x-api-key": key})
        assert status == 403, path
        assert team.server.request(method, f"/api/v1/{path}", "{}")[0] == 401, path


def test_long_lists_come_in_pages(team):
    for name in ("d", "a", "c/ä", "b"):
        team.do("adam", "POST", "/api/v1/projects", {"name": name})
        team.do("adam", "POST", "/api/v1/keys", {"name": name, "project": name})
    assert team.do("adam", "PATCH", f"/api/v1/projects/{urllib.parse.quote('c/ä', safe='')}", {"weight": 7})["weight"] == 7
    for path, by in [("projects", "name"), ("users", "name"), ("keys", "id")]:
        everything = team.get("adam", f"/api/v1/{path}")
        assert everything["has_more"] is False
        seen, after = [], ""
        while True:
            page = team.get("adam", f"/api/v1/{path}?limit=2&after={urllib.parse.quote(after)}")
            assert len(page["data"]) <= 2
            seen += page["data"]
            if not page["has_more"]:
                break
            after = page["data"][-1][by]
        assert seen == everything["data"]
        assert len(seen) > 4
        assert team.refusal("adam", "GET", f"/api/v1/{path}?limit=0") == (400, "limit")
        assert team.refusal("adam", "GET", f"/api/v1/{path}?after=nothing") == (400, "after")


def test_bad_input_is_refused_by_the_name_of_its_field(team):
    newest = team.get("olga", "/api/v1/audit?limit=1")
    for method, path, body, field in [
        ("POST", "projects", {"name": "p", "weight": 0}, "weight"),
        ("POST", "projects", {"name": "a\nb"}, "name"),
        ("POST", "users", {"name": "u", "role": "king"}, "role"),
        ("POST", "users", {"name": "u", "kind": "service"}, "project"),
        ("POST", "keys", {}, "name"),
        ("POST", "keys", {"name": "k", "scopes": ["all"]}, "scopes"),
        ("POST", "keys", {"name": "k", "addresses": ["10.0.0.1/8"]}, "addresses"),
        ("POST", "keys", {"name": "k", "lifetime_ms": -1}, "lifetime_ms"),
        ("PUT", "limits", {"kind": "tokens_per_day"}, "most"),
        ("PUT", "limits", {"kind": "tokens_per_year", "most": 1}, "kind"),
        ("PUT", "prices", {"model": "m", "prompt": 1, "cached": 2, "completion": 1}, "cached"),
        ("GET", "usage?by=colour", None, "by"),
        ("GET", "usage?from=yesterday", None, "from"),
        ("GET", "usage?to=2026-02-30", None, "to"),
        ("GET", "usage?format=xml", None, "format"),
        ("DELETE", "usage", None, "before"),
        ("GET", "audit?limit=1001", None, "limit"),
    ]:
        assert team.refusal("olga", method, f"/api/v1/{path}", body) == (400, field), (path, body)
    for path, body in [("limits", {"project": "none", "kind": "tokens_per_day", "most": 1}),
                       ("limits", {"project": "default", "key": "none", "kind": "tokens_per_day", "most": 1})]:
        assert team.refusal("olga", "PUT", f"/api/v1/{path}", body)[0] == 404
    assert team.refusal("olga", "PATCH", "/api/v1/projects/none", {"weight": 1})[0] == 404
    assert team.refusal("olga", "PATCH", "/api/v1/users/none", {"role": "viewer"})[0] == 404
    for strange in ("%FF", "%00", "a%00"):  # no text, which databases would refuse
        assert team.refusal("olga", "DELETE", f"/api/v1/keys/{strange}")[0] == 400
        assert team.refusal("olga", "GET", f"/api/v1/keys?project={strange}") == (400, "project")
        assert team.refusal("olga", "GET", f"/api/v1/keys?after={strange}") == (400, "after")
        assert team.refusal("olga", "PATCH", f"/api/v1/users/{strange}", {"role": "viewer"})[0] == 400
        assert team.refusal("olga", "GET", f"/api/v1/usage?project={strange}") == (400, "project")
    none = "x" * 3000
    assert team.refusal("olga", "DELETE", f"/api/v1/keys/{none}")[0] == 404
    assert team.get("olga", f"/api/v1/keys?project={none}")["data"] == []
    assert team.refusal("olga", "PATCH", f"/api/v1/users/{none}", {"role": "viewer"})[0] == 404
    assert team.refusal("olga", "GET", f"/api/v1/usage?project={none}")[0] == 404
    assert team.refusal("olga", "GET", "/api/v1/usage", headers={"x-ridge-project": b"\xff"})[0] == 404
    for text in ("[]", "{", '"name"'):
        status, _, answer = team.server.request("POST", "/api/v1/projects", text, {"x-api-key": team.key})
        assert status == 400 and b"JSON" in answer
    assert team.get("olga", "/api/v1/audit?limit=1") == newest, "nothing was changed"


def test_usage_is_seen_by_admins_and_by_who_acts_for_the_project(team):
    team.do("adam", "POST", "/api/v1/projects", {"name": "search"})
    formula = "=HYPERLINK(\"http://evil.example\",\"x\")"
    team.do("adam", "PUT", "/api/v1/projects/search/members", {"user": "dora", "role": "developer"})
    key = team.do("adam", "POST", "/api/v1/keys", {"name": formula, "project": "search", "user": "dora"})["key"]
    team.do("adam", "PUT", "/api/v1/prices", {"model": "*", "prompt": 1000, "completion": 10_000})
    used = team.complete(key).usage
    model = team.people["dev"].ask("GET", "/v1/models")[1]["data"][0]["id"]
    status, answer = team.people["dev"].ask("POST", "/v1/completions", {"model": model, "prompt": "a", "max_tokens": 3})
    assert status == 200

    everything = team.get("adam", "/api/v1/usage?by=project,key")["rows"]
    assert [(row["project"], row["key"]) for row in everything] == [("default", "dev"), ("search", formula)]
    assert everything[1]["total_tokens"] == used.total_tokens
    assert everything[1]["cost"] == pytest.approx((used.prompt_tokens * 1000 + used.completion_tokens * 10_000) / 1e6)
    assert everything == team.run("usage", "--by", "project,key")["rows"]
    [row] = team.get("adam", "/api/v1/usage?by=day&project=search")["rows"]
    assert row["requests"] == 1
    day = row["day"]
    assert team.get("adam", f"/api/v1/usage?by=&from={day}&to={day}")["rows"][0]["requests"] == 2
    assert team.get("adam", "/api/v1/usage?to=2020-01-01") == {"rows": []}
    assert team.refusal("adam", "GET", "/api/v1/usage?project=none") == (404, "project")

    # Who is no admin sees what the project has used that he acts for.
    for who in ("dev", "vera", "dora"):
        rows = team.get(who, "/api/v1/usage?by=project,key")["rows"]
        assert [(row["project"], row["key"]) for row in rows] == [("default", "dev")]
        assert team.refusal(who, "GET", "/api/v1/usage?project=search") == (404, "project")
    there = {"x-ridge-project": "search"}
    [row] = team.do("dora", "GET", "/api/v1/usage?by=key", headers=there)["rows"]
    assert row["key"] == formula
    assert team.refusal("dev", "GET", "/api/v1/usage", headers=there)[0] == 404

    _, headers, text = team.server.request("GET", "/api/v1/usage?by=key&format=csv", headers={"x-api-key": team.key})
    assert headers["Content-Type"] == "text/csv; charset=utf-8"
    table = list(csv.DictReader(io.StringIO(text.decode())))
    assert [row["key"] for row in table] == ["'" + formula, "dev"], "or a spreadsheet would run it"
    assert int(table[0]["total_tokens"]) == used.total_tokens

    assert team.do("adam", "DELETE", "/api/v1/usage?before=2020-01-01") == {"forgotten": 0}
    assert team.do("adam", "DELETE", "/api/v1/usage?before=2999-01-01") == {"forgotten": 2}
    assert team.get("adam", "/api/v1/usage") == {"rows": []}


def test_limits_and_prices_are_set_and_taken_away(team):
    key = team.do("adam", "POST", "/api/v1/keys", {"name": "k"})
    wanted = {"project": "default", "key": "k", "user": None, "model": None, "kind": "tokens_per_day", "most": 1}
    assert team.do("adam", "PUT", "/api/v1/limits", wanted) == wanted
    assert team.get("adam", "/api/v1/limits")["data"] == [wanted]
    with pytest.raises(openai.APIStatusError) as refused:
        team.complete(key["key"])
    assert refused.value.status_code in (400, 402)
    team.do("adam", "PUT", "/api/v1/limits", {**wanted, "most": None})
    assert team.get("adam", "/api/v1/limits")["data"] == []
    assert team.complete(key["key"]).usage.completion_tokens > 0
    of_dev = {"project": None, "key": None, "user": "dev", "model": None, "kind": "tokens_per_day", "most": 0}
    assert team.do("adam", "PUT", "/api/v1/limits", of_dev) == of_dev
    assert team.get("adam", "/api/v1/limits")["data"] == [of_dev]
    body = {"model": team.server.greeting["models"][0], "prompt": "a", "max_tokens": 3}
    assert team.people["dev"].ask("POST", "/v1/completions", body)[0] == 402
    assert team.people["dora"].ask("POST", "/v1/completions", body)[0] == 200
    both = {**of_dev, "project": "default"}
    assert team.refusal("adam", "PUT", "/api/v1/limits", both) == (400, "user")
    team.run("limit", "set", "--user", "dev", "--tokens-per-day", "none")
    assert team.people["dev"].ask("POST", "/v1/completions", body)[0] == 200
    price = {"model": "m", "prompt": 0.2, "cached": 0.05, "completion": 0.8}
    stored = {**price, "free_tokens_per_month": 0}
    assert team.do("adam", "PUT", "/api/v1/prices", price) == stored
    assert team.get("adam", "/api/v1/prices")["data"] == [stored]
    assert team.do("adam", "PUT", "/api/v1/prices", {"model": "m", "price": None}) == {"model": "m", "price": None}
    assert team.get("adam", "/api/v1/prices")["data"] == []


def test_a_server_that_asks_nobody_is_administered_by_everybody(ridge_binary, clean_environment):
    server = RidgeServer(ridge_binary, clean_environment, str(kill_server.MODEL), ["--threads", "1"])
    try:
        status, key = server.post_json("/api/v1/keys", {"name": "k"})
        assert status == 201 and key["user"] is None
        status, _, text = server.request("GET", "/api/v1/audit?limit=1")
        assert status == 200 and json.loads(text)["data"][0]["actor"] == "local"
        # But by no page of another site.
        status, _, _ = server.request("POST", "/api/v1/keys", '{"name": "k2"}', {"Origin": "https://evil.example"})
        assert status == 403
    finally:
        server.stop()


def test_the_commands_speak_tls(ridge_binary, clean_environment, tmp_path):
    certificate, key_file = make_certificate(tmp_path, "one")
    server = TlsServer(ridge_binary, clean_environment, str(kill_server.MODEL),
                       ["--threads", "1", "--tls-cert", str(certificate), "--tls-key", str(key_file)],
                       certificate=certificate, asks_for_keys=True)  # fmt: skip
    try:
        made = subprocess.run([ridge_binary, "key", "create", "ci", "--scopes", "admin"], env=clean_environment,
                              check=True, capture_output=True, text=True, timeout=60)
        environment = {**clean_environment, "RIDGE_API_KEY": made.stdout.strip()}

        def users(**more):
            return subprocess.run([ridge_binary, "user", "list", "--url", server.url + "/", "--json"], text=True,
                                  env={**environment, **more}, capture_output=True, timeout=60)

        assert json.loads(users(SSL_CERT_FILE=str(certificate)).stdout) == {"users": []}
        stranger = users()  # whose certificate it is, nobody has said
        assert stranger.returncode == 1 and "certificate" in json.loads(stranger.stdout)["error"]["message"]
    finally:
        server.stop()


def test_the_commands_administer_a_server_elsewhere(team, tmp_path):
    elsewhere, key = team.elsewhere(tmp_path)

    def ask(*words, given=None, code=0, url=team.server.url, key=key, environment=()):
        result = subprocess.run([team.binary, *words, "--url", url, *key, "--json"], env={**elsewhere, **dict(environment)},
                                input=given, text=True, capture_output=True, timeout=60)  # fmt: skip
        assert result.returncode == code, result.stdout + result.stderr
        return json.loads(result.stdout) if result.stdout else None

    ask("project", "create", "search", "--weight", "2")
    assert ask("project", "change", "search", "--weight", "0.5")["weight"] == 0.5
    ask("user", "create", "bot", "--service-of", "search")
    ask("user", "change", "bot", "--role", "viewer")
    ask("user", "change", "bot", "--role", "developer")
    assert ask("user", "disable", "bot")["disabled_at_ms"]
    assert ask("user", "enable", "bot")["disabled_at_ms"] is None
    ask("user", "create", "eve")
    assert ask("user", "password", "eve", given="battery staple\n") == {"name": "eve"}
    assert Browser(team.server).sign_in("eve", "battery staple") == 200
    created = ask("key", "create", "k", "--project", "search", "--user", "bot", "--expires", "30d", "--models", "a,b")
    assert created["key"].startswith("rgk_") and created["models"] == ["a", "b"]
    rotated = ask("key", "rotate", "k", "--project", "search", "--grace", "1h")
    assert [key["id"] for key in ask("key", "revoke", "k", "--project", "search")["revoked"]] == [created["id"], rotated["id"]]
    ask("limit", "set", "--project", "search", "--tokens-per-day", "20", "--money-per-month", "1.5")
    ask("endpoint", "create", "helper", "--model", "llama-f32", "--system-prompt", "Be brief.", "--moderation-url",
        "https://judge.example.org/x")
    assert ask("endpoint", "version", "helper", "--model", "llama-f32")["versions"][1]["system_prompt"] == ""
    assert ask("endpoint", "shares", "helper", "1=60", "2=40")["shares"][1] == {"version": 2, "percent": 40}
    assert ask("endpoint", "rollback", "helper")["shares"] == [{"version": 1, "percent": 100}]
    assert ask("endpoint", "disable", "helper")["is_enabled"] is False
    assert ask("endpoint", "enable", "helper")["is_enabled"] is True
    assert ask("endpoint", "moderation", "helper", "none")["moderation_url"] is None
    assert [each["name"] for each in ask("endpoint", "list")["endpoints"]] == ["helper"]
    refused = ask("endpoint", "create", "other", "--model", "nothing", code=2)
    assert "not served here" in refused["error"]["message"]
    assert ask("endpoint", "remove", "helper") == {"removed": "helper"}
    assert ask("endpoint", "list") == {"endpoints": []}
    ask("price", "set", "m/ö?&", "--prompt", "0.2", "--completion", "0.8")
    assert team.complete(ask("key", "create", "other")["key"]).usage.completion_tokens > 0
    for words in (["project", "list"], ["user", "list"], ["key", "list", "--all"], ["limit", "list"], ["price", "list"],
                  ["usage", "--by", "day,key"], ["audit", "--limit", "1500"]):  # fmt: skip
        listed = ask(*words)
        assert listed == team.run(*words) and list(listed.values())[0], words
    assert ask("audit", "-n", "1")["events"][0]["actor"] == "key:ci"
    ask("price", "remove", "m/ö?&")
    assert ask("price", "list") == {"prices": []}
    assert ask("usage", "forget", "2999-01-01") == {"forgotten": 1}
    assert not (tmp_path / "nothing").exists(), "the commands touched a database here"

    assert ask("key", "list", key=(), environment={"RIDGE_API_KEY": team.key})["keys"]
    for words, options, code, kind in [
        (["key", "list"], {"key": ()}, 2, "invalid_argument"),
        (["key", "list"], {"key": ("--api-key-file", "/none")}, 1, "not_found"),
        (["key", "list"], {"key": (), "environment": {"RIDGE_API_KEY": "a\nb: c"}}, 2, "invalid_argument"),
        (["key", "list"], {"key": (), "environment": {"RIDGE_API_KEY": rotated["key"]}}, 1, "unauthenticated"),
        (["key", "list"], {"url": "http://192.0.2.1"}, 2, "invalid_argument"),
        (["key", "list"], {"url": "ftp://127.0.0.1"}, 2, "invalid_argument"),
        (["key", "list"], {"url": "http://127.0.0.1:1"}, 1, "io"),
        (["key", "list"], {"url": team.server.url + "/v1/none"}, 1, "permission_denied"),
        (["key", "revoke", "none"], {}, 1, "not_found"),
        (["project", "create", "search"], {}, 1, "already_exists"),
        (["user", "change", "bot", "--role", "king"], {}, 2, "invalid_argument"),
        (["user", "change", "olga", "--role", "viewer"], {}, 1, "permission_denied"),
    ]:
        error = ask(*words, code=code, **options)["error"]
        assert error["code"] == kind, (words, options, error)
        assert team.key not in error["message"] and rotated["key"] not in error["message"]
