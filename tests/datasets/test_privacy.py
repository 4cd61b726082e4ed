"""De-identification: what identifies goes, what only looks like it stays, and a second time changes nothing.

The keys are made up, and put together here so that no file of this repository holds one.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.datasets.privacy import Deidentifier, clean_traces, names_secret
from windlass.datasets.traces import Trace

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
FOUND = [
    ("write to bob@example.com.", "write to [EMAIL_1]."),
    ("<first.last+tag@mail.example.co.uk>", "<[EMAIL_1]>"),
    ("jörg@exämple.de", "[EMAIL_1]"),
    ("?to=bob%40example.com&x", "?to=[EMAIL_1]&x"),
    ("bob@example.com and Bob@Example.COM, eve@example.com", "[EMAIL_1] and [EMAIL_1], [EMAIL_2]"),
    ("AKIA" + "IOSFODNN7EXAMPLE", "[KEY_1]"),
    ("ghp_" + LETTERS[:36], "[KEY_1]"),
    ("github_pat_" + LETTERS[:30], "[KEY_1]"),
    ("glpat-" + LETTERS[:20], "[KEY_1]"),
    ("xoxb-" + "123456789012-" + LETTERS[:12], "[KEY_1]"),
    ("https://hooks.slack.com/services/" + "T000/B000/" + LETTERS[:20], "https://[KEY_1]"),
    ("sk-proj-" + LETTERS[:40], "[KEY_1]"),
    ("sk-ant-" + LETTERS[:40] + ", sk-" + LETTERS[:48], "[KEY_1], [KEY_2]"),
    ("sk_live_" + LETTERS[:24], "[KEY_1]"),
    ("AIza" + LETTERS[:35], "[KEY_1]"),
    ("hf_" + LETTERS[:34], "[KEY_1]"),
    ("eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0." + "abc_def-1", "[KEY_1]"),
    ("Authorization: Bearer abcdefgh", "Authorization: Bearer [KEY_1]"),
    ('"authorization": "Basic dXNlcjpwYXNz"', '"authorization": "Basic [KEY_1]"'),
    ("curl -H 'authorization: token abcdefgh'", "curl -H 'authorization: token [KEY_1]'"),
    ("a bearer 0123abcd here", "a bearer [KEY_1] here"),
    ("-----BEGIN RSA PRIVATE KEY-----\nab\ncd=\n-----END RSA PRIVATE KEY-----\nafter", "[KEY_1]\nafter"),
    ("x -----BEGIN PRIVATE KEY-----\\nab\\n-----END PRIVATE KEY----- y", "x [KEY_1] y"),
    ("-----BEGIN OPENSSH PRIVATE KEY-----\ncut off", "[KEY_1]"),
    ("postgres://admin:pa55@db.example.com/x", "postgres://[SECRET_1]@db.example.com/x"),
    ("password=hunter", "password=[SECRET_1]"),
    ("PASSWORD: hunter22", "PASSWORD: [SECRET_1]"),
    ('{"apiKey": "x y z"}', '{"apiKey": "[SECRET_1]"}'),
    ('"{\\"client_secret\\": \\"abc\\"}"', '"{\\"client_secret\\": \\"[SECRET_1]\\"}"'),
    ("?access_token=a1b2c3d4&page=2", "?access_token=[SECRET_1]&page=2"),
    ("db_password := 's3cret'", "db_password := '[SECRET_1]'"),
    ("'passwd' => 'it\\'s'", "'passwd' => '[SECRET_1]'"),
    ("from 10.1.2.3:8080, 10.1.2.3/24", "from [IP_1]:8080, [IP_1]/24"),
    ("10.0.0.1-10.0.0.9", "[IP_1]-[IP_2]"),
    ("http://93.184.216.34/x", "http://[IP_1]/x"),
    ("1.2.3.4", "[IP_1]"),
    ("2001:db8::8a2e:370:7334.", "[IP_1]."),
    ("[2001:db8::1]:443 and 2001:0db8:0:0:0:0:0:1", "[[IP_1]]:443 and [IP_1]"),
    ("fe80::1%eth0", "[IP_1]%eth0"),
    ("::ffff:10.0.0.1", "::ffff:[IP_1]"),
    ("+49 30 1234567", "[PHONE_1]"),
    ("+1 (212) 555-0123", "[PHONE_1]"),
    ("+15551234567", "[PHONE_1]"),
    ("call (212) 555-0123 or 212-555-0123", "call [PHONE_1] or [PHONE_1]"),
    ("212.555.0123", "[PHONE_1]"),
    ("Tel.: 030 1234567", "Tel.: [PHONE_1]"),
    ('"phone": "030/123 45 67"', '"phone": "[PHONE_1]"'),
    ("4111 1111 1111 1111 and 4111111111111111", "[CARD_1] and [CARD_1]"),
    ("3782 822463 10005 exp 12/25", "[CARD_1] exp 12/25"),
    ("5555-5555-5555-4444", "[CARD_1]"),
]


@pytest.mark.parametrize(("text", "cleaned"), FOUND, ids=[text[:30] for text, _ in FOUND])
def test_what_identifies_goes(text: str, cleaned: str) -> None:
    assert Deidentifier().text(text) == cleaned


STAYS = [
    "v1.2.3.4, version 1.2.3.4, Version: 1.2.3.4, release 10.1.2.3, ==1.2.3.4, >=1.2.3.4",
    "1.2.3.4-rc1, 1.2.3.4.5, 1.2.3.4.tar, section 1.2.3.4, build 10.0.19.1, 999.1.2.3, 1.2.3, 01.02.03.04",
    "127.0.0.1, 0.0.0.0, 255.255.255.0, ::1, ::",
    "2024-01-02 10:20:30, 02.01.2024, 12:34:56, 10:20, 2024-01-02T10:20:30.123456Z, 20240102",
    "3.14159265358979, 1e-10, 1,234,567, 1732185600, 1732185600000, 1732185600000000000, 0.4111111111111111",
    "4111111111111112, 1234567890123456, 0000000000000000, 4111 1111 1111 1112",
    "100 200 3000, +12345678, +1.23456789, -5551234567, 5551234567, 123-45-678, 978-3-16-148410-0",
    "12 + 34 = 46, 555-0123, 2024-01-02, 100-200-3000",
    "std::vector<int>, a::b, x[1000::2], x[1::2], x[::10], aa:bb:cc:dd:ee:ff, 1:2:3:4:5:6:7:8, C:\\x, key:value",
    "git@github.com:example/repository, @decorator, user@localhost, package@1.2.3, a @ b, x@y",
    "password: required, the token: invalid, secret: str, Bearer certificates, bearer of news, token ring",
    "max_tokens=4096, eos_token='<|endoftext|>', pad_token=\"[PAD]\", token: 128000, tokens=12345678, n_tokens: 123456",
    "password=password, api_key=api_key, token=get_token(), secret=settings.secret, key=value, api_key=os.environ['A']",
    "password=${PASSWORD}, token={{ token }}, api_key=<your-api-key>, secret=********, password=None",
    "sk-learn, hf_hub, eyJ, AKIA, task-force, ghp_short, skeleton-key, monkey: 12345678",
    "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----, -----BEGIN PUBLIC KEY-----",
    "phone 2024-01-02, the telephone 12, a cell 3 x 4",
    "550e8400-e29b-41d4-a716-446655440000, d41d8cd98f00b204e9800998ecf8427e, 3f2a9c81b04d",
]


@pytest.mark.parametrize("text", [one for line in STAYS for one in line.split(", ")] + STAYS)
def test_what_only_looks_like_it_stays(text: str) -> None:
    deidentifier = Deidentifier()
    assert deidentifier.text(text) == text
    assert deidentifier.counts == {}


def test_fields_with_telling_names() -> None:
    given = {
        **{"password": "a b", "pin": 4, "user": {"accessToken": "q", "name": "n"}, "X-Api-Key": "k", "token": 7},
        **{"credentials": {"user": "u", "tries": 3, "on": True}, "secrets": ["a", "a", "b"], "phone": "030 123456"},
        **{"max_tokens": 5, "eos_token": "</s>", "top": {"token": " the", "logprob": -0.1}, "secret": None},
        **{"password_hash": 123456, "mobile_number": 491701234567, "phone_model": "x1"},
    }
    assert Deidentifier().clean(given) == {
        **{"password": "[SECRET_1]", "pin": 4, "user": {"accessToken": "[SECRET_2]", "name": "n"}},
        **{"X-Api-Key": "[SECRET_3]", "token": 7},
        **{"credentials": {"user": "[SECRET_4]", "tries": "[SECRET_5]", "on": True}},
        **{"secrets": ["[SECRET_6]", "[SECRET_6]", "[SECRET_7]"], "phone": "[PHONE_1]"},
        **{"max_tokens": 5, "eos_token": "</s>", "top": {"token": " the", "logprob": -0.1}, "secret": None},
        **{"password_hash": "[SECRET_8]", "mobile_number": "[PHONE_2]", "phone_model": "x1"},
    }


def test_names_of_secrets() -> None:
    for name in (
        "password",
        "dbPassword",
        "API_KEY",
        "x-api-key",
        "aws_secret_access_key",
        "refreshToken",
        "Set-Cookie",
    ):
        assert names_secret(name), name
    for name in ("max_tokens", "eos_token", "page_token", "author", "key", "keyboard", "tokenizer", "secretary", ""):
        assert not names_secret(name), name


def test_names_of_fields_and_whole_numbers_are_cleaned() -> None:
    cleaned = Deidentifier().clean({"bob@example.com": 1, "Bob@example.com": 2, "card": 4111111111111111, "n": 10**15})
    assert cleaned == {"[EMAIL_1]": 1, "[EMAIL_1]#": 2, "card": "[CARD_1]", "n": 10**15}


def test_one_thing_has_one_placeholder_in_all_of_a_dataset() -> None:
    deidentifier = Deidentifier()
    assert deidentifier.clean(["a@x.com", {"m": "b@x.com, a@x.com"}]) == ["[EMAIL_1]", {"m": "[EMAIL_2], [EMAIL_1]"}]
    assert deidentifier.text("b@x.com") == "[EMAIL_2]"
    assert deidentifier.counts == {"EMAIL": (4, 2)}


def test_placeholders_that_are_there_keep_their_numbers() -> None:
    deidentifier = Deidentifier()
    deidentifier.respect({"a": ["[EMAIL_7] wrote"], "[IP_2]": 1})
    assert deidentifier.text("[EMAIL_7] to a@x.com at 10.0.0.1") == "[EMAIL_7] to [EMAIL_8] at [IP_3]"


def test_nothing_that_was_found_is_kept() -> None:
    deidentifier = Deidentifier()
    deidentifier.text("bob@example.com")
    assert "bob" not in repr(vars(deidentifier))


PIECES = st.sampled_from(
    [
        *(text for text, _ in FOUND),
        *("[EMAIL_1]", "[SECRET_3]", "[KEY_", "_1]", "password", "token", "=", ": ", '"', "\\", "'", "@", "x.com", "."),
        *("10.0.0.1", "::", ":", "+", "4111", " ", "-", "1111 1111 1111", "/", "//", "bearer ", "(", ")", "[", "]"),
        *("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "phone ", "v", "\n", "1", "abc123", "é"),
    ]
)
TEXTS = st.lists(PIECES, max_size=8).map("".join) | st.text()
VALUES = st.recursive(
    TEXTS | st.integers() | st.none() | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["password", "token", "phone", "note", "logprob", "a@x.com"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(TEXTS)
def test_a_second_time_changes_nothing_in_a_text(text: str) -> None:
    deidentifier = Deidentifier()
    once = deidentifier.text(text)
    counts = deidentifier.counts
    assert deidentifier.text(once) == once and deidentifier.counts == counts
    assert Deidentifier().text(once) == once


@given(VALUES)
def test_a_second_time_changes_nothing_in_a_value(value: Any) -> None:
    once = Deidentifier().clean(value)
    again = Deidentifier()
    assert again.clean(once) == once and again.counts == {}
    json.dumps(once)


def trace(name: str, **more: Any) -> Trace:
    return Trace.model_validate({"id": name, "tool_name": "mail", "labels": {"task_outcome": "fail"}, **more})


def test_traces_are_cleaned_as_one_dataset() -> None:
    traces = [
        trace("1", tool_input={"to": "bob@example.com", "password": "x1y2"}, source="10.0.0.1", duration_ms=4.5),
        trace("bob@example.com", tool_output="sent to bob@example.com", metadata={"phone": "+49 30 1234567"}),
        trace("Bob@example.com", correlation_id="eve@example.com"),
    ]
    told: list[tuple[int, int]] = []
    cleaned, counts = clean_traces(traces, lambda *progress: told.append(progress))
    a, b, c = cleaned
    assert a.tool_input == {"to": "[EMAIL_1]", "password": "[SECRET_1]"} and a.source == "[IP_1]"
    assert (b.id, b.tool_output, b.metadata) == ("[EMAIL_1]", "sent to [EMAIL_1]", {"phone": "[PHONE_1]"})
    assert (c.id, c.correlation_id) == ("[EMAIL_1]#", "[EMAIL_2]")
    assert a.labels == traces[0].labels and a.duration_ms == 4.5
    assert counts == {"EMAIL": (5, 2), "SECRET": (1, 1), "IP": (1, 1), "PHONE": (1, 1)}
    assert told == [(3, 3)]
    assert clean_traces(cleaned) == (cleaned, {})
