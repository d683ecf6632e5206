"""Strange names, origins and events against the guard around our page and around RVC's (`guarded_pages`)."""
# ruff: noqa: F811  (fixtures, which pytest finds by their names)

import json
import random
import socket

import pytest
import requests
import websockets.exceptions
from browser import chromium  # noqa: F401  (a fixture)
from guarded_pages import SECRET, dependency, guarded, named, own, page, recording, unguarded  # noqa: F401  (fixtures)

from LoraModel.webui.guard.addresses import Addresses, same_origin
from LoraModel.webui.guard.events import check, parse

pytestmark = pytest.mark.attack


# ---------------------------------------------------------------- who asks

def test_only_the_pages_own_names_are_answered(page):
    for host in (f"127.0.0.1:{page.port}", f"localhost:{page.port}", f"LOCALHOST:{page.port}"):
        assert page.get("/", Host=host).status_code == 200, host
    for host in ("evil.example", f"evil.example:{page.port}", f"127.0.0.1.evil.example:{page.port}",
                 f"localhost.evil.example:{page.port}",
                 f"evil.example@127.0.0.1:{page.port}", f"127.0.0.1:{page.port}, evil.example",
                 f"[::1]evil:{page.port}", ""):
        for path in ("/", "/config", "/file=x", "/queue/status", "/theme.css"):
            answer = page.get(path, Host=host)
            assert answer.status_code in (400, 403), (host, path)  # 400: the server itself found the header malformed
            assert SECRET not in answer.text and "dependencies" not in answer.text
        assert page.post(body=page.event(None), headers={"Host": host}).status_code in (400, 403)
    assert "RVC_LORA_HOSTS" in page.get("/", Host="evil.example").json()["error"]


def test_a_page_for_the_network_answers_under_its_addresses_and_names(guarded, own):
    name = socket.gethostname()
    for host in ("192.168.1.20:7865", "10.0.0.3", "[fe80::1]:7865", f"{name}:7865", f"{name.split('.')[0]}.local",
                 "my-proxy.example"):
        assert guarded.get("/", Host=host).status_code == 200, host
        assert guarded.post(body=guarded.event(None),
                            headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200, host
        assert own.get("/", Host=host).status_code == 403, host
    assert guarded.post(body=guarded.event(None),
                        headers={"Host": "my-proxy.example", "Origin": "https://my-proxy.example"}).status_code == 200
    assert own.get("/", Host="127.0.0.1:80").status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "https://127.0.0.1", "file://",
                                    "http://127.0.0.1.evil.example"])
def test_other_origins_are_refused(page, origin):
    for path in ("/", "/config", "/file=notes.txt", "/startup-events"):
        answer = page.get(path, Origin=origin)
        assert answer.status_code == 403 and not [key for key in answer.headers
                                                  if key.lower().startswith("access-control-")]
    assert page.post(body=page.event(None), headers={"Origin": origin}).status_code == 403
    assert page.upload(recording(), Origin=origin).status_code == 403
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "content-type"}
    answer = requests.options(page.address + "/run/predict", headers=asked, timeout=60)
    assert answer.status_code >= 400 and "Access-Control-Allow-Origin" not in answer.headers
    with pytest.raises(websockets.exceptions.InvalidHandshake):
        page.join(None, origin=origin)


def test_the_own_origin_is_answered_without_cors(page):
    answer = page.get("/config", Origin=page.address)
    assert answer.status_code == 200 and not [key for key in answer.headers
                                              if key.lower().startswith("access-control-")]
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        assert requests.request(method, page.address + "/run/predict", timeout=60).status_code == 405


def test_what_a_browser_says_of_the_asking_site_counts(page):
    # a link to the page
    assert page.get("/", **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status_code == 200
    assert page.get("/", **{"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}).status_code == 200
    for path, mode in (("/", "no-cors"), ("/config", "navigate"), ("/assets/x.js", "no-cors"),
                       ("/startup-events", "no-cors")):
        for site in ("cross-site", "same-site"):
            assert page.get(path, **{"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}).status_code == 403
    assert page.post(body=page.event(None),
                     headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status_code == 403


def test_the_queue_is_for_the_pages_own_names(page):
    with pytest.raises(websockets.exceptions.InvalidHandshake):
        page.join(None, host=f"evil.example:{page.port}")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data",
                                  "text/json"])
def test_a_post_without_a_preflight_is_refused(page, kind):
    for path in ("/run/predict", "/api/predict", "/api/predict/", "/run/echo", "/reset"):
        assert page.post(path, data=json.dumps(page.event(None)).encode(),
                         headers={"Content-Type": kind}).status_code == 415
    for wrong in ({}, {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}):
        assert page.post("/upload", data=b"x", headers=wrong).status_code == 415


def test_a_post_without_a_type_is_a_programs_or_refused(page):
    """gradio_client 0.2 sends none; a browser's post without one names the page that sent it."""
    body = json.dumps(page.event(None)).encode()
    untyped, typed = page.post("/run/predict", data=body, headers={}), page.post(body=page.event(None))
    assert untyped.status_code == typed.status_code != 415
    own = f"http://127.0.0.1:{page.port}"
    for headers in ({"Origin": own}, {"Referer": own + "/"}, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Mode": "cors"}):
        assert page.post("/run/predict", data=body, headers=headers).status_code == 415
    assert page.post("/run/predict", data=body, headers={"Origin": "null"}).status_code == 403
    assert page.post("/run/predict", data=json.dumps(page.event({"name": "/etc/hostname", "is_file": True})).encode(),
                     headers={}).status_code == 400


# ---------------------------------------------------------------- malformed events

def test_a_request_that_is_no_event_is_told_so(page):
    for body in (None, [], "x", 1, {"data": {}}, {"data": "x"}, {"data": [], "fn_index": -1},
                 {"data": [], "fn_index": 10**6},
                 {"data": [], "fn_index": True}, {"data": [], "fn_index": "0"},
                 {"data": [], "fn_index": 0, "session_hash": ["x"]},
                 {"data": [], "fn_index": 0, "session_hash": "x" * 10**5}):
        answer = page.post(data=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 400 and "reload the page" in answer.json()["error"], body
    deep = b"[" * 200000 + b"]" * 200000
    for body in (b"{", b"\xff\xfe", b"nan", b'{"data": [NaN]}', b'{"data": [Infinity]}', b'{"data": [1e999]}',
                 b'{"data": ["\\ud800"]}', deep, b""):
        answer = page.post(data=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400 and answer.json()["error"], body[:40]


def test_values_that_gradio_stumbles_over_are_answered_in_words(guarded):
    half, count = (dependency(guarded.address + "/", name) for name in ("half", "count"))
    assert guarded.post(body=guarded.event(3, half)).json()["data"] == ["1.5"]
    assert guarded.post("/run/half", body={"data": [1e308]}).json()["data"] == ["5e+307"]
    for value in ([], {}, True, "3", "x", [3]):
        for answer in (guarded.post(body=guarded.event(value, half)),
                       guarded.post("/api/half/", body={"data": [value]})):
            assert answer.status_code == 400 and "enter a number" in answer.json()["error"], value
        assert "enter a number" in guarded.join(value, number=half)["output"]["error"]
    for number, values in ((guarded.echo, ([], "x", 3, True)), (count, ("x", 3, True))):
        for value in values:
            answer = guarded.post(body=guarded.event(value, number))
            assert answer.status_code == 400 and "drop a file into it" in answer.json()["error"], value
    for data in ([], None):
        assert guarded.post("/run/half", body={"data": data}).status_code in (400, 422)


def test_random_bodies_name_no_file(attack_rounds):
    """However a file of the machine is wrapped, it is found; and what names none passes."""
    dice = random.Random(0)

    class Blocks:
        dependencies = [None]

    wraps = [lambda v: [v], lambda v: {"x": v}, lambda v: [1, None, v, "y"], lambda v: {"data": v},
             lambda v: {"name": None, "z": [v]}]

    def wrapped(value, depth):
        for _ in range(depth):
            value = dice.choice(wraps)(value)
        return value

    for _ in range(300 * attack_rounds):
        depth = dice.randrange(60)
        bad = {"data": [wrapped(named("/etc/passwd"), depth)], "fn_index": 0}
        with pytest.raises(ValueError):
            check(parse(json.dumps(bad)), Blocks, lambda path: False)
        good = {"data": [wrapped(named("/up/a.wav"), depth),
                         wrapped({"name": "x", "data": "data:,", "is_file": False}, 2)], "fn_index": 0}
        check(parse(json.dumps(good)), Blocks, lambda path: path == "/up/a.wav")


def test_the_rules_of_addresses():
    local, network = Addresses.local(), Addresses.open(["my.example:8443", "2001:db8::1"])
    for host in ("127.0.0.1:7865", "localhost:7865", "[::1]:7865", "localhost.:7865"):
        assert local.answers(host, 7865), host
    for host in ("127.0.0.1", "127.0.0.2:7865", "localhost:7866", "10.0.0.1:7865", "", ":7865", "localhost:",
                 "localhost:x", "local host:7865",
                 "localhost:7865:7865", "localhost:٧٨٦٥", "[::1:7865", "0x7f000001:7865", "2130706433:7865"):
        assert not local.answers(host, 7865), host
    assert network.answers("my.example", 7865) and network.answers("[2001:db8::1]",
                                                                   7865) and network.answers("0.0.0.0:7865", 7865)
    assert not network.answers("2130706433:7865", 7865) and not network.answers("my.example.evil.example", 7865)
    assert network.answers("abc.gradio.live", 7865,
                           "https://abc.gradio.live") and not network.answers("abd.gradio.live", 7865,
                                                                              "https://abc.gradio.live")
    for origin, host in (("http://a:80", "A"), ("https://a", "a:443"), ("https://a", "a"),
                         ("http://[::1]:7", "[::1]:7")):
        assert same_origin(origin, host)
    for origin in ("http://a:81", "null", "", "a", "ftp://a", "http://a/x", "http://b@a", "http://a:80:80", "http://",
                   "//a"):
        assert not same_origin(origin, "a:80"), origin
