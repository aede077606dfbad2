"""What `ridge doctor` says of a server's set-up."""

import datetime
import json
import pathlib
import socket

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import kill_server
from ridge_process import RidgeServer
from test_identity import postgres_url  # noqa: F401


@pytest.fixture
def doctor(ridge):
    """doctor(words) -> (exit code, {subject: (verdict, found, advice)})."""

    def examine(*words, env=None):
        result = ridge("doctor", "--no-measure", "--json", *words, env=env)
        checks = json.loads(result.stdout)["checks"]
        assert all(check["advice"] for check in checks if check["verdict"] != "ok"), "each says what to do"
        return result.returncode, {check["subject"]: (check["verdict"], check["found"]) for check in checks}

    return examine


def write_certificate(folder, name, days):
    """(certificate, key): PEM files of a certificate that signs itself and ends in so many days."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    certificate = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
                   .serial_number(x509.random_serial_number()).not_valid_before(end - datetime.timedelta(days=400))
                   .not_valid_after(end).sign(key, hashes.SHA256()))
    files = folder / f"{name}.crt", folder / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                           serialization.NoEncryption()))
    return files


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_before_the_first_start_nothing_is_wrong_and_nothing_is_made(doctor, ridge, tmp_path):
    code, checks = doctor("--port", free_port())
    assert code == 0, checks
    assert checks["database"][0] == "look at" and "not there yet" in checks["database"][1]
    assert not (tmp_path / "store/platform.db").exists()
    assert checks["MPI"][0] == "ok" or "without" in checks["MPI"][1]
    assert checks["data folder"][0] == checks["address"][0] == checks["server"][0] == "ok"
    text = ridge("doctor", "--no-measure").stdout
    assert "look at  database" in text and "-> " in text


def test_what_a_team_needs_is_looked_for(doctor, ridge, tmp_path):
    ridge("key", "create", "ci", "--expires", "2d")
    _, checks = doctor()
    assert checks["database"][0] == "ok" and "SQLite 3" in checks["database"][1]
    assert checks["keys"] == ("look at", "1 work, of which 1 end within a week")
    assert checks["owner"][0] == checks["backup"][0] == "look at"
    ridge("key", "create", "laptop")
    ridge("backup", tmp_path / "backup.zip")
    (tmp_path / "store/metering").mkdir()
    (tmp_path / "store/metering/server-0.spool").write_text("{}\n")
    _, checks = doctor()
    assert checks["backup"][0] == "ok"
    assert checks["usage"][0] == "look at"


def test_what_is_wrong_fails(doctor, ridge, tmp_path):
    ridge("key", "create", "k")
    database = tmp_path / "store/platform.db"
    database.chmod(0o644)
    code, checks = doctor()
    assert code == 1
    database.chmod(0o600)
    (tmp_path / "store").chmod(0o777)
    assert doctor()[1]["data folder"][0] == "wrong"
    (tmp_path / "store").chmod(0o700)
    code, checks = doctor("--database", "postgresql://nobody@127.0.0.1:1/none")
    assert code == 1 and checks["database"][0] == "wrong"
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        code, checks = doctor("--port", other.getsockname()[1])
    assert code == 1 and checks["address"][0] == "wrong"


def test_a_database_of_a_newer_ridge_is_left_alone(doctor, ridge, tmp_path):
    import sqlite3

    ridge("key", "create", "k")
    with sqlite3.connect(tmp_path / "store/platform.db") as connection:
        connection.execute("INSERT INTO schema_steps (version, name, taken_at_ms) VALUES (9999, 'later', 0)")
    code, checks = doctor()
    assert code == 1 and checks["database"][0] == "wrong" and "keys" not in checks
    with sqlite3.connect(tmp_path / "store/platform.db") as connection:
        connection.execute("DELETE FROM schema_steps WHERE version > 1")
    _, checks = doctor()
    assert checks["database"][0] == "look at" and "schema 1" in checks["database"][1]
    with sqlite3.connect(tmp_path / "store/platform.db") as connection:
        assert connection.execute("SELECT MAX(version) FROM schema_steps").fetchone() == (1,), "it only looks"


def test_postgresql_is_asked_for_its_version(doctor, ridge, postgres_url):  # noqa: F811
    if "missing" in postgres_url:
        pytest.skip(f"NOT TESTED on PostgreSQL: {postgres_url['missing']}")
    ridge("key", "list", env={"RIDGE_DATABASE": postgres_url["url"]})
    _, checks = doctor(env={"RIDGE_DATABASE": postgres_url["url"]})
    assert checks["database"][0] == "ok" and "PostgreSQL 1" in checks["database"][1]


def test_certificates_are_read(doctor, tmp_path):
    def examine(days, key_mode=0o600, other_key=False):
        certificate, key = write_certificate(tmp_path, "server", days=days)
        if other_key:
            _, key = write_certificate(tmp_path, "other", days=days)
        key.chmod(key_mode)
        return doctor("--tls-cert", certificate, "--tls-key", key)[1]["TLS"]

    assert examine(90)[0] == "ok"
    assert examine(5)[0] == "look at" and "valid for" in examine(5)[1]
    assert examine(-1)[0] == "wrong"
    assert examine(90, key_mode=0o644)[0] == "wrong"
    assert "is not the key of" in examine(90, other_key=True)[1]


def test_a_configuration_is_checked_as_the_server_takes_it(doctor, tmp_path):
    config = tmp_path / "ridge.toml"
    port = free_port()
    config.write_text(f'models = ["a"]\nport = {port}\nmax_queued = 3\nmax_connections = 900000\n')
    code, checks = doctor("--config", config)
    assert checks["configuration"][0] == "ok" and str(port) in checks["address"][1]
    assert checks["files"][0] == "look at"
    config.write_text("modells = 1\n")
    code, checks = doctor("--config", config)
    assert code == 1 and "modells" in checks["configuration"][1]


def test_a_running_server_is_asked(ridge_binary, clean_environment, doctor, ridge):
    server = RidgeServer(ridge_binary, clean_environment, str(kill_server.MODEL), ["--threads", "1"])
    try:
        port = int(server.url.rsplit(":", 1)[1])
        code, checks = doctor("--port", port)
        assert code == 0, checks
        assert checks["server"][0] == "ok" and server.url in checks["server"][1]
        assert checks["address"] == ("ok", f"127.0.0.1 port {port} is the running server's")
        assert ridge("ps", "--check", "--quiet").returncode == 0
    finally:
        server.stop()
    assert ridge("ps", "--check", "--quiet").returncode == 1


def test_ascend_devices_are_looked_for(ridge_binary, doctor, ridge, tmp_path):
    twin = ridge_binary.parent / "libascendcl_twin.so"
    if not twin.is_file():
        pytest.skip(f"NOT TESTED with the twin: {twin} was not built (target ascendcl_twin)")

    def examine(library, environment=None, **settings):
        variables = {f"RIDGE_ASCEND_TWIN_{name.upper()}": value for name, value in settings.items()}
        code, checks = doctor(env={"RIDGE_ASCEND_LIBRARY": str(library), **variables, **(environment or {})})
        assert code == 0, "a machine without Ascend serves as well"
        return checks["Ascend"]

    devices = "0 Ascend910B4, 32.0 of 32.0 GiB free; 1 Ascend910B4"
    verdict, found = examine(twin, soc="910B4", devices="2")
    assert verdict == "look at" and devices in found and "but there are no kernels for Ascend" in found
    kernels = tmp_path / "kernels.o"
    named = {"RIDGE_ASCEND_KERNELS": str(kernels)}
    verdict, found = examine(twin, named)
    assert verdict == "look at" and f"RIDGE_ASCEND_KERNELS names {kernels}, which is not there" in found
    kernels.write_bytes(b"")
    verdict, found = examine(twin, named, soc="910B4", devices="2")
    assert verdict == "ok" and devices in found and "ACL 1.13.0" in found
    # The runtime takes absolute paths only, whatever a person writes.
    ran = ridge("run", str(kill_server.MODEL), "hello", "--device", "ascend",
                env={"RIDGE_ASCEND_LIBRARY": str(twin), "RIDGE_ASCEND_KERNELS": kernels.name})
    assert ran.returncode != 0 and f"of kernels in {kernels}: " in ran.stderr and "is not for the twin" in ran.stderr
    verdict, found = examine(twin, version="1.8.0")
    assert verdict == "look at" and "is ACL 1.8.0; ridge needs ACL 1.13" in found
    verdict, found = examine(twin, fail="aclInit:1=207006")
    assert verdict == "look at" and "ACL error 207006 (no permission)" in found
    verdict, found = examine(tmp_path / "libascendcl.so")
    assert verdict == "look at" and "cannot open shared object file" in found


def test_without_ascend_nothing_is_missing(doctor, clean_environment):
    if clean_environment.get("ASCEND_HOME_PATH") or list(pathlib.Path("/dev").glob("davinci*")):
        pytest.skip("NOT TESTED: this machine has Ascend devices or CANN")
    assert doctor()[1]["Ascend"] == ("ok", "no device here: no /dev/davinci*, no CANN")
