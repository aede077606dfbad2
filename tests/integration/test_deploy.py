"""What is in deploy/: the names of metrics, the unit, the container's packages, the Helm chart."""

import json
import pathlib
import re
import shutil
import subprocess

import jsonschema
import pytest
import yaml

import kill_server
from ridge_process import RidgeServer

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
METRIC = r"\b(?:vllm:|ridge:|gen_ai_server_)\w+"
GOLDENS = pathlib.Path(__file__).parent / "helm"
# The values of each, and what the templates make of them. Made anew with: helm template ridge deploy/helm/ridgeline --namespace models --kube-version 1.31 -f VALUES
CHARTS = ["postgresql-tls", "sqlite-proxy", "all"]


def names_in_dashboard():
    dashboard = json.loads((DEPLOY / "grafana/ridgeline.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    queries += [variable["query"]["query"] for variable in dashboard["templating"]["list"]
                if variable["type"] == "query"]
    assert len(queries) > 25
    return set(re.findall(METRIC, " ".join(queries)))


def names_in_rules():
    groups = yaml.safe_load((DEPLOY / "prometheus/ridgeline.rules.yaml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 5
    return set(re.findall(METRIC, " ".join(rule["expr"] for rule in rules)))


def names_in_operations():
    text = (ROOT / "docs/operations.md").read_text()
    return set(re.findall(r"`(ridge:\w+)`", text))


@pytest.fixture(scope="module")
def shown(ridge_binary, tmp_path_factory, plain_environment):
    """Each name of /metrics once a key was answered and refused: what of a kind has not happened is not there."""
    environment = {**plain_environment, "RIDGE_HOME": str(tmp_path_factory.mktemp("data"))}

    def ridge(*words):
        done = subprocess.run([ridge_binary, *words, "--json"], env=environment, check=True, text=True,
                              capture_output=True)
        return json.loads(done.stdout) if done.stdout else None

    key = ridge("key", "create", "k", "--scopes", "inference,metrics")["key"]
    inference_only = ridge("key", "create", "i")["key"]
    of_admin = ridge("key", "create", "a", "--scopes", "metrics,admin")["key"]
    server = RidgeServer(ridge_binary, environment, str(kill_server.MODEL),
                         ["--threads", "1", "--otlp-traces", "http://127.0.0.1:1"], asks_for_keys=True)
    try:
        def complete(max_tokens):
            body = {"model": server.greeting["models"][0], "prompt": "a", "max_tokens": max_tokens, "ignore_eos": True}
            return server.request("POST", "/v1/completions", json.dumps(body),
                                  {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})[0]

        assert complete(3) == 200
        ridge("limit", "set", "--tokens-per-day", "0")
        assert complete(3) == 402
        assert server.request("GET", "/metrics")[0] == 401
        assert server.request("GET", "/metrics", headers={"x-api-key": inference_only})[0] == 403
        status, _, text = server.request("GET", "/metrics", headers={"x-api-key": key})
        assert status == 200
        of_all = server.request("GET", "/metrics", headers={"x-api-key": of_admin})[2]
    finally:
        server.stop()
    samples = [line for line in text.decode().splitlines() if line and not line.startswith("#")]
    project = [line for line in samples if line.startswith("ridge:usage_") and 'project="default"' in line]
    model = f'model_name="{server.greeting["models"][0]}"'
    assert any(line.startswith("ridge:usage_completion_tokens_total{" + model) and line.endswith(" 3")
               for line in project), project
    assert 'ridge:usage_refusals_total{project="default",reason="spent"} 1' in project
    assert "ridge:kept_requests_total" not in text.decode(), "it tells of other projects"
    return set(re.findall(r"^([\w:]+)", (text + b"\n" + of_all).decode(), re.M))


@pytest.mark.parametrize("names", [names_in_dashboard, names_in_rules, names_in_operations])
def test_each_metric_that_is_named_exists(names, shown):
    assert names() and not names() - shown


def test_each_alert_has_its_line_in_the_operators_page():
    groups = yaml.safe_load((DEPLOY / "prometheus/ridgeline.rules.yaml").read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    documented = set(re.findall(r"`(Ridgeline\w+)`", (ROOT / "docs/operations.md").read_text()))
    assert documented <= alerts and not alerts - documented


def test_prometheus_takes_the_rules():
    if not shutil.which("promtool"):
        pytest.skip("NOT CHECKED: promtool (Debian: prometheus) is not installed")
    subprocess.run(["promtool", "check", "rules", DEPLOY / "prometheus/ridgeline.rules.yaml"], check=True)


def test_the_unit_is_as_closed_as_it_says(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("NOT CHECKED: systemd-analyze is not installed")
    unit = tmp_path / "ridge.service"
    unit.write_text((DEPLOY / "ridge.service.in").read_text().replace("@CMAKE_INSTALL_PREFIX@", "/usr"))
    # In tenths; 1.4 is what deploy/README.md says.
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=14", "--no-pager", unit],
                          text=True, capture_output=True, timeout=60)
    assert "Overall exposure level" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout[-200:]
    assert "1.4 of 10" in (DEPLOY / "README.md").read_text()


def container_stages():
    text = (DEPLOY / "Containerfile").read_text().replace("\\\n", " ")
    return re.split(r"^FROM ", text, flags=re.M)[1:]


def test_the_container_is_for_every_machine_and_nobody_special():
    build, run = container_stages()
    assert "march" not in build + run
    user = re.search(r"^USER (\d+):(\d+)$", run, flags=re.M)
    assert user and int(user[1]) > 0 and int(user[2]) > 0
    assert re.search(r'^HEALTHCHECK .* CMD \["ridge", "ps", "--check"', run, flags=re.M)
    values = yaml.safe_load((DEPLOY / "helm/ridgeline/templates/statefulset.yaml").read_text().split("securityContext:")[1]
                            .split("seccompProfile")[0].strip("\n"))
    assert values["runAsUser"] == int(user[1]) and values["runAsGroup"] == int(user[2])


def test_the_container_has_the_libraries_that_the_program_loads(ridge_binary):
    """Of this machine's Debian; what a listed package depends on comes with it."""
    if not shutil.which("dpkg-query") or 'VERSION_ID="12"' not in pathlib.Path("/etc/os-release").read_text():
        pytest.skip("NOT CHECKED: the container is Debian 12's, and this machine is not")
    # The program's own; others are loaded by these.
    direct = subprocess.run(["objdump", "-p", ridge_binary], text=True, capture_output=True)
    if direct.returncode != 0:
        pytest.skip("NOT CHECKED: objdump is not installed")
    needed = set(re.findall(r"NEEDED\s+(\S+)", direct.stdout))
    loaded = subprocess.run(["ldd", ridge_binary], check=True, text=True, capture_output=True).stdout
    files = {str(pathlib.Path(path).resolve()) for name, path in re.findall(r"(\S+) => (/\S+)", loaded)
             if name in needed}
    owners = subprocess.run(["dpkg-query", "--search", *sorted(files)], text=True, capture_output=True).stdout
    packages = {line.split(":")[0] for line in owners.splitlines()}
    assert len(packages) > 8, owners
    essential = {"libc6", "libgcc-s1", "libstdc++6"}
    listed = set(re.search(r"apt-get install -y --no-install-recommends(.*?)&&", container_stages()[1], flags=re.S)[1].split())
    assert not packages - listed - essential
    assert {"libsoci-postgresql4.0", "postgresql-client"} <= listed, "what is loaded or run only when it is asked for"


def is_valid(document):
    """Against the schemas of Kubernetes; those of operators and the Gateway API are not among them."""
    import kubernetes_validate

    if "k8s.io" in document["apiVersion"].split("/")[0] and "networking.k8s.io" != document["apiVersion"].split("/")[0]:
        return
    if "coreos.com" in document["apiVersion"]:
        return
    kubernetes_validate.validate(document, "1.31", strict=True)


@pytest.mark.parametrize("values", ["values.yaml", *(f"{name}.values.yaml" for name in CHARTS)])
def test_the_schema_knows_the_values(values):
    folder = DEPLOY / "helm/ridgeline" if values == "values.yaml" else GOLDENS
    schema = json.loads((DEPLOY / "helm/ridgeline/values.schema.json").read_text())
    given = yaml.safe_load((folder / values).read_text())
    jsonschema.validate(given, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**given, "replica": 3}, schema)


@pytest.mark.parametrize("name", CHARTS)
def test_the_charts_objects_are_kubernetes(name):
    documents = [each for each in yaml.safe_load_all((GOLDENS / f"{name}.yaml").read_text()) if each]
    kinds = [each["kind"] for each in documents]
    assert {"StatefulSet", "Service", "ConfigMap", "NetworkPolicy"} <= set(kinds)
    for document in documents:
        is_valid(document)
    [pods] = [each["spec"]["template"]["spec"] for each in documents if each["kind"] == "StatefulSet"]
    for container in pods["containers"] + pods["initContainers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] and not container["securityContext"][
            "allowPrivilegeEscalation"]
    assert pods["securityContext"]["runAsNonRoot"] and pods["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", CHARTS)
def test_the_charts_configuration_is_one_that_the_server_takes(name, ridge, tmp_path):
    documents = yaml.safe_load_all((GOLDENS / f"{name}.yaml").read_text())
    [settings] = [each["data"]["ridge.toml"] for each in documents if each and each["kind"] == "ConfigMap"]
    config = tmp_path / "ridge.toml"
    config.write_text(settings)
    checks = json.loads(ridge("doctor", "--no-measure", "--json", "--config", config).stdout)["checks"]
    [check] = [each for each in checks if each["subject"] == "configuration"]
    assert check["verdict"] == "ok", check


@pytest.mark.parametrize("name", CHARTS)
def test_helm_renders_the_chart_as_it_is_kept(name):
    if not shutil.which("helm"):
        pytest.skip("NOT CHECKED: helm is not installed, so that what was rendered once is looked at alone")
    values = GOLDENS / f"{name}.values.yaml"
    subprocess.run(["helm", "lint", "--strict", "--kube-version", "1.31", DEPLOY / "helm/ridgeline", "-f", values], check=True)
    rendered = subprocess.run(
        ["helm", "template", "ridge", DEPLOY / "helm/ridgeline", "--namespace", "models", "--kube-version", "1.31",
         "-f", values],
        check=True, text=True, capture_output=True).stdout
    kept = (GOLDENS / f"{name}.yaml").read_text()
    assert list(yaml.safe_load_all(rendered)) == list(yaml.safe_load_all(kept))


@pytest.mark.parametrize("options,why", [
    (["insecureHttp=true"], "database.existingSecret"),
    (["insecureHttp=true", "database.existingSecret=a"], "files.existingClaim"),
    (["insecureHttp=true", "replicas=1", "config.files_dir=a"], "config.files_dir"),
    (["replicas=1"], "exactly one of"),
    (["insecureHttp=true", "replicas=1", "config.host=a"], "config.host"),
    (["insecureHttp=true", "replicas=1", "modells=a"], "modells"),
    (["insecureHttp=true", "replicas=1", "gateway.enabled=true"], "parentRefs"),
])
def test_the_chart_refuses_what_would_not_work(options, why):
    if not shutil.which("helm"):
        pytest.skip("NOT CHECKED: helm is not installed")
    words = [word for option in options for word in ("--set", option)]
    done = subprocess.run(["helm", "template", "ridge", DEPLOY / "helm/ridgeline", "--kube-version", "1.31", *words],
                          text=True, capture_output=True)
    assert done.returncode != 0 and why in done.stderr, done.stderr
