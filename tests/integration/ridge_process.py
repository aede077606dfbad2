"""A `ridge serve` of a test's own."""

import http.client
import json
import signal
import subprocess
import tempfile
import time
import urllib.parse

MODEL = "smollm2:135m"


class RidgeServer:
    """Starts on a free port of 127.0.0.1 and waits until it serves. `url` is its address.

    It asks for no key unless `asks_for_keys`.
    """

    def __init__(self, binary, environment, model, options=(), asks_for_keys=False):
        self.log = tempfile.NamedTemporaryFile(mode="w")
        self.asked_to_stop = False
        command = [binary, "serve", model, "--port", "0", "--json", *options]
        if not asks_for_keys:
            command.append("--no-auth")
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        greeting = self.process.stdout.readline()
        if not greeting:
            raise RuntimeError(f"ridge serve ended with {self.process.wait()}: {self.read_log()}")
        self.greeting = json.loads(greeting)
        self.url = self.greeting["url"]

    def request(self, method, path, body=None, headers=None, timeout=60):
        """(status, headers, body) of one request over a connection of its own."""
        connection = self.connect(timeout)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def connect(self, timeout=60):
        address = urllib.parse.urlsplit(self.url)
        return http.client.HTTPConnection(address.hostname, address.port, timeout=timeout)

    def post_json(self, path, body, timeout=60):
        status, _, answer = self.request(
            "POST", path, json.dumps(body), {"Content-Type": "application/json"}, timeout=timeout
        )
        return status, json.loads(answer)

    def health(self):
        return json.loads(self.request("GET", "/health")[2])

    def model_figures(self):
        return self.health()["models"][0]

    def wait_for_figures(self, are_as_wanted, timeout_s=60):
        """The first figures that `are_as_wanted` accepts: a step's are published behind its tokens."""
        until = time.monotonic() + timeout_s
        while True:
            figures = self.model_figures()
            if are_as_wanted(figures):
                return figures
            if time.monotonic() > until:
                raise AssertionError(f"after {timeout_s} s the figures are still {figures}")
            time.sleep(0.02)

    def wait_until_idle(self, timeout_s=60):
        """The figures once no request runs or waits."""
        return self.wait_for_figures(lambda figures: figures["running"] == 0 and figures["waiting"] == 0, timeout_s)

    def read_log(self):
        with open(self.log.name) as log:
            return log.read()

    def wait_for_log(self, wanted, timeout_s=60):
        """The log once it holds `wanted`; a request is logged after its answer was sent."""
        until = time.monotonic() + timeout_s
        while wanted not in self.read_log():
            assert time.monotonic() < until, f"no {wanted!r} in the log: {self.read_log()}"
            time.sleep(0.02)
        return self.read_log()

    def terminate(self):
        """Once: a second signal would end it without a farewell."""
        self.asked_to_stop = True
        self.process.send_signal(signal.SIGTERM)

    def stop(self):
        """Its exit code."""
        if self.process.poll() is None:
            if not self.asked_to_stop:
                self.terminate()
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        self.process.stdout.close()
        self.log.close()
        return self.process.returncode
