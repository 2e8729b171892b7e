"""Tells what the installation does, in the shape and with the names of
Subiquity's events, to the console and to the webhooks of the reporting section.
"""

import contextlib
import json
import time
import urllib.parse
import urllib.request

# The controllers, in the order in which Subiquity loads and applies them.
CONTROLLERS = (
    "Early Reporting Error Userdata Package Debconf Locale Refresh Kernel Integrity "
    "Keyboard Zdev Source Network UbuntuPro Proxy Mirror Filesystem Identity SSH "
    "SnapList Ad Codecs Drivers OEM TimeZone Install Updates Late Shutdown"
).split()

# What applying some of them consists of.
STEPS = {
    "Network": ["wait_initial_config", "wait_for_apply", "apply_config"],
    "Mirror": ["waiting"],
}


class Webhook:
    """Posts events. As in curtin, an option that it does not know is an error,
    and a post that fails is only mentioned."""

    OAUTH = ("consumer_key", "token_key", "token_secret", "consumer_secret")

    def __init__(self, endpoint, timeout=None, retries=None, level="DEBUG", **oauth):
        del timeout, level  # accepted and ignored, as curtin does
        self.endpoint = endpoint
        # curtin concatenates the delays to a list: anything else fails at each
        # event, so that none is ever sent.
        self.delays = [0] + retries if isinstance(retries or [], list) and retries else [0]
        self.broken = retries is not None and not isinstance(retries, list)
        unknown = set(oauth) - set(self.OAUTH)
        if unknown:
            raise TypeError(f"unexpected keyword argument {sorted(unknown)[0]!r}")
        self.oauth = oauth

    def _headers(self):
        headers = {"Content-Type": "application/json", "User-Agent": "Curtin/stand-in", "Connection": "close"}
        if all(self.oauth.get(key) for key in self.OAUTH):
            signature = urllib.parse.quote(f"{self.oauth['consumer_secret']}&{self.oauth['token_secret']}", safe="")
            headers["Authorization"] = "OAuth " + ", ".join([
                f'oauth_consumer_key="{self.oauth["consumer_key"]}"',
                f'oauth_token="{self.oauth["token_key"]}"',
                'oauth_signature_method="PLAINTEXT"',
                f'oauth_signature="{signature}"',
            ])
        return headers

    def publish(self, event):
        if self.broken:
            return
        request = urllib.request.Request(self.endpoint, json.dumps(event).encode(), self._headers())
        for delay in self.delays:
            time.sleep(delay)
            try:
                urllib.request.urlopen(request, timeout=30).close()
                return
            except OSError as e:
                print(f"standin-installer: cannot report to {self.endpoint}: {e}", flush=True)


class Console:
    """Prints what takes place, for a person at the console."""

    def publish(self, event):
        if event["level"] != "DEBUG" or "/run_curtin_step" in event["name"] or "/command_" in event["name"]:
            result = event.get("result", "")
            print(f"{event['event_type']}: {event['name']}: {event['description'][:120]} {result}".rstrip(), flush=True)


class DebugLog:
    """Writes events as they stand in Subiquity's own log."""

    PATH = "/var/log/installer/subiquity-server-debug.log"

    def publish(self, event):
        words = [event["event_type"], event["name"], event.get("result"), event["description"]]
        with open(self.PATH, "a", encoding="utf-8") as f:
            f.write(time.strftime("%Y-%m-%d %H:%M:%S,000 DEBUG root:39 ") + ": ".join(w for w in words if w is not None) + "\n")


class Reporter:
    """Hands events to whoever wants them."""

    def __init__(self):
        self._sinks = [Console(), DebugLog()]

    def configure(self, section):
        """Adds what the reporting section asks for. Types other than these two
        are errors in Subiquity too, whatever its documentation says."""
        known = {"webhook": Webhook, "print": Console}
        for options in (section or {}).values():
            options = dict(options)
            self._sinks.append(known[options.pop("type")](**options))

    def post(self, event_type, name, description="", level="DEBUG", result=None):
        event = {
            "name": "subiquity/" + name,
            "description": description,
            "event_type": event_type,
            "origin": "curtin",
            "timestamp": time.time(),
            "level": level,
        }
        if result:
            event["result"] = result
        for sink in self._sinks:
            sink.publish(event)

    @contextlib.contextmanager
    def step(self, name, description="", level="DEBUG"):
        """A start event, and a finish event with how it went."""
        self.post("start", name, description, level)
        try:
            yield
        except BaseException as e:
            self.post("finish", name, str(e), "ERROR", "FAIL")
            raise
        self.post("finish", name, description, level, "SUCCESS")
