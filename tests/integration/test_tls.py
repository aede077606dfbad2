"""A server that speaks TLS itself."""

import http.client
import json
import signal
import socket
import ssl
import subprocess

import httpx
import openai
import pytest

from ridge_process import MODEL, RidgeServer
from test_sign_in import set_up_token_of


def make_certificate(folder, name):
    """(certificate, key): PEM files for localhost and 127.0.0.1, signed by themselves."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key,
         "-out", certificate], check=True, capture_output=True, timeout=60)
    return certificate, key


class TlsServer(RidgeServer):
    def __init__(self, *arguments, certificate, **keywords):
        super().__init__(*arguments, **keywords)
        self.context = ssl.create_default_context(cafile=certificate)

    def connect(self, timeout=60):
        port = int(self.url.rsplit(":", 1)[1])
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout, context=self.context)


@pytest.fixture
def secured(ridge_binary, model_environment, tmp_path):
    """Starts a server with the given options and a certificate of its own."""
    servers = []

    def start(*options, **keywords):
        certificate, key = make_certificate(tmp_path, "one")
        server = TlsServer(ridge_binary, {**model_environment, "RIDGE_DATABASE": str(tmp_path / "platform.db")}, MODEL,
                           ["--context", "512", "--tls-cert", str(certificate), "--tls-key", str(key), *options],
                           certificate=certificate, **keywords)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


def test_clients_check_the_certificate_and_stream(secured, ridge_binary, model_environment):
    server = secured()
    assert server.url.startswith("https://127.0.0.1:")
    assert f"Base URL for OpenAI clients: {server.url}/v1" in server.request("GET", "/")[2].decode()
    with httpx.Client(verify=server.context) as web:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0, timeout=60, http_client=web)
        messages = [{"role": "user", "content": "Hello!"}]
        for _ in range(3):  # Over one connection, which is watched for its client's leaving meanwhile.
            whole = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=8, temperature=0)
            parts = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=8, temperature=0,
                                                   stream=True)
            text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
            assert text == whole.choices[0].message.content
    # A stranger's certificate is none.
    with pytest.raises(httpx.ConnectError), httpx.Client() as careful:
        careful.get(server.url + "/health")
    assert server.health()["status"] == "ok"
    listed = subprocess.run([ridge_binary, "ps", "--json"], env=model_environment, capture_output=True, text=True,
                            timeout=60)
    assert server.url in listed.stdout and '"ok"' in listed.stdout, listed.stdout


def test_requests_that_come_together_are_answered_in_order(secured):
    server = secured()
    with server.context.wrap_socket(socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), 60),
                                    server_hostname="localhost") as client:
        assert client.version() == "TLSv1.3"
        body = json.dumps({"model": MODEL, "prompt": "a" * 100, "max_tokens": 1})
        requests = [f"GET /health HTTP/1.1\r\nHost: localhost\r\nx-request-id: r{i}\r\n\r\n" for i in range(3)]
        requests.append(f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nx-request-id: r3\r\nConnection: close\r\n"
                        f"Content-Length: {len(body)}\r\n\r\n{body}")
        client.sendall("".join(requests).encode())  # One record, read at once.
        answer = b""
        while chunk := client.recv(65536):  # An end without close_notify would be an error.
            answer += chunk
    ids = [line.split(b": ")[1] for line in answer.split(b"\r\n") if line.startswith(b"x-request-id")]
    assert ids == [b"r0", b"r1", b"r2", b"r3"] and answer.count(b"HTTP/1.1 200") == 4


def test_large_bodies_go_both_ways(secured):
    server = secured()
    text = "word " * 200_000
    status, answer = server.post_json("/tokenize", {"model": MODEL, "prompt": text})
    assert status == 200 and answer["count"] >= 200_000


def test_a_client_that_leaves_is_noticed(secured):
    server = secured("--max-sequences", "4")
    connection = server.connect()
    connection.request("POST", "/v1/completions", json.dumps(
        {"model": MODEL, "prompt": "Count:", "max_tokens": 400, "min_tokens": 400, "stream": True}))
    assert connection.getresponse().status == 200
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    server.wait_until_idle()
    assert "client_gone" in server.wait_for_log("client_gone")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_old_protocols_and_ciphers_are_refused(secured):
    server = secured()
    port = int(server.url.rsplit(":", 1)[1])

    def handshake(**settings):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers(settings.get("ciphers", "ALL:@SECLEVEL=0"))
        context.minimum_version = context.maximum_version = settings["version"]
        context.set_alpn_protocols(settings.get("alpn", []))
        with socket.create_connection(("127.0.0.1", port), 30) as plain, context.wrap_socket(plain) as tls:
            return tls.version(), tls.cipher()[0], tls.selected_alpn_protocol()

    version, cipher, protocol = handshake(version=ssl.TLSVersion.TLSv1_2, alpn=["h2", "http/1.1"])
    assert version == "TLSv1.2" and cipher.startswith("ECDHE-") and protocol == "http/1.1"
    assert handshake(version=ssl.TLSVersion.TLSv1_3, alpn=["h2"])[2] is None
    for wrong in [{"version": ssl.TLSVersion.TLSv1_1}, {"version": ssl.TLSVersion.TLSv1_2, "ciphers": "AES128-SHA"},
                  {"version": ssl.TLSVersion.TLSv1_2, "ciphers": "ECDHE-ECDSA-AES128-SHA256"}]:
        with pytest.raises(ssl.SSLError):
            handshake(**wrong)
    assert server.health()["status"] == "ok"


def test_a_renewed_certificate_is_taken_without_a_restart(secured, tmp_path):
    server = secured()
    port = int(server.url.rsplit(":", 1)[1])

    def shown():
        return ssl.get_server_certificate(("127.0.0.1", port))

    first = shown()
    (tmp_path / "one.key").write_text("damaged")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log("stays as it was")
    assert shown() == first
    certificate, _ = make_certificate(tmp_path, "one")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log("read anew")
    assert shown() == certificate.read_text() != first


def test_cookies_are_for_tls_alone(secured):
    server = secured(asks_for_keys=True)
    body = json.dumps({"token": set_up_token_of(server), "name": "ann", "password": "correct horse"})
    status, headers, _ = server.request("POST", "/api/v1/set-up", body)
    assert status == 200
    cookie = headers["Set-Cookie"]
    assert cookie.startswith("__Host-ridge_session=") and "; Secure" in cookie and "Domain" not in cookie
    token = cookie.split(";")[0].split("=")[1]
    for name, wanted in [("__Host-ridge_session", 200), ("ridge_session", 401)]:
        assert server.request("GET", "/v1/models", headers={"Cookie": f"{name}={token}"})[0] == wanted


def test_files_that_do_not_serve_are_named(ridge_binary, model_environment, tmp_path):
    certificate, key = make_certificate(tmp_path, "one")
    _, other = make_certificate(tmp_path, "other")
    for options, text in [
        (["--tls-cert", certificate], "go together"),
        (["--tls-cert", tmp_path / "none", "--tls-key", key], "cannot be read"),
        (["--tls-cert", certificate, "--tls-key", other], "is not the key of"),
    ]:
        result = subprocess.run([ridge_binary, "serve", MODEL, "--port", "0", "--no-auth", *options],
                                env=model_environment, capture_output=True, text=True, timeout=60)
        assert result.returncode == 2 and text in result.stderr, result.stderr
        assert "loaded" not in result.stderr
