# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven over WebDriver by plain HTTP: no packages but chromium and chromedriver.

Every console message and every violation of the page's policy is kept, so that a test can claim there
was none."""
import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
         "--disable-default-apps", "--hide-scrollbars"]


def programs():
    """Paths of chromium and chromedriver; either may be None."""
    chrome = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
    return chrome, shutil.which("chromedriver")


class BrowserError(Exception):
    pass


class Browser:
    def __init__(self, width=1440, height=900, flags=()):
        chrome, driver = programs()
        self.profile = tempfile.mkdtemp(prefix="magpie-chromium-")
        self.log = open(os.path.join(self.profile, "chromedriver.log"), "w+", encoding="utf-8")
        self.process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, stderr=self.log, text=True,
                                        start_new_session=True)
        self.session = None
        try:
            self.base = f"http://127.0.0.1:{self._port()}"
            options = {"binary": chrome, "args": [*FLAGS, f"--user-data-dir={self.profile}/profile",
                                                  f"--window-size={width},{height}", *flags]}
            answer = self._call("POST", "/session", {"capabilities": {"alwaysMatch": {
                "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}})
            self.session = answer["sessionId"]
            self.size(width, height)
        except BaseException:
            self.close()
            raise

    def _port(self):
        for line in self.process.stdout:
            found = re.search(r"started successfully on port (\d+)", line)
            if found:
                return int(found.group(1))
        raise BrowserError("chromedriver did not start")

    def _call(self, method, path, body=None, timeout=60):
        prefix = f"/session/{self.session}" if self.session else ""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + prefix + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            value = json.load(error)["value"]
            raise BrowserError(f"{value.get('error')}: {value.get('message')}") from None

    def close(self):
        if self.session:
            try:
                self._call("DELETE", "")
            except (BrowserError, OSError):
                pass
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()
        shutil.rmtree(self.profile, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def go(self, url):
        self._call("POST", "/url", {"url": url})

    def js(self, script, *args):
        """Runs the body of a function in the page; `arguments` holds args."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(args)})

    def wait(self, script, *args, timeout=20, what=None):
        """Polls until the script returns something true, and returns it."""
        deadline = time.monotonic() + timeout
        while True:
            value = self.js(script, *args)
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout} s: {what or script}\nthe page says: {self.text('body')[:1500]}")
            time.sleep(0.05)

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def wait_text(self, selector, pattern, timeout=20):
        return self.wait("const t = document.querySelector(arguments[0])?.innerText ?? '';"
                         "return new RegExp(arguments[1]).test(t) ? t : null", selector, pattern,
                         timeout=timeout, what=f"{selector} to say /{pattern}/")

    def click(self, selector):
        self.wait("const e = document.querySelector(arguments[0]); if (!e) return false; e.click(); return true", selector)

    def keys(self, text):
        """Real key presses to whatever has the focus."""
        actions = [step for key in text for step in ({"type": "keyDown", "value": key}, {"type": "keyUp", "value": key})]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def mouse(self, x, y):
        move = {"type": "pointerMove", "duration": 0, "x": int(x), "y": int(y)}
        self._call("POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": [move]}]})

    def tab(self, url):
        """Opens another tab and goes on in it; returns a function that goes back to the first."""
        first = self._call("GET", "/window")
        second = self._call("POST", "/window/new", {"type": "tab"})["handle"]
        self._call("POST", "/window", {"handle": second})
        self.go(url)
        return lambda: self._call("POST", "/window", {"handle": first})

    def cdp(self, command, **params):
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": params})

    def size(self, width, height):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def scheme(self, name):
        """"dark" or "light", as the system would say it."""
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def screenshot(self, path):
        with open(path, "wb") as out:
            out.write(base64.b64decode(self._call("GET", "/screenshot")))

    def console(self):
        """Messages since the last call: {"level", "source", "message"}."""
        return self._call("POST", "/se/log", {"type": "browser"})
