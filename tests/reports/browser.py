"""A headless Chromium, spoken to over its DevTools pipe: no driver and no port are needed."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from contextlib import contextmanager

COMMANDS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find():
    return next((executable for executable in map(shutil.which, COMMANDS) if executable), None)


class Browser:
    def __init__(self, write, read):
        self.write, self.read = write, read
        self.buffer, self.count, self.session = b"", 0, None
        self.events = []

    def receive(self, seconds):
        """The next message; None if none comes."""
        until = time.monotonic() + seconds
        while b"\0" not in self.buffer:
            if not select.select([self.read], [], [], max(until - time.monotonic(), 0))[0]:
                return None
            part = os.read(self.read, 1 << 16)
            assert part, "the browser closed its pipe"
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def send(self, method, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.write, data) :]
        while True:
            reply = self.receive(60)
            assert reply is not None, f"no answer to {method}"
            if reply.get("id") == self.count:
                assert "error" not in reply, reply
                return reply["result"]
            self.events.append(reply)

    def open(self, url, width=1400, height=900, dark=False):
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", media="", features=features)
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.send("Page.navigate", url=url)
        until = time.monotonic() + 60
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            event = self.receive(until - time.monotonic())
            assert event is not None, "the page did not load"
            self.events.append(event)
        while (event := self.receive(0.3)) is not None:  # what comes after loading
            self.events.append(event)

    def seen(self, *methods):
        return [event["params"] for event in self.events if event.get("method") in methods]

    def evaluate(self, expression):
        return self.send("Runtime.evaluate", expression=expression, returnByValue=True)["result"]["value"]

    def screenshot(self, path, whole=True):
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"]))

    def pdf(self, path):
        path.write_bytes(base64.b64decode(self.send("Page.printToPDF", printBackground=False)["data"]))


@contextmanager
def browser(profile):
    """A fresh browser with one blank page; `profile`: a folder of its own."""
    to_child, write = os.pipe()
    read, from_child = os.pipe()

    def fds():  # the pipe's ends stand at 3 and 4 by definition
        high = [os.dup(fd) for fd in (to_child, from_child)]
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)

    options = ("headless=new", "hide-scrollbars", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run")
    options += ("disable-background-networking", f"user-data-dir={profile}", "remote-debugging-pipe")
    command = [find(), *(f"--{option}" for option in options)]
    process = subprocess.Popen(command, preexec_fn=fds, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(to_child)
    os.close(from_child)
    try:
        page = Browser(write, read)
        target = page.send("Target.createTarget", url="about:blank")["targetId"]
        page.session = page.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            page.send(f"{domain}.enable")
        yield page
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(write)
        os.close(read)
