"""Standard Webhooks: what is signed, with what, and where it may go. Held against the library of the specification's authors."""

import base64
import json
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gateway import starting
from gateway.alerting import target_of
from gateway.policy import webhooks
from gateway.policy.webhooks import Message, Target
from gateway.settings import Settings

KEY = b"0123456789abcdef01234567"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
TARGET = Target(url="https://hooks.example.com/a?token=t", keys=(KEY,), private=False)


def event(kind: str, **data: object) -> bytes:
    return json.dumps(
        {"specversion": "1.0", "type": kind, "id": "i-1", "time": "2026-11-20T09:00:00Z", "data": data}
    ).encode()


def test_the_specifications_own_library_accepts_the_signature_and_nothing_else() -> None:
    message = webhooks.message(event("alert.opened", alert="a", sentence="ü {x}"))
    assert message is not None
    sent = webhooks.request(message, int(datetime.now(UTC).timestamp()), TARGET)
    assert sent.body is not None
    told = Webhook(SECRET).verify(sent.body, dict(sent.headers))
    assert told == {
        "type": "alert.opened",
        "timestamp": "2026-11-20T09:00:00Z",
        "data": {"alert": "a", "sentence": "ü {x}"},
    }
    for change in ({"webhook-id": "i-2"}, {"webhook-timestamp": str(int(sent.headers["webhook-timestamp"]) - 1)}):
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(sent.body, {**sent.headers, **change})
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(sent.body + b" ", dict(sent.headers))


def test_the_signature_is_the_published_example() -> None:
    """https://github.com/standard-webhooks/standard-webhooks, the test vector of its libraries."""
    message = Message("msg_p5jXN8AQM9LWM0D4loKWxJek", "x", b'{"test": 2432232314}')
    keys = webhooks.keys_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert isinstance(keys, tuple)
    assert webhooks.signature(message, 1614265330, keys[0]) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_while_a_secret_is_replaced_the_old_and_the_new_one_both_verify() -> None:
    other = "whsec_" + base64.b64encode(KEY[::-1]).decode()
    keys = webhooks.keys_of(f"{other} {SECRET}")
    assert isinstance(keys, tuple)
    message = Message("i-1", "x", b'{"a":1}')
    sent = webhooks.request(
        message, int(datetime.now(UTC).timestamp()), Target(url=TARGET.url, keys=keys, private=False)
    )
    for secret in (SECRET, other):
        assert Webhook(secret).verify(b'{"a":1}', dict(sent.headers)) == {"a": 1}
    assert isinstance(webhooks.keys_of(f"{SECRET} whsec_%"), str)


@pytest.mark.parametrize(
    ("kind", "data", "sent"),
    [
        ("alert.opened", {}, True),
        ("alert.resolved", {}, True),
        ("gateway.epoch_lost", {}, True),
        ("contract.finding", {"level": "risky"}, True),
        ("contract.finding", {"level": "breaking"}, False),
        ("token.needs_consent", {}, False),
        ("token.config_error", {}, False),
    ],
)
def test_a_notice_of_which_an_alert_opens_is_not_sent_twice(kind: str, data: dict[str, object], sent: bool) -> None:  # noqa: FBT001
    assert (webhooks.message(event(kind, **data)) is not None) == sent


def test_what_is_no_event_is_passed_over() -> None:
    assert webhooks.message(b"no") is None


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_%%%", "whsec_c2hvcnQ=", SECRET.removeprefix("whsec_"), "whsec_" + "A" * 100]
)
def test_a_secret_that_does_not_fit_is_refused_without_being_told(secret: str) -> None:
    problem = webhooks.misfit("https://hooks.example.com/a", secret, private=False)
    assert problem is not None
    assert len(secret) < 7 or secret.removeprefix("whsec_") not in problem


@pytest.mark.parametrize(
    ("url", "private", "fits"),
    [
        ("https://hooks.example.com/a", False, True),
        ("https://hooks.example.com:8443/a", False, True),
        ("http://hooks.example.com/a", False, False),
        ("http://127.0.0.1:9/a", True, True),
        ("ftp://hooks.example.com/a", True, False),
        ("https://user:pass@hooks.example.com/", False, False),
        ("nonsense", False, False),
    ],
)
def test_where_it_may_go(url: str, private: bool, fits: bool) -> None:  # noqa: FBT001
    problem = webhooks.misfit(url, SECRET, private=private)
    assert (problem is None) == fits, problem
    assert problem is None or "pass" not in problem


def test_no_role_starts_with_a_webhook_that_cannot_work_and_nothing_of_it_is_shown() -> None:
    bad = Settings(alert_webhook="https://h.example.com/path", alert_webhook_secret="whsec_zzz")
    problem = starting.unsupported(bad)
    assert problem is not None
    assert "whsec_zzz" not in problem
    assert target_of(bad) is None
    good = Settings(alert_webhook=TARGET.url, alert_webhook_secret=SECRET)
    assert starting.unsupported(good) is None
    assert target_of(good) == TARGET
    assert target_of(Settings()) is None
    shown = f"{good!r} {TARGET!r} {good.environment()}"
    assert SECRET not in shown
    assert "token=t" not in shown


def test_settings_read_times_as_people_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_ALERT_WINDOW", "45m")
    monkeypatch.setenv("SLUICE_ALERT_BREAKER_OPEN", "90")
    settings = Settings()
    assert (settings.alert_window, settings.alert_breaker_open) == (2700, 90)
    with pytest.raises(ValueError, match="alert_window"):
        Settings(alert_window="soon")


@pytest.mark.parametrize(
    ("tries", "asked", "wait"),
    [(1, None, 1), (2, None, 2), (5, None, 16), (60, None, 300), (1, 30.0, 30), (1, 9e9, 300)],
)
def test_the_pause_grows_and_does_as_it_is_asked_within_its_bound(tries: int, asked: float | None, wait: float) -> None:
    assert webhooks.pause_s(tries, asked) == wait
