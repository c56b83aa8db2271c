"""A real browser for tests: Debian's Chromium without a window, over its debugging pipe. Standard library alone.

It speaks the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/): messages that end with a zero
byte, on its file descriptors 3 and 4. So nothing listens on a port.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")


class Browser:
    """One page of a browser. `events` collects its network requests, log entries and exceptions."""

    def __init__(self, requests: int, responses: int) -> None:
        self._requests, self._responses = requests, os.fdopen(responses, "rb", buffering=0)
        self._number, self._buffer, self._session = 0, b"", None
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: object) -> dict[str, Any]:
        """Ask for something, and return the answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._requests, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            block = self._responses.read(1 << 16)
            assert block, "the browser is gone"
            self._buffer += block
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message

    def open(self, path: Path, *, width: int, height: int = 900) -> None:
        """Open a file in a window of so many CSS pixels, and wait until all of it is there."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.events.clear()
        self.send("Page.navigate", url=path.resolve().as_uri())
        while not self.events_of("Page.loadEventFired"):
            self._next()

    def events_of(self, method: str) -> list[dict[str, Any]]:
        """Return the parameters of all events of a name since the page was opened."""
        return [event["params"] for event in self.events if event["method"] == method]

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key where the focus is."""
        code = {"Enter": 13, "Tab": 9, "ArrowLeft": 37, "ArrowRight": 39}[key]
        event = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        text = {"text": "\r"} if key == "Enter" else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **event, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def picture_from(self, selector: str, path: Path) -> None:
        """Write a JPEG of the window, scrolled to where an element begins, once what moves there has come to rest."""
        self.run(f"document.querySelector({selector!r}).scrollIntoView({{ behavior: 'instant' }})")
        self.run("Promise.all([...document.images].map((image) => image.decode()))")
        shot = self.send("Page.captureScreenshot", format="jpeg", quality=75)
        path.write_bytes(base64.b64decode(shot["data"]))

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page, below the window's edge as well."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def chromium(home: Path) -> Iterator[Browser]:
    """Start Chromium with nothing of the user's, which lives in `home`."""
    requests_out, requests_in = os.pipe()
    responses_out, responses_in = os.pipe()
    options = (
        "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-extensions "
        "--disable-background-networking --disable-component-update --remote-debugging-pipe"
    )
    script = f'exec "$0" {options} --user-data-dir="$1" about:blank 3<&{requests_out} 4>&{responses_in}'
    process = subprocess.Popen(
        ["bash", "-c", script, CHROMIUM, home],
        pass_fds=(requests_out, responses_in),
        env={**os.environ, "HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(requests_out)
    os.close(responses_in)
    try:
        browser = Browser(requests_in, responses_out)
        yield browser
        browser._responses.close()
    finally:
        os.close(requests_in)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> None:
    """Picture a part of a page from the command line, as for docs/."""
    parser = argparse.ArgumentParser(description="Write a JPEG of a page, from where an element begins.")
    parser.add_argument("page", type=Path)
    parser.add_argument("selector", help="of the element, such as '#gallery'")
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=1000, help="in CSS pixels (default: %(default)s)")
    parser.add_argument("--height", type=int, default=760, help="in CSS pixels (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, chromium(Path(home)) as browser:
        browser.open(arguments.page, width=arguments.width, height=arguments.height)
        browser.picture_from(arguments.selector, arguments.out)


if __name__ == "__main__":
    main()
