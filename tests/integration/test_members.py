"""Members of projects, and users and projects that are removed: the routes as people of each role ask them, and the commands."""

import json
import subprocess

import openai
import pytest

from test_administration import PASSWORD, team  # noqa: F401
from test_identity import postgres_url  # noqa: F401
from test_sign_in import Browser

THERE = {"x-ridge-project": "search"}


def ask_model(team, who, headers=None):
    body = {"model": team.server.greeting["models"][0], "prompt": "a", "max_tokens": 3}
    return team.people[who].ask("POST", "/v1/completions", body, headers)[0]


def test_a_projects_admin_manages_that_project_alone(team):  # noqa: F811
    project = team.do("adam", "POST", "/api/v1/projects", {"name": "search"})
    members = "/api/v1/projects/search/members"
    assert team.get("adam", members) == {"data": []}
    assert team.refusal("dev", "GET", members, headers=THERE)[0] == 404
    added = team.do("adam", "PUT", members, {"user": "dev", "role": "admin"})
    assert (added["role"], added["user_role"]) == ("admin", "developer")

    # From the next request on, and in that project alone.
    _, session = team.people["dev"].ask("GET", "/api/v1/session", headers=THERE)
    assert session["user"]["role"] == "project_admin"
    assert session["user"]["roles"] == {"default": "developer", "search": "project_admin"}
    assert team.refusal("dev", "GET", members)[0] == 403
    by_id = f"/api/v1/projects/{project['id']}/members"
    assert [each["user"] for each in team.do("dev", "GET", by_id, headers=THERE)["data"]] == ["dev"]
    assert team.refusal("dev", "GET", "/api/v1/projects/default/members", headers=THERE) == (404, None)
    assert team.do("dev", "PUT", members, {"user": "dora", "role": "developer"}, THERE)["role"] == "developer"
    assert team.refusal("dev", "PUT", members, {"user": "vera", "role": "developer"}, THERE) == (400, "role")
    assert team.do("dev", "PUT", members, {"user": "vera", "role": "viewer"}, THERE)["user_role"] == "viewer"
    assert [each["name"] for each in team.do("dev", "GET", "/api/v1/projects", headers=THERE)["data"]] == ["search"]

    # Its keys are those of the project, and of no admin of the organisation.
    own = team.do("dev", "POST", "/api/v1/keys", {"name": "own"}, THERE)
    doras = team.do("dev", "POST", "/api/v1/keys", {"name": "dora's", "user": "dora"}, THERE)
    boss = team.do("adam", "POST", "/api/v1/keys", {"name": "boss", "project": "search", "scopes": ["admin"]})
    assert (own["user"], own["project"], doras["user"]) == (None, "search", "dora")
    listed = team.do("dev", "GET", "/api/v1/keys", headers=THERE)["data"]
    assert [key["id"] for key in listed] == [own["id"], doras["id"], boss["id"]]
    assert team.refusal("dev", "POST", f"/api/v1/keys/{boss['id']}/rotate", {}, THERE) == (403, "scopes")
    rotated = team.do("dev", "POST", f"/api/v1/keys/{doras['id']}/rotate", {}, THERE)
    assert rotated["user"] == "dora" and team.complete(rotated["key"]).usage.completion_tokens > 0
    assert team.do("dev", "DELETE", f"/api/v1/keys/{own['id']}", headers=THERE)["state"] == "revoked"
    assert team.do("dev", "GET", "/api/v1/usage?by=key", headers=THERE)["rows"][0]["key"] == "dora's"

    # And nothing else.
    for method, path, body in [("PUT", "limits", {"project": "search", "kind": "tokens_per_day", "most": None}),
                               ("GET", "limits", None), ("GET", "users", None), ("GET", "audit", None),
                               ("PATCH", "projects/search", {"weight": 9}), ("DELETE", "projects/search", None),
                               ("POST", "projects", {"name": "mine"}), ("POST", "users", {"name": "eve"}),
                               ("DELETE", "users/dora", None), ("POST", "downloads", {"model": "m"}),
                               ("PUT", "prices", {"model": "m", "price": None})]:  # fmt: skip
        assert team.refusal("dev", method, f"/api/v1/{path}", body, THERE)[0] == 403, path

    # A lesser role counts at once, and without the membership nothing is left.
    assert ask_model(team, "dora", THERE) == 200
    team.do("dev", "PUT", members, {"user": "dora", "role": "viewer"}, THERE)
    assert ask_model(team, "dora", THERE) == 403
    assert ask_model(team, "dora") == 200
    team.do("dev", "PUT", members, {"user": "dora", "role": "developer"}, THERE)
    assert ask_model(team, "dora", THERE) == 200
    removed = team.do("dev", "PUT", members, {"user": "dora", "role": None}, THERE)
    assert removed["role"] is None
    assert ask_model(team, "dora", THERE) == 404
    with pytest.raises(openai.AuthenticationError):
        team.complete(rotated["key"])
    assert team.refusal("dev", "PUT", members, {"user": "dora", "role": None}, THERE) == (404, "user")
    events = team.get("adam", "/api/v1/audit?limit=3")["data"]
    assert [(each["actor"], each["action"]) for each in events[:2]] == [
        ("user:dev", "member.remove"), ("user:dev", "key.revoke")]  # fmt: skip

    # Whoever is a member of nothing does not come in.
    team.do("adam", "PUT", "/api/v1/projects/default/members", {"user": "dora", "role": None})
    assert team.people["dora"].ask("GET", "/api/v1/keys")[0] == 401
    status, answer = team.people["dora"].ask("GET", "/api/v1/session")
    assert (status, answer["user"]) == (200, None)
    status, answer = Browser(team.server).ask("POST", "/api/v1/session", {"name": "dora", "password": PASSWORD})
    assert status == 403 and "member of no project" in answer["error"]["message"]


def test_what_is_removed_leaves_its_usage_and_nothing_to_whoever_is_next(team):  # noqa: F811
    team.do("adam", "POST", "/api/v1/projects", {"name": "search"})
    team.do("adam", "POST", "/api/v1/users", {"name": "bot", "kind": "service", "project": "search"})
    team.do("adam", "PUT", "/api/v1/projects/search/members", {"user": "dev", "role": "developer"})
    key = team.do("adam", "POST", "/api/v1/keys", {"name": "k", "project": "search", "user": "bot"})
    used = team.complete(key["key"]).usage.total_tokens
    assert ask_model(team, "dev", THERE) == 200
    team.do("adam", "PUT", "/api/v1/limits", {"project": "search", "kind": "tokens_per_day", "most": 9000})
    team.do("adam", "PUT", "/api/v1/limits", {"user": "dev", "kind": "tokens_per_day", "most": 9000})
    assert team.ask("dev", "PUT", "/api/v1/chats/c1", {"title": "t", "messages": []})[0] == 200

    dev = team.do("adam", "DELETE", "/api/v1/users/dev")
    assert (dev["name"], dev["role"]) == ("dev", "developer")
    assert ask_model(team, "dev") == 401
    assert team.people["dev"].sign_in("dev", PASSWORD) == 401
    search = team.do("adam", "DELETE", "/api/v1/projects/search")
    with pytest.raises(openai.AuthenticationError):
        team.complete(key["key"])
    assert [each["name"] for each in team.get("adam", "/api/v1/users")["data"]] == ["adam", "dora", "olga", "vera"]
    assert [each["name"] for each in team.get("adam", "/api/v1/projects")["data"]] == ["default"]
    assert team.get("adam", "/api/v1/limits")["data"] == []
    for path in ("users/dev", "projects/search", f"users/{dev['id']}", f"projects/{search['id']}"):
        assert team.refusal("adam", "DELETE", f"/api/v1/{path}")[0] == 404, path
    assert team.refusal("adam", "DELETE", "/api/v1/projects/default")[0] == 400
    assert team.refusal("adam", "DELETE", "/api/v1/users/olga")[0] == 403
    assert team.refusal("olga", "DELETE", "/api/v1/users/olga")[0] == 400

    team.run("user", "create", "dev", "--role", "developer")
    team.run("user", "password", "dev", given=PASSWORD + "\n")
    assert team.people["dev"].sign_in("dev", PASSWORD) == 200
    team.do("adam", "POST", "/api/v1/projects", {"name": "search"})
    assert team.get("dev", "/api/v1/chats") == {"data": []}
    assert team.get("dev", "/api/v1/keys")["data"] == []
    assert ask_model(team, "dev", THERE) == 404
    assert team.get("adam", "/api/v1/usage?project=search") == {"rows": []}
    rows = team.get("adam", "/api/v1/usage?by=project,key")["rows"]
    was = f"search (removed {search['id']})"
    assert {(row["project"], row["key"]) for row in rows} == {(was, "k"), (was, f"dev (removed {dev['id']})")}
    assert next(row["total_tokens"] for row in rows if row["key"] == "k") == used
    assert team.run("usage", "--project", was)["rows"] and team.run("usage", "--project", "search")["rows"] == []
    actions = [each["action"] for each in team.get("adam", "/api/v1/audit?limit=100")["data"]]
    assert {"user.remove", "project.remove"} <= set(actions)
    subjects = [each["subject"] for each in team.get("adam", "/api/v1/audit?action=user.remove")["data"]]
    assert len(subjects) == 2 and subjects[-1] == dev["id"]  # and the service


def test_the_commands_do_the_same_on_the_database_and_at_a_server(team, tmp_path):  # noqa: F811
    elsewhere, key = team.elsewhere(tmp_path)
    places = {"here": (team.environment, ()), "there": (elsewhere, ("--url", team.server.url, *key))}

    def run(where, *words, code=0, json_too=True):
        environment, options = places[where]
        flags = ("--json",) if json_too else ()
        result = subprocess.run([team.binary, *words, *options, *flags], env=environment, text=True, capture_output=True,
                                timeout=60)  # fmt: skip
        assert result.returncode == code, result.stdout + result.stderr
        return json.loads(result.stdout) if json_too else result.stdout + result.stderr

    for where, project in [("here", "search"), ("there", "maps")]:
        run(where, "project", "create", project)
        assert run(where, "project", "members", project) == {"members": []}
        assert "Nobody is a member" in run(where, "project", "members", project, json_too=False)
        assert run(where, "project", "members", project, "add", "dev", "--role", "admin")["role"] == "admin"
        assert run(where, "project", "members", project, "add", "dora")["role"] == "developer"
        members = run(where, "project", "members", project)["members"]
        assert [(each["user"], each["role"]) for each in members] == [("dev", "admin"), ("dora", "developer")]
        table = run(where, "project", "members", project, json_too=False)
        assert "dev" in table and "ROLE OF THE USER" in table
        ben = run(where, "user", "create", f"ben-{where}", "--project", project, "--project-role", "viewer")
        assert ben["projects"] == [{"project": project, "role": "viewer"}]
        assert f"{project} (viewer)" in run(where, "user", "list", json_too=False)
        key = run(where, "key", "create", "k", "--project", project, "--user", "dora")
        assert run(where, "project", "members", project, "remove", "dora")["role"] is None
        state = {each["id"]: each["state"] for each in run(where, "key", "list", "--all")["keys"]}
        assert state[key["id"]] == "revoked"
        refused = run(where, "key", "create", "k2", "--project", project, "--user", "dora", code=2)
        assert f"ridge project members {project} add dora" in refused["error"]["message"]
        assert run(where, "user", "remove", f"ben-{where}")["name"] == f"ben-{where}"
        assert run(where, "project", "remove", project)["name"] == project
        for words, code, kind in [
            (["project", "members", project], 1, "not_found"),
            (["project", "remove", project], 1, "not_found"),
            (["project", "remove", "default"], 2, "invalid_argument"),
            (["project", "members", "default", "add", "dev", "--role", "king"], 2, "invalid_argument"),
            (["project", "members", "default", "remove", f"ben-{where}"], 1, "not_found"),
            (["user", "remove", f"ben-{where}"], 1, "not_found"),
        ]:
            assert run(where, *words, code=code)["error"]["code"] == kind, words
    names = {each["name"] for each in run("here", "user", "list")["users"]}
    assert names == {"adam", "dev", "dora", "olga", "vera"}
